package script

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	glua "github.com/yuin/gopher-lua"

	"github.com/moongate/moongate/policy"
)

// sharedFunctions declare, at the top of a file, what all connections share.
var sharedFunctions = []*function{
	{name: "ratelimit", top: true,
		params: []param{{"name", "string", "Its name; the same name is the same limit in every version of the policy."},
			{"rate", "string|string[]", `"60/1m" or {"100/h", "500/d"}: all of them at once.`},
			{"options", "{burst: integer?, count: string?}?", `burst: how many at once, by default the whole count. count = "recipients": from data on, take counts the recipients.`}},
		returns: []param{{"", "RateLimit", ""}},
		doc:     "A limit: \"60/1m\" lets 60 through at once, then one a second.",
		do:      (*state).ratelimit},
	{name: "list", top: true, params: []param{{"file", "string", "A file in the policy directory: one entry a line, # begins a comment."}},
		returns: []param{{"", "List", ""}},
		doc:     "A set of words: addresses, domains, anything; without regard to case. The file reloads by itself.",
		do:      func(x *state, L *glua.LState) int { return x.list(L, "list", wordSet) }},
	{name: "domains", top: true, params: []param{{"...", "string", "Domains, or one file of them in the policy directory."}},
		returns: []param{{"", "List", ""}},
		doc:     "A set of domains, subdomains included. has() takes a domain or an address.",
		do:      func(x *state, L *glua.LState) int { return x.list(L, "domains", domainSet) }},
	{name: "ipset", top: true, params: []param{{"...", "string", `Addresses and networks ("10.0.0.0/8"), or one file of them in the policy directory.`}},
		returns: []param{{"", "IpSet", ""}},
		doc:     "A set of addresses and networks.",
		do:      func(x *state, L *glua.LState) int { return x.list(L, "ipset", ipSet) }},
}

// limit is what ratelimit declares.
type limit struct {
	name       string
	rates      []policy.Rate
	recipients bool
}

type limitRef struct {
	x *state
	*limit
}

func (l *limitRef) in() *state { return l.x.alive() }

func (x *state) ratelimit(L *glua.LState) int {
	l := &limit{name: checkName(L, 1, "ratelimit")}
	switch v := L.Get(2).(type) {
	case glua.LString:
		l.rates = []policy.Rate{checkRate(L, string(v))}
	case *glua.LTable:
		for i := 1; i <= min(v.Len(), 8); i++ {
			l.rates = append(l.rates, checkRate(L, v.RawGetInt(i).String()))
		}
	}
	if len(l.rates) == 0 {
		L.RaiseError(`ratelimit: argument 2 is a rate, "60/1m", or a list of them`)
	}
	for i, r := range l.rates {
		for _, other := range l.rates[:i] {
			if other.Per == r.Per {
				L.RaiseError("ratelimit: two rates in %s", r.Per)
			}
		}
	}
	if o := optTable(L, 3, "ratelimit"); o != nil {
		checkOptions(L, "ratelimit", o, "burst", "count")
		if v := o.RawGetString("burst"); v != glua.LNil {
			n, ok := v.(glua.LNumber)
			if !ok || n < 1 || float64(n) != math.Trunc(float64(n)) || n > math.MaxInt32 {
				L.RaiseError("ratelimit: burst is a whole number above 0")
			}
			for i := range l.rates {
				l.rates[i].Burst = int64(n)
			}
		}
		switch v := o.RawGetString("count"); {
		case v == glua.LNil:
		case v.String() == "recipients":
			l.recipients = true
		default:
			L.RaiseError(`ratelimit: count is "recipients"`)
		}
	}
	d := x.declare(L, "ratelimit", l.name, fmt.Sprint(*l), func() (any, error) { return l, nil })
	L.Push(limitClass.userdata(&limitRef{x, d.(*limit)}))
	return 1
}

// checkName is the name of a declared object.
func checkName(L *glua.LState, n int, what string) string {
	name := checkString(L, n, what)
	if name == "" || len(name) > 64 || strings.ContainsFunc(name, func(c rune) bool { return c <= ' ' || c > '~' }) {
		L.RaiseError("%s: a name has 1 to 64 letters, digits and signs, no blanks", what)
	}
	return name
}

// checkOptions refuses options that are none.
func checkOptions(L *glua.LState, what string, o *glua.LTable, known ...string) {
	o.ForEach(func(k, _ glua.LValue) {
		for _, name := range known {
			if k == glua.LString(name) {
				return
			}
		}
		L.RaiseError("%s has no option '%s'%s", what, k.String(), didYouMean(k.String(), known))
	})
}

// checkRate reads "60/1m", "100/h".
func checkRate(L *glua.LState, s string) policy.Rate {
	count, per, ok := strings.Cut(s, "/")
	n, err := strconv.ParseInt(strings.TrimSpace(count), 10, 32)
	d, err2 := parseDuration(strings.TrimSpace(per))
	if !ok || err != nil || err2 != nil || n < 1 || d > 366*24*time.Hour {
		L.RaiseError(`%q is no rate: write "60/1m", "100/h" or "500/d"`, s)
	}
	return policy.Rate{Count: n, Per: d}
}

// parseDuration reads "90s", "5m", "1h30m", "36d", "2w" and "h".
func parseDuration(s string) (time.Duration, error) {
	units := map[byte]time.Duration{'s': time.Second, 'm': time.Minute, 'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour}
	bad := fmt.Errorf(`%q is no time: write "90s", "5m", "1h", "36d"`, s)
	var total time.Duration
	for rest := s; ; {
		i := 0
		for i < len(rest) && rest[i] >= '0' && rest[i] <= '9' {
			i++
		}
		n := int64(1)
		if i > 0 {
			var err error
			if n, err = strconv.ParseInt(rest[:i], 10, 32); err != nil {
				return 0, bad
			}
		} else if rest != s {
			return 0, bad
		}
		if i == len(rest) || units[rest[i]] == 0 {
			return 0, bad
		}
		if total += time.Duration(n) * units[rest[i]]; total <= 0 || total > 10*366*24*time.Hour {
			return 0, bad
		}
		if rest = rest[i+1:]; rest == "" {
			return total, nil
		}
	}
}

// store is where limits, counters and caches live.
func (x *state) store(L *glua.LState) policy.Store {
	if x.s.World != nil {
		if st := x.s.World.Limits(); st != nil {
			return st
		}
	}
	L.RaiseError("there is no store for limits here")
	return nil
}

// checkKey is the key of a limit, counter or cache.
func checkKey(L *glua.LState, n int, what string) string {
	return foldKey(checkString(L, n, what))
}

func (l *limitRef) key(L *glua.LState, what string) string {
	key := checkKey(L, 2, what)
	if key == "" {
		L.RaiseError(`%s(""): the null sender is everyone's; use msg.sender_key`, what)
	}
	return key
}

var limitClass = (&class{name: "ratelimit", typ: "RateLimit", doc: "A limit, by ratelimit().",
	members: []*member{
		{name: "take", params: []param{{"key", "string", "Whose: an address, a login, a network; without regard to case."}, {"n", "integer?", "How many, by default 1."}},
			returns: []param{{"ok", "boolean", ""}, {"wait", "integer?", "Whole seconds until there would be enough."}},
			doc:     "Takes n, all rates or none. At rcpt it belongs to the recipient, from mail to message to the message: refused later, it is given back.",
			do: func(x *state, L *glua.LState, self any) int {
				l := self.(*limitRef)
				key := l.key(L, "take")
				def := int64(1)
				if l.recipients && x.msg != nil && x.hook >= policy.Data && x.hook <= policy.Message {
					def = max(1, int64(len(x.msg.tx.Recipients())))
				}
				n := optCount(L, 3, "take", def)
				x.Meter.Charge(50)
				hold, wait, err := x.store(L).Take(x.Meter.Context(), x.s.World.Now(), l.name, key, n, l.rates)
				if err != nil {
					L.RaiseError("take: %s", err.Error())
				}
				if hold == nil {
					L.Push(glua.LFalse)
					L.Push(glua.LNumber((wait + time.Second - 1) / time.Second))
					return 2
				}
				x.ev.Hold(hold)
				L.Push(glua.LTrue)
				return 1
			}},
		{name: "peek", params: []param{{"key", "string", ""}}, returns: []param{{"left", "integer", ""}},
			doc: "How many could be taken now.",
			do: func(x *state, L *glua.LState, self any) int {
				l := self.(*limitRef)
				x.Meter.Charge(50)
				n, err := x.store(L).Peek(x.Meter.Context(), x.s.World.Now(), l.name, l.key(L, "peek"), l.rates)
				if err != nil {
					L.RaiseError("peek: %s", err.Error())
				}
				L.Push(glua.LNumber(n))
				return 1
			}},
		{name: "reset", params: []param{{"key", "string", ""}}, doc: "Forgets what was taken.",
			do: func(x *state, L *glua.LState, self any) int {
				l := self.(*limitRef)
				x.Meter.Charge(50)
				key := l.key(L, "reset")
				if x.rule.desc.Shadow { // changes nothing
					return 0
				}
				if err := x.store(L).Reset(x.Meter.Context(), l.name, key); err != nil {
					L.RaiseError("reset: %s", err.Error())
				}
				return 0
			}},
	}}).ready()

// listRef is a list in a state.
type listRef struct {
	x *state
	*list
}

func (l *listRef) in() *state { return l.x.alive() }

var listClass = (&class{name: "list", typ: "List", doc: "A set of words or domains.",
	members: []*member{
		{name: "has", params: []param{{"word", "string?", "nil is in no list."}}, returns: []param{{"found", "boolean", ""}},
			doc: "Whether it is in the list, without regard to case.",
			do: func(x *state, L *glua.LState, self any) int {
				if L.Get(2) == glua.LNil {
					L.Push(glua.LFalse)
					return 1
				}
				word := checkString(L, 2, "has")
				x.Meter.Charge(int64(len(word)>>4) + 10)
				L.Push(glua.LBool(self.(*listRef).has(word)))
				return 1
			}},
	}}).ready()

// list declares a list of a kind: a file in the policy directory, or its
// entries where the kind takes them.
func (x *state) list(L *glua.LState, what string, kind listKind) int {
	var words []string
	for i := 1; i <= L.GetTop(); i++ {
		words = append(words, checkString(L, i, what))
	}
	if len(words) == 0 {
		L.RaiseError("%s of nothing", what)
	}
	isFile := kind == wordSet || len(words) == 1 && x.p.shared.lists.isFile(words[0])
	if kind == wordSet && len(words) > 1 {
		L.RaiseError(`list: one file; for a few words write a table: local bad = { ["a@example.com"] = true }`)
	}
	d := x.declare(L, what, strings.Join(words, "\n"), "", func() (any, error) {
		if isFile {
			return x.p.shared.lists.open(words[0], kind)
		}
		return fixedList(kind, words)
	})
	c := listClass
	if kind == ipSet {
		c = ipsetClass
	}
	L.Push(c.userdata(&listRef{x, d.(*list)}))
	return 1
}
