package script

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	glua "github.com/yuin/gopher-lua"

	"github.com/moongate/moongate/policy"
)

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
		if v.Len() > 8 {
			L.RaiseError("ratelimit: at most 8 rates, and here are %d", v.Len())
		}
		for i := 1; i <= v.Len(); i++ {
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
			shortest := slices.MinFunc(l.rates, func(a, b policy.Rate) int { return cmp.Compare(a.Per, b.Per) })
			for i := range l.rates { // with a burst of 5, 500 a day would be one in three minutes
				if l.rates[i] == shortest {
					l.rates[i].Burst = int64(n)
				}
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

// checkRate reads "60/1m", "100/h".
func checkRate(L *glua.LState, s string) policy.Rate {
	count, per, ok := strings.Cut(s, "/")
	n, err := strconv.ParseInt(strings.TrimSpace(count), 10, 32)
	d, err2 := parseDuration(strings.TrimSpace(per))
	if !ok || err != nil || err2 != nil || n < 1 || d > 366*24*time.Hour {
		L.RaiseError(`ratelimit: %q is no rate: write "60/1m", "100/h" or "500/d"`, s)
	}
	return policy.Rate{Count: n, Per: d}
}

func (l *limitRef) key(L *glua.LState, what string) string {
	key := checkKey(L, 2, what)
	if key == "" {
		L.RaiseError(`%s(""): the null sender is everyone's; use msg.sender_key`, what)
	}
	return key
}

// most is what the limit lets through at once.
func (l *limit) most() int64 {
	least := int64(math.MaxInt64)
	for _, r := range l.rates {
		least = min(least, cmp.Or(r.Burst, r.Count))
	}
	return least
}

// lasts is in how many seconds the limit lets n through one by one.
func (l *limit) lasts(n int64) float64 {
	longest := 0.0
	for _, r := range l.rates {
		longest = max(longest, math.Ceil(float64(n)*r.Per.Seconds()/float64(r.Count)))
	}
	return longest
}

var limitClass = (&class{name: "ratelimit", typ: "RateLimit", doc: "A limit, by ratelimit().",
	members: []*member{
		{name: "take", params: []param{{"key", "string", "Whose: an address, a login, a network; without regard to case."}, {"n", "integer?", "How many, by default 1."}},
			returns: []param{{"ok", "boolean", ""}, {"wait", "integer?", "Whole seconds until there would be enough."},
				{"never", "boolean?", "true where n is more than the limit lets through at once: there will never be enough, and wait says how long so many take one by one."}},
			doc: "Takes n, all rates or none. A refusal that says 4xx has the client come again, for days if it is never; 5xx tells the sender. At rcpt it belongs to the recipient, from mail to message to the message: refused later, it is given back.",
			do: func(x *state, L *glua.LState, self any) int {
				l := self.(*limitRef)
				key := l.key(L, "take")
				def := int64(1)
				if l.recipients && x.msg != nil && x.hook >= policy.Data && x.hook <= policy.Message {
					def = max(1, int64(len(x.msg.tx.Recipients())))
				}
				n := optCount(L, 3, "take", def)
				x.Meter.Charge(50)
				if n > l.most() { // an error would have the client come again for days, and the author could not tell it from others
					L.Push(glua.LFalse)
					L.Push(glua.LNumber(l.lasts(n))) // no nil: policies join it with their text
					L.Push(glua.LTrue)
					return 3
				}
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
