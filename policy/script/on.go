package script

import (
	"fmt"
	"time"

	glua "github.com/yuin/gopher-lua"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/lua"
)

// on is on.<stage>(function), on.<stage>("name", function) and
// on.<stage>({options}, function). What is wrong with it is noted, and loading
// goes on to find more.
func (x *state) on(L *glua.LState, h policy.Hook) int {
	what := "on." + stageName(h)
	if x.loading == nil {
		L.RaiseError("%s belongs at the top of the file, not in a hook", what)
	}
	file, line := at(L)
	n, name := 1, ""
	var options *glua.LTable
	switch v := L.Get(1).(type) {
	case glua.LString:
		n, name = 2, string(v)
	case *glua.LTable:
		if _, isOn := v.RawGetString("rcpt").(*glua.LFunction); isOn {
			L.RaiseError("%s: write %s(...), with a dot", what, what)
		}
		n, options = 2, v
	}
	fn, ok := L.Get(n).(*glua.LFunction)
	if !ok || fn.IsG {
		L.RaiseError(`%s wants a function: %s(function(%s) ... end), with a name or options before it`, what, what, handlerArgs(h))
	}
	if L.GetTop() > n {
		L.RaiseError("%s: a name or options come before the function, and nothing behind it", what)
	}
	index := len(x.hooks)
	x.hooks = append(x.hooks, fn)
	if !x.loading.first {
		return 0
	}
	r := &policy.Rule{Name: name, File: file, Line: line, Hook: h, At: h, OnError: policy.Tempfail}
	if x.p.opts.DelayReject && (h == policy.Connect || h == policy.Helo) {
		r.At = policy.Rcpt
	}
	r.Evaluator = &rule{p: x.p, index: index, desc: r}
	if options != nil {
		x.options(r, what, options)
	}
	if len(r.Name) > 100 {
		x.loading.note(r, "a rule's name has at most 100 characters")
	}
	if r.Name == "" {
		r.Name = r.Place()
	}
	x.p.rules = append(x.p.rules, r)
	return 0
}

func handlerArgs(h policy.Hook) string {
	switch h {
	case policy.Connect, policy.Helo:
		return "conn"
	case policy.Auth:
		return "conn, attempt"
	case policy.Unknown, policy.Vrfy:
		return "conn, line"
	case policy.Rcpt:
		return "msg, rcpt"
	case policy.Done:
		return "about, outcome"
	}
	return "msg"
}

// note adds a problem at a rule.
func (ld *loading) note(r *policy.Rule, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if c := ld.find(r.File); c != nil {
		ld.problems = append(ld.problems, c.At(r.Line, "", 0, "%s", text))
		return
	}
	ld.problems = append(ld.problems, lua.Problem{File: r.File, Line: r.Line, Text: text})
}

// warn is note for what does not refuse a policy.
func (ld *loading) warn(r *policy.Rule, format string, args ...any) {
	ld.note(r, format, args...)
	ld.problems[len(ld.problems)-1].Warning = true
}

var ruleOptions = []string{"name", "on_error", "timeout", "mode", "at"}

// options reads { name=, on_error=, timeout=, mode=, at= }.
func (x *state) options(r *policy.Rule, what string, o *glua.LTable) {
	ld := x.loading
	o.ForEach(func(k, v glua.LValue) {
		key := k.String()
		text, isText := v.(glua.LString)
		switch key {
		case "name":
			if !isText || text == "" {
				ld.note(r, "%s: name is text", what)
			}
			r.Name = string(text)
		case "on_error":
			switch text {
			case "tempfail":
				r.OnError = policy.Tempfail
			case "accept":
				r.OnError = policy.Accept
			case "reject":
				r.OnError = policy.Reject
			default:
				ld.note(r, `%s: on_error is "tempfail", "accept" or "reject", not %s`, what, quoteValue(v))
			}
		case "timeout":
			d, err := optionDuration(v)
			if err != nil || d < 10*time.Millisecond || d > maxTimeout(r.Hook) {
				ld.note(r, `%s: timeout is a time such as "500ms" or "2s", at most %s here, not %s`, what, maxTimeout(r.Hook), quoteValue(v))
			}
			r.Timeout = d
		case "mode":
			switch text {
			case "shadow":
				r.Shadow = true
			case "enforce":
			default:
				ld.note(r, `%s: mode is "shadow" or "enforce", not %s`, what, quoteValue(v))
			}
		case "at":
			switch {
			case text == "rcpt" && (r.Hook == policy.Connect || r.Hook == policy.Helo || r.Hook == policy.Mail || r.Hook == policy.Rcpt):
				r.At = policy.Rcpt
			case string(text) == stageName(r.Hook):
				r.At = r.Hook
			default:
				want := fmt.Sprintf(`"%s", or "rcpt" for connect, helo and mail rules`, stageName(r.Hook))
				switch r.Hook {
				case policy.Connect, policy.Helo, policy.Mail:
					want = fmt.Sprintf(`"%s" or "rcpt"`, stageName(r.Hook))
				case policy.Rcpt:
					want = `"rcpt"`
				}
				ld.note(r, `%s: at is %s, not %s`, what, want, quoteValue(v))
			}
		default:
			ld.note(r, "%s has no option '%s'%s", what, clip(key, 60), didYouMean(key, ruleOptions))
		}
	})
}

// optionDuration is "500ms", "2s" or a number of seconds.
func optionDuration(v glua.LValue) (time.Duration, error) {
	switch v := v.(type) {
	case glua.LNumber:
		return time.Duration(float64(v) * float64(time.Second)), nil
	case glua.LString:
		return time.ParseDuration(string(v))
	}
	return 0, fmt.Errorf("no time")
}

func maxTimeout(h policy.Hook) time.Duration {
	if h == policy.Message {
		return 110 * time.Second
	}
	return 18 * time.Second
}

func quoteValue(v glua.LValue) string {
	switch v := v.(type) {
	case glua.LString:
		return fmt.Sprintf("%q", clip(string(v), 60))
	case glua.LNumber, glua.LBool:
		return v.String()
	}
	return typeName(v)
}

// faces finds rules that a face can never ask, or not for as long as they want.
func (p *Policy) faces() (problems []lua.Problem) {
	ld := &loading{p: p}
	for _, r := range p.rules {
		if why, ok := p.opts.NotAsked[r.Hook]; ok {
			ld.warn(r, "on.%s is never asked here: %s", stageName(r.Hook), why)
		}
		if r.Hook == policy.Done {
			continue
		}
		if most := p.opts.Longest[r.Hook]; most.Time > 0 && r.Timeout > most.Time {
			ld.warn(r, "on.%s: timeout %s: a rule has at most %s here, %s", stageName(r.Hook), r.Timeout, most.Time, most.Why)
		}
	}
	for _, f := range p.opts.Faces {
		for _, r := range p.rules {
			if r.Hook != policy.Done && !f.Asks(r.Hook) {
				ld.note(r, "on.%s is never asked by %s", r.Hook, faceName(f))
			} else if r.Hook == policy.Auth {
				ld.warn(r, "on.auth is not asked yet: AUTH is not supported yet")
			}
		}
	}
	return ld.problems
}

func faceName(f *policy.Face) string {
	if f == policy.Milter {
		return "a milter"
	}
	return "the " + f.Name + " door"
}
