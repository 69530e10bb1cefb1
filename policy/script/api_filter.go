package script

import (
	glua "github.com/yuin/gopher-lua"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/lua"
)

// filterResult is what a filter said of this message.
type filterResult struct {
	x *state
	*policy.FilterResult
}

func (f *filterResult) in() *state { return f.x.alive() }

func filterField(get func(*policy.FilterResult) glua.LValue) func(*state, any) glua.LValue {
	return func(_ *state, self any) glua.LValue { return get(self.(*filterResult).FilterResult) }
}

var filterClass = (&class{name: "filter", typ: "Filter", doc: "What a filter said of the message, from msg.filters.",
	members: []*member{
		{name: "name", typ: "string", doc: "The filter's name.",
			get: filterField(func(f *policy.FilterResult) glua.LValue { return glua.LString(f.Name) })},
		{name: "verdict", typ: "string", doc: `"continue" or "accept", which both let it pass (accept: the filter wants to hear no more of it, or of the client), "reject", "tempfail", "discard" or "quarantine". That of a filter with mode = "shadow" is always "continue": see would.`,
			get: filterField(func(f *policy.FilterResult) glua.LValue { return glua.LString(f.Verdict.Action.String()) })},
		{name: "would", typ: "string?", doc: `Of a filter with mode = "shadow", the verdict that it would have had, at whatever command, and if it failed that of its on_error. A refusal of single recipients is not in it, nor the changes it wanted. nil of a filter that is obeyed.`,
			get: filterField(func(f *policy.FilterResult) glua.LValue {
				if !f.Verdict.Shadow {
					return glua.LNil
				}
				return glua.LString(f.Verdict.Watched.String())
			})},
		{name: "code", typ: "integer?", doc: "Code of the reply it wants; nil if it wants none.",
			get: filterField(func(f *policy.FilterResult) glua.LValue {
				if f.Verdict.Reply.Code == 0 {
					return glua.LNil
				}
				return glua.LNumber(f.Verdict.Reply.Code)
			})},
		{name: "reply", typ: "string?", doc: "The whole reply.",
			get: filterField(func(f *policy.FilterResult) glua.LValue { return textOrNil(f.Verdict.Reply.String()) })},
		{name: "error", typ: "string?", doc: "Why it could not be asked; its verdict is then what its on_error makes of that, \"continue\" where it lets the message pass.",
			get: filterField(func(f *policy.FilterResult) glua.LValue {
				if f.Err == nil {
					return glua.LNil
				}
				return glua.LString(f.Err.Error())
			})},
	}}).ready()

// filterTable is msg.filters.
func filterTable(x *state, m *msgVars) glua.LValue {
	t := lua.NewRecord(x.L, len(m.tx.Filters))
	for i := range m.tx.Filters {
		f := &m.tx.Filters[i]
		x.Meter.Alloc(x.L, 100)
		t.RawSetString(f.Name, filterClass.userdata(&filterResult{x, f}))
	}
	return t
}
