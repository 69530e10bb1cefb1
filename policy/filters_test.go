package policy_test

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/moongate/moongate/policy"
	pt "github.com/moongate/moongate/policy/policytest"
)

// A filter is one whose conversations are functions; nil ones do nothing.
type filter struct {
	name  string
	signs bool
	eval  pt.Func
	tell  func(ev *policy.Event)
}

func (f *filter) Name() string { return f.name }
func (f *filter) Signs() bool  { return f.signs }
func (f *filter) Open(context.Context, *policy.Session) (policy.Conversation, error) {
	return f, nil
}

func (f *filter) Eval(_ context.Context, s *policy.Session, ev *policy.Event) (policy.Verdict, error) {
	if f.eval == nil {
		return policy.Verdict{}, nil
	}
	return f.eval(s, ev)
}

func (f *filter) Tell(ev *policy.Event) {
	if f.tell != nil {
		f.tell(ev)
	}
}

func (f *filter) Close() error { return nil }

// A filter takes a refused MAIL for the end of its message. One that stood
// within a transaction ended nothing, so filters do not hear of it: else a
// client could say MAIL twice and have the message unasked.
func TestFiltersHearNoNestedMail(t *testing.T) {
	var heard []string
	env, _ := pt.Env(policy.SMTP)
	env.Filters = []policy.Filter{&filter{name: "f", tell: func(ev *policy.Event) {
		heard = append(heard, strings.TrimSpace(ev.Hook.String()+" "+ev.Verb+" "+strconv.Itoa(ev.Reply.Code)))
	}}}
	s := pt.Session(t, env)
	s.Ask(&policy.Event{Hook: policy.Connect})
	nested := policy.Say(503, policy.Status{5, 5, 1}, "Nested MAIL")
	answer := func(verb string, r policy.Reply) {
		s.Tell(&policy.Event{Hook: policy.Answered, Verb: verb, Reply: r})
	}
	begin(t, s, "a@b.example")
	answer("MAIL", policy.Say(250, policy.Status{2, 0, 0}, "ok"))
	answer("MAIL", nested)
	answer("RSET", policy.Say(250, policy.Status{2, 0, 0}, "ok"))
	s.Tell(&policy.Event{Hook: policy.Reset})
	begin(t, s, "a@b.example")
	answer("MAIL", nested) // of one that is not open it is the end
	want := []string{"answered MAIL 250", "answered RSET 250", "reset  0", "answered MAIL 503"}
	if !slices.Equal(heard, want) {
		t.Errorf("heard %q, want %q", heard, want)
	}
}
