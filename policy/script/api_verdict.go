package script

import (
	"strings"
	"time"

	glua "github.com/yuin/gopher-lua"

	"github.com/moongate/moongate/policy"
)

// verdict is what reject(...) and its kin return.
type verdict struct {
	ud   glua.LUserData
	x    *state
	v    policy.Verdict
	name string
	file string // where it was made
	line int
	used bool
}

func (v *verdict) in() *state { return v.x }

var verdictClass = (&class{name: "verdict", typ: "Verdict", doc: "What a rule returns. It comes from reject, tempfail, accept and their kin."}).ready()

var (
	replyParams = []param{
		{"code", "integer?", "The reply code; by default what the stage wants."},
		{"status", "string?", `The enhanced status code, "5.7.1".`},
		{"text", "string|string[]", "What the client reads; a list is a reply of several lines, at most 50."},
	}
	reasonParam  = []param{{"reason", "string?", "For the log; the client never sees it."}}
	verdictValue = []param{{"", "Verdict", ""}}
)

var verdictFunctions = []*function{
	{name: "reject", must: true, params: replyParams, returns: verdictValue,
		doc: "Refuses for good. The code is 5xx, by default 550 (554 at connect, 535 at auth); the status 5.7.1.",
		do:  func(x *state, L *glua.LState) int { return x.refusal(L, "reject", policy.Reject) }},
	{name: "tempfail", must: true, params: replyParams, returns: verdictValue,
		doc: "Refuses for now: the client comes back. The code is 4xx, by default 451 (421 at connect, 454 at auth); the status 4.7.1.",
		do:  func(x *state, L *glua.LState) int { return x.refusal(L, "tempfail", policy.Tempfail) }},
	{name: "disconnect", must: true, params: replyParams, returns: verdictValue,
		doc: "Refuses and closes the connection. The code is 4xx or 5xx, by default 421.",
		do:  func(x *state, L *glua.LState) int { return x.refusal(L, "disconnect", policy.Continue) }},
	{name: "accept", must: true, returns: verdictValue,
		doc: "This stage's object is fine: the remaining rules of this stage are skipped (at rcpt: for this recipient).",
		do:  func(x *state, L *glua.LState) int { return x.plain(L, "accept", policy.Accept) }},
	{name: "bypass", must: true, returns: verdictValue,
		doc:    "No more policy: at connect and helo for the connection, later for this message.",
		stages: canDo(policy.Bypass),
		do:     func(x *state, L *glua.LState) int { return x.plain(L, "bypass", policy.Bypass) }},
	{name: "discard", must: true, params: reasonParam, returns: verdictValue,
		doc:    "The whole message: the client hears 250 and nothing goes upstream. The log says so.",
		stages: canDo(policy.Discard),
		do:     func(x *state, L *glua.LState) int { return x.plain(L, "discard", policy.Discard) }},
	{name: "drop", must: true, params: reasonParam, returns: verdictValue,
		doc:    "This recipient: the client hears 250 and the upstream is told nothing of it.",
		stages: canDo(policy.Drop),
		do:     func(x *state, L *glua.LState) int { return x.plain(L, "drop", policy.Drop) }},
	{name: "quarantine", must: true, params: reasonParam, returns: verdictValue,
		doc:    "Keeps a copy in the quarantine, then as discard; in a milter the MTA's hold.",
		stages: canDo(policy.Quarantine),
		do:     func(x *state, L *glua.LState) int { return x.plain(L, "quarantine", policy.Quarantine) }},
	{name: "delay", must: true, returns: verdictValue,
		params: []param{{"seconds", "number", "At most 30; in a milter 15."}, {"verdict", "Verdict?", "What to answer then; without it the next rule is asked."}},
		doc:    "Answers later.",
		do:     (*state).delay},
}

// canDo is the stages at which some face performs an action.
func canDo(a policy.Action) (hooks []policy.Hook) {
	for h := range policy.Hook(policy.NumAsked) {
		if policy.SMTP.Can(h, a) || policy.Milter.Can(h, a) {
			hooks = append(hooks, h)
		}
	}
	return hooks
}

// make makes the Lua value of a verdict.
func (x *state) make(L *glua.LState, name string, v policy.Verdict) int {
	if x.loading != nil {
		L.RaiseError("%s belongs into a hook", name)
	}
	if x.hook == policy.Done {
		L.RaiseError("%s: a log rule decides nothing", name)
	}
	m := &verdict{x: x, v: v, name: name}
	m.file, m.line = at(L)
	m.ud.Value, m.ud.Metatable = m, verdictClass.meta
	x.made = append(x.made, m)
	L.Push(&m.ud)
	return 1
}

func (x *state) plain(L *glua.LState, name string, a policy.Action) int {
	return x.make(L, name, policy.Verdict{Action: a, Reason: clip(optString(L, 1, ""), maxReason)})
}

// maxReason bounds what a script writes into one field of the log.
const maxReason = 512

// refusal is reject, tempfail and disconnect (action Continue: the code says).
func (x *state) refusal(L *glua.LState, name string, a policy.Action) int {
	code, status, text := x.replyArgs(L, name)
	class := 0
	switch a {
	case policy.Reject:
		class = 5
	case policy.Tempfail:
		class = 4
	}
	if code == 0 {
		code = defaultCode(x.hook, class)
	}
	st := policy.Status{code / 100, 7, 1}
	if status != "" {
		var err error
		if st, err = policy.ParseStatus(status); err != nil {
			L.RaiseError("%s: %s", name, err.Error())
		}
	}
	r, err := policy.NewReply(class, code, st, text...)
	if err != nil {
		L.RaiseError("%s: %s", name, err.Error())
	}
	v := policy.Verdict{Action: a, Reply: r}
	if class == 0 {
		v.Close, v.Action = true, policy.Reject
		if code < 500 {
			v.Action = policy.Tempfail
		}
	}
	return x.make(L, name, v)
}

// defaultCode is the code of a refusal that names none.
func defaultCode(h policy.Hook, class int) int {
	switch {
	case class == 0:
		return 421
	case h == policy.Connect && class == 5:
		return 554
	case h == policy.Connect:
		return 421
	case h == policy.Auth && class == 5:
		return 535
	case h == policy.Auth:
		return 454
	case class == 5:
		return 550
	}
	return 451
}

// replyArgs reads ([code,] [status,] text).
func (x *state) replyArgs(L *glua.LState, name string) (code int, status string, text []string) {
	i := 1
	if n, ok := L.Get(i).(glua.LNumber); ok {
		if code = int(n); glua.LNumber(code) != n || code <= 0 {
			L.RaiseError("%s: reply code %v is no reply code", name, float64(n))
		}
		i++
	}
	if s, ok := L.Get(i).(glua.LString); ok && L.Get(i+1) != glua.LNil {
		status = string(s)
		i++
	}
	switch t := L.Get(i).(type) {
	case glua.LString:
		if status == "" && isStatus(string(t)) {
			L.RaiseError("%s: the text is missing behind the status %q", name, string(t))
		}
		text = []string{string(t)}
	case *glua.LTable:
		if n := t.Len(); n > 100 {
			L.RaiseError("%s: %d lines of text are too many", name, n)
		}
		for j := 1; j <= t.Len(); j++ {
			s, ok := t.RawGetInt(j).(glua.LString)
			if !ok {
				L.RaiseError("%s: line %d of the text is a %s", name, j, t.RawGetInt(j).Type())
			}
			text = append(text, string(s))
		}
	default:
		L.RaiseError("%s: the text is missing: %s([code,] [status,] text)", name, name)
	}
	if len(text) == 0 {
		L.RaiseError("%s: the text is empty", name)
	}
	if L.GetTop() > i {
		L.RaiseError("%s: too many arguments: %s([code,] [status,] text)", name, name)
	}
	return code, status, text
}

// isStatus reports whether a text is "5.7.1". Most are not, and are told from it
// without the error that ParseStatus makes: that takes a stack twice as large.
func isStatus(s string) bool {
	if s == "" || s[0] < '2' || s[0] > '5' || len(s) > len("5.999.999") {
		return false
	}
	_, err := policy.ParseStatus(s)
	return err == nil
}

func (x *state) delay(L *glua.LState) int {
	n, ok := L.Get(1).(glua.LNumber)
	if !ok || !(n >= 0) {
		L.RaiseError("delay: the seconds are a number from 0 on")
	}
	d := policy.SMTP.MaxDelay
	if n < glua.LNumber(d/time.Second) {
		d = time.Duration(float64(n) * float64(time.Second))
	}
	if L.Get(2) == glua.LNil {
		return x.make(L, "delay", policy.Verdict{Delay: d})
	}
	ud, _ := L.Get(2).(*glua.LUserData)
	var inner *verdict
	if ud != nil {
		inner, _ = ud.Value.(*verdict)
	}
	if inner == nil || inner.x != x {
		L.RaiseError("delay: the second argument is a verdict: delay(5, reject(...))")
	}
	inner.used = true
	v := inner.v
	v.Delay = d
	return x.make(L, "delay", v)
}

// clip cuts a text for the log.
func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.ToValidUTF8(s[:n], "") + "..."
}
