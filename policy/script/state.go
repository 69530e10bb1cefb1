package script

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"time"

	glua "github.com/yuin/gopher-lua"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/lua"
)

// state is a Lua VM of one Policy with the API in it. It serves one call at a
// time.
type state struct {
	*lua.State
	p       *Policy
	loading *loading          // while the files' top levels run, else nil
	hooks   []*glua.LFunction // by rule
	born    time.Time
	uses    int

	// The call that runs now.
	s     *policy.Session // nil outside of a call
	ev    *policy.Event
	hook  policy.Hook
	rule  *rule
	conn  *connVars
	msg   *msgVars // nil without a transaction
	made  []*verdict
	notes int // log lines written by this call
}

// rule is the Evaluator of one on.<stage>.
type rule struct {
	p     *Policy
	index int // into state.hooks
	desc  *policy.Rule
}

// Eval asks the rule: it borrows a state, lends it the session's objects, calls
// the hook, and takes everything back.
func (r *rule) Eval(ctx context.Context, s *policy.Session, ev *policy.Event) (policy.Verdict, error) {
	x, err := r.p.pool.get(ctx, ev.Deadline)
	if err != nil {
		return policy.Verdict{}, err
	}
	defer r.p.pool.put(x)
	x.begin(s, ev, r)
	defer x.end()

	args := [2]glua.LValue{}
	n := x.arguments(&args)
	ret, err := x.Call(x.hooks[r.index], r.p.opts.Budget, r.end(ev), ctx, args[:n]...)
	// Whatever came of it: nothing but plain values outlives the call.
	if dataErr := x.checkData(); err == nil {
		err = dataErr
	}
	if err != nil {
		return policy.Verdict{}, err
	}
	return x.verdict(ret)
}

// patience is how much longer than its wall time a rule may compute, when the
// machine is too busy to let it: instructions bound its work, whatever waits
// ends by the event's deadline, and honest mail is not refused for the load of
// others. With the usual 2 s it makes the 20 s that a stage may take. A timeout
// that the author set is kept to.
const patience = 18 * time.Second

func (r *rule) end(ev *policy.Event) time.Time {
	if r.desc.Timeout > 0 || ev.Deadline.IsZero() {
		return ev.Deadline
	}
	return ev.Deadline.Add(patience)
}

// begin lends the session's objects to the state.
func (x *state) begin(s *policy.Session, ev *policy.Event, r *rule) {
	x.s, x.ev, x.hook, x.rule = s, ev, ev.Hook, r
	x.conn = connOf(s, r.desc.Shadow)
	x.conn.x = x
	x.msg = nil
	if s.Tx != nil {
		x.msg = msgOf(s, r.desc.Shadow)
		x.msg.x, x.msg.rcpt.x, x.msg.rcpt.r = x, x, ev.Rcpt
	}
}

// end takes them back: what a script kept of them is dead.
func (x *state) end() {
	x.conn.x = nil
	if x.msg != nil {
		x.msg.x, x.msg.rcpt.x, x.msg.rcpt.r = nil, nil, nil
	}
	for i := range x.made {
		x.made[i].x = nil
	}
	clear(x.made)
	x.made = x.made[:0]
	x.s, x.ev, x.rule, x.conn, x.msg, x.notes = nil, nil, nil, nil, nil, 0
	x.uses++
}

// arguments are what the stage's handler gets.
func (x *state) arguments(args *[2]glua.LValue) int {
	switch x.hook {
	case policy.Connect, policy.Helo:
		args[0] = &x.conn.ud
		return 1
	case policy.Auth:
		args[0], args[1] = &x.conn.ud, glua.LNil
		if x.ev.Attempt != nil {
			args[1] = attemptClass.userdata(&attempt{x, x.ev.Attempt})
		}
		return 2
	case policy.Unknown, policy.Vrfy:
		args[0], args[1] = &x.conn.ud, glua.LString(x.ev.Line)
		return 2
	case policy.Rcpt:
		args[0], args[1] = &x.msg.ud, &x.msg.rcpt.ud
		return 2
	case policy.Done:
		args[0], args[1] = &x.conn.ud, glua.LNil
		if x.msg != nil {
			args[0] = &x.msg.ud
		}
		if x.ev.Outcome != nil {
			args[1] = outcomeClass.userdata(&outcome{x, x.ev.Outcome})
		}
		return 2
	}
	args[0] = &x.msg.ud
	return 1
}

// verdict is what the hook returned, as policy's value.
func (x *state) verdict(ret glua.LValue) (policy.Verdict, error) {
	var v policy.Verdict
	switch ret := ret.(type) {
	case *glua.LNilType:
	case *glua.LUserData:
		made, ok := ret.Value.(*verdict)
		if !ok || made.x != x {
			return v, x.fail("a rule returns a verdict or nothing, and this one returned an object")
		}
		made.used = true
		v = made.v
	default:
		return v, x.fail("a rule returns a verdict or nothing, and this one returned a %s", ret.Type())
	}
	for _, m := range x.made {
		if !m.used {
			return policy.Verdict{}, &lua.Error{File: m.file, Line: m.line,
				Text: fmt.Sprintf("%s was made here and not returned: write 'return %s'", m.name, m.name)}
		}
	}
	return v, nil
}

// fail is an error of the rule as a whole.
func (x *state) fail(format string, args ...any) error {
	return &lua.Error{File: x.rule.desc.File, Line: x.rule.desc.Line, Text: fmt.Sprintf(format, args...)}
}

// at is the line of the script that calls us.
func at(L *glua.LState) (file string, line int) {
	d, ok := L.GetStack(1)
	if !ok {
		return "", 0
	}
	if _, err := L.GetInfo("Sl", d, glua.LNil); err != nil {
		return "", 0
	}
	return d.Source, d.CurrentLine
}

var errNoState = errors.New("no Lua state became free in time")

// warm is how many states a new version has before it serves.
func warm() int { return 2 * runtime.GOMAXPROCS(0) }
