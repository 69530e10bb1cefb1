package policy_test

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

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

// One judge that hangs leaves the others of its stage time to answer, whatever
// is made of its failure.
func TestFiltersShareTheStage(t *testing.T) {
	type given map[string]time.Duration
	for name, tc := range map[string]struct {
		hangs string
		rules bool
		hook  policy.Hook
		want  given
	}{
		"nobody":                {"", false, policy.Helo, given{"a": 12500 * time.Millisecond, "b": 12500 * time.Millisecond, "sign": 20 * time.Second}},
		"the first":             {"a", false, policy.Helo, given{"a": 12500 * time.Millisecond, "b": 7500 * time.Millisecond * 5 / 8, "sign": 7500 * time.Millisecond}},
		"the last":              {"sign", false, policy.Helo, given{"a": 12500 * time.Millisecond, "b": 12500 * time.Millisecond, "sign": 20 * time.Second}},
		"the rules":             {"rule", true, policy.Helo, given{"rule": 12500 * time.Millisecond, "a": 7500 * time.Millisecond * 5 / 8, "b": 7500 * time.Millisecond * 5 / 8, "sign": 7500 * time.Millisecond}},
		"nobody at message":     {"", true, policy.Message, given{"a": 75 * time.Second, "b": 75 * time.Second, "rule": 75 * time.Second, "sign": 120 * time.Second}},
		"the second at message": {"b", true, policy.Message, given{"a": 75 * time.Second, "b": 75 * time.Second, "rule": 45 * time.Second * 5 / 8, "sign": 45 * time.Second}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				got := given{}
				judge := func(who string) pt.Func {
					return func(_ *policy.Session, ev *policy.Event) (policy.Verdict, error) {
						if ev.Hook == tc.hook {
							got[who] = time.Until(ev.Deadline)
							if who == tc.hangs {
								time.Sleep(got[who])
							}
						}
						return policy.Verdict{}, nil
					}
				}
				var rules []*policy.Rule
				if tc.rules {
					r := pt.Rule(tc.hook, judge("rule"))
					r.Timeout = time.Hour
					rules = append(rules, r)
				}
				env, _ := pt.Env(policy.SMTP, rules...)
				env.Filters = []policy.Filter{
					&filter{name: "sign", signs: true, eval: judge("sign")},
					&filter{name: "a", eval: judge("a")},
					&filter{name: "b", eval: judge("b")},
				}
				s := pt.Session(t, env)
				s.Ask(&policy.Event{Hook: policy.Connect})
				if tc.hook == policy.Message {
					begin(t, s, "a@b.example")
				}
				s.Ask(&policy.Event{Hook: tc.hook})
				if !maps.Equal(got, tc.want) {
					t.Errorf("time given: %v, want %v", got, tc.want)
				}
			})
		})
	}
}

// A filter alone has the whole stage; one that is left out of the message takes
// nothing of it.
func TestFilterAloneHasTheStage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var left time.Duration
		env, _ := pt.Env(policy.SMTP)
		env.Filters = []policy.Filter{
			&filter{name: "f", eval: func(_ *policy.Session, ev *policy.Event) (policy.Verdict, error) {
				left = time.Until(ev.Deadline)
				return policy.Verdict{}, nil
			}},
			&filter{name: "out"},
		}
		s := pt.Session(t, env)
		s.Ask(&policy.Event{Hook: policy.Connect})
		begin(t, s, "a@b.example")
		s.Tx.Skip = []string{"out"}
		s.Ask(&policy.Event{Hook: policy.Message})
		if left != 120*time.Second {
			t.Errorf("it has %v", left)
		}
	})
}
