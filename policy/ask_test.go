package policy_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/moongate/moongate/policy"
	pt "github.com/moongate/moongate/policy/policytest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// begin opens a transaction as a front-end does.
func begin(t *testing.T, s *policy.Session, from string) policy.Verdict {
	t.Helper()
	s.Begin(pt.Path(t, from), nil)
	return s.Ask(&policy.Event{Hook: policy.Mail})
}

// rcpt asks for one recipient and tells what the client heard.
func rcpt(t *testing.T, s *policy.Session, to string, upstream int) (policy.Verdict, *policy.Recipient) {
	t.Helper()
	p := pt.Path(t, to)
	r := &policy.Recipient{In: p, Out: p}
	v := s.Ask(&policy.Event{Hook: policy.Rcpt, Rcpt: r})
	reply, by := v.Reply, policy.ByPolicy
	if !v.Refuses() {
		reply, by = policy.Reply{Code: upstream, Status: policy.NoStatus, Text: []string{"x"}}, policy.ByUpstream
	}
	s.Tell(&policy.Event{Hook: policy.Answered, Verb: "RCPT", Rcpt: r, Reply: reply, By: by})
	return v, r
}

func TestFirstVerdictEndsTheStage(t *testing.T) {
	var asked []string
	note := func(name string, v policy.Verdict) *policy.Rule {
		return pt.Rule(policy.Mail, func(*policy.Session, *policy.Event) (policy.Verdict, error) {
			asked = append(asked, name)
			return v, nil
		})
	}
	env, _ := pt.Env(policy.SMTP, note("silent", policy.Verdict{}), note("accepts", policy.Verdict{Action: policy.Accept}), note("never", pt.Reject("no")))
	s := pt.Session(t, env)
	if v := begin(t, s, "a@b.example"); v.Action != policy.Accept {
		t.Errorf("verdict %v, want accept", v.Action)
	}
	if want := []string{"silent", "accepts"}; !slices.Equal(asked, want) {
		t.Errorf("asked %v, want %v", asked, want)
	}
}

func TestFailingRuleIsItsOnError(t *testing.T) {
	boom := errors.New("test.lua:3: attempt to index nil")
	fail := func(on policy.Action, f pt.Func) *policy.Rule {
		r := pt.Rule(policy.Mail, f)
		r.OnError = on
		return r
	}
	raise := func(*policy.Session, *policy.Event) (policy.Verdict, error) { return policy.Verdict{}, boom }
	tests := []struct {
		name string
		rule *policy.Rule
		want policy.Action
		code int
	}{
		{"tempfail", fail(policy.Tempfail, raise), policy.Tempfail, 451},
		{"reject", fail(policy.Reject, raise), policy.Reject, 550},
		{"accept", fail(policy.Accept, raise), policy.Continue, 0},
		{"unset means tempfail", fail(policy.Continue, raise), policy.Tempfail, 451},
		{"panic", fail(policy.Tempfail, func(*policy.Session, *policy.Event) (policy.Verdict, error) { panic("boom") }), policy.Tempfail, 451},
		{"illegal here", fail(policy.Tempfail, func(*policy.Session, *policy.Event) (policy.Verdict, error) {
			return policy.Verdict{Action: policy.Drop}, nil
		}), policy.Tempfail, 451},
		{"refusal without a reply", fail(policy.Tempfail, func(*policy.Session, *policy.Event) (policy.Verdict, error) {
			return policy.Verdict{Action: policy.Reject}, nil
		}), policy.Tempfail, 451},
		{"reject with 4xx", fail(policy.Tempfail, func(*policy.Session, *policy.Event) (policy.Verdict, error) {
			return policy.Verdict{Action: policy.Reject, Reply: policy.Say(450, policy.NoStatus, "x")}, nil
		}), policy.Tempfail, 451},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			env, logs := pt.Env(policy.SMTP, tt.rule)
			s := pt.Session(t, env)
			v := begin(t, s, "a@b.example")
			if v.Action != tt.want || v.Reply.Code != tt.code {
				t.Errorf("verdict %v %d, want %v %d", v.Action, v.Reply.Code, tt.want, tt.code)
			}
			if strings.Contains(v.Reply.String(), "index nil") {
				t.Errorf("the peer hears the script: %s", v.Reply)
			}
			if logs.FilterMessage("rule failed").Len() != 1 {
				t.Errorf("no line says that the rule failed: %v", logs.All())
			}
			if tt.want == policy.Continue && len(s.Tx.Edits) != 1 {
				t.Errorf("the message does not say that it passed unchecked: %v", s.Tx.Edits)
			}
		})
	}
}

// A rule that was stopped because its client went away has not failed: no line,
// no count, whatever its on_error; the message goes nowhere.
func TestClientGone(t *testing.T) {
	for _, on := range []policy.Action{policy.Tempfail, policy.Accept} {
		ctx, cancel := context.WithCancel(t.Context())
		r := pt.Rule(policy.Mail, func(*policy.Session, *policy.Event) (policy.Verdict, error) {
			cancel()
			return policy.Verdict{}, errors.New("script was cancelled")
		})
		r.OnError = on
		env, logs := pt.Env(policy.SMTP, r)
		s := env.NewSession(ctx, policy.Facts{ID: "S"})
		if v := begin(t, s, "a@b.example"); v.Action != policy.Tempfail || !v.Failed {
			t.Errorf("on_error %v: %v", on, v)
		}
		if n := logs.FilterMessage("rule failed").Len(); n != 0 {
			t.Errorf("on_error %v: a line says that the rule failed", on)
		}
	}
}

func TestThirdPolicyErrorEndsTheSession(t *testing.T) {
	env, _ := pt.Env(policy.SMTP, pt.Rule(policy.Rcpt, func(*policy.Session, *policy.Event) (policy.Verdict, error) {
		return policy.Verdict{}, errors.New("broken")
	}))
	s := pt.Session(t, env)
	begin(t, s, "a@b.example")
	for i := 1; i <= 3; i++ {
		v, _ := rcpt(t, s, "u@x.example", 250)
		if want := i == 3; v.Close != want || (v.Reply.Code == 421) != want {
			t.Errorf("error %d: close=%v code=%d", i, v.Close, v.Reply.Code)
		}
	}
}

// A rule without a verdict may still want the client to wait.
func TestDelaysAddUp(t *testing.T) {
	wait := pt.Always(policy.Mail, policy.Verdict{Delay: time.Second})
	refuse := pt.Reject("no")
	refuse.Delay = 2 * time.Second
	env, _ := pt.Env(policy.SMTP, wait, wait, pt.Always(policy.Mail, refuse))
	if v := begin(t, pt.Session(t, env), "a@b.example"); v.Action != policy.Reject || v.Delay != 4*time.Second {
		t.Errorf("%v after %v", v.Action, v.Delay)
	}
	long := pt.Always(policy.Mail, policy.Verdict{Delay: 25 * time.Second})
	for _, last := range []*policy.Rule{long, pt.Always(policy.Mail, refuse)} {
		env, _ := pt.Env(policy.SMTP, long, long, last)
		if v := begin(t, pt.Session(t, env), "a@b.example"); v.Delay != policy.SMTP.MaxDelay {
			t.Errorf("%v after %v, want no more than the face grants", v.Action, v.Delay)
		}
	}
	env, _ = pt.Env(policy.SMTP, wait)
	if v := begin(t, pt.Session(t, env), "a@b.example"); v.Decided() || v.Delay != time.Second {
		t.Errorf("%v after %v", v.Action, v.Delay)
	}
}

func TestBypass(t *testing.T) {
	never := pt.Always(policy.Rcpt, pt.Reject("asked after bypass"))
	t.Run("at connect for the connection", func(t *testing.T) {
		env, _ := pt.Env(policy.SMTP, pt.Always(policy.Connect, policy.Verdict{Action: policy.Bypass}), never)
		s := pt.Session(t, env)
		s.Ask(&policy.Event{Hook: policy.Connect})
		begin(t, s, "a@b.example")
		if v, _ := rcpt(t, s, "u@x.example", 250); v.Decided() {
			t.Errorf("verdict %v after bypass", v)
		}
		if s.Wants(policy.Rcpt) {
			t.Error("a bypassed session still wants rcpt")
		}
	})
	t.Run("at mail for the message", func(t *testing.T) {
		env, _ := pt.Env(policy.SMTP, pt.Rule(policy.Mail, func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
			if s.Tx.In.From.Address == "free@b.example" {
				return policy.Verdict{Action: policy.Bypass}, nil
			}
			return policy.Verdict{}, nil
		}), never)
		s := pt.Session(t, env)
		begin(t, s, "free@b.example")
		if v, _ := rcpt(t, s, "u@x.example", 250); v.Decided() {
			t.Errorf("verdict %v after bypass", v)
		}
		s.Tell(&policy.Event{Hook: policy.Reset})
		begin(t, s, "a@b.example")
		if v, _ := rcpt(t, s, "u@x.example", 250); v.Action != policy.Reject {
			t.Errorf("bypass outlived its message: %v", v)
		}
	})
}

func TestDelayedRefusal(t *testing.T) {
	late := pt.Always(policy.Helo, pt.Reject("bad helo"))
	late.At = policy.Rcpt
	env, _ := pt.Env(policy.SMTP, late)
	s := pt.Session(t, env)
	if v := s.Ask(&policy.Event{Hook: policy.Helo}); v.Decided() {
		t.Fatalf("given at helo: %v", v)
	}
	begin(t, s, "a@b.example")
	if v, _ := rcpt(t, s, "u@x.example", 250); v.Action != policy.Reject {
		t.Errorf("not given at rcpt: %v", v)
	}
	if v, _ := rcpt(t, s, "PostMaster@x.example", 250); v.Decided() {
		t.Errorf("given to postmaster: %v", v)
	}
	s.User = "alice"
	if v, _ := rcpt(t, s, "u@x.example", 250); v.Decided() {
		t.Errorf("given to a client that logged in: %v", v)
	}
}

func TestShadowRuleChangesNothing(t *testing.T) {
	shadow := pt.Rule(policy.Rcpt, func(s *policy.Session, ev *policy.Event) (policy.Verdict, error) {
		if err := s.Tx.Do(policy.Edit{Kind: policy.ReplaceRcpt, Rcpt: ev.Rcpt, Path: pt.Path(t, "other@x.example")}); err != nil {
			return policy.Verdict{}, err
		}
		ev.Hold(&hold{})
		return pt.Reject("would be refused"), nil
	})
	shadow.Shadow = true
	env, logs := pt.Env(policy.SMTP, shadow)
	s := pt.Session(t, env)
	begin(t, s, "a@b.example")
	v, r := rcpt(t, s, "u@x.example", 250)
	if v.Decided() || len(s.Tx.Edits) != 0 || r.Out.Address != "u@x.example" {
		t.Errorf("a shadow rule was obeyed: %v %v %v", v, s.Tx.Edits, r.Out)
	}
	if logs.FilterMessage("shadow").Len() != 1 {
		t.Error("a shadow verdict is not in the log")
	}
}

type hold struct{ kept, released int }

func (h *hold) Keep()    { h.kept++ }
func (h *hold) Release() { h.released++ }

func TestHoldsFollowTheirOwner(t *testing.T) {
	tests := []struct {
		name    string
		hook    policy.Hook
		end     func(t *testing.T, s *policy.Session)
		kept    int
		release int
	}{
		{"kept when the upstream took the message", policy.Rcpt, func(t *testing.T, s *policy.Session) {
			rcpt(t, s, "u@x.example", 250)
			s.Tell(&policy.Event{Hook: policy.Done, Outcome: &policy.Outcome{Action: policy.Accept}})
		}, 1, 0},
		{"given back when MAIL is refused while the recipient is asked", policy.Rcpt, func(t *testing.T, s *policy.Session) {
			r := &policy.Recipient{In: pt.Path(t, "u@x.example"), Out: pt.Path(t, "u@x.example")}
			s.Ask(&policy.Event{Hook: policy.Rcpt, Rcpt: r})
			s.Tell(&policy.Event{Hook: policy.Answered, Verb: "MAIL", Reply: policy.Reply{Code: 550}, By: policy.ByUpstream})
			s.Tell(&policy.Event{Hook: policy.Answered, Verb: "RCPT", Reply: policy.Reply{Code: 503}, By: policy.ByMoongate, Rcpt: r})
		}, 0, 1},
		{"given back when the session ends before the recipient is answered", policy.Rcpt, func(t *testing.T, s *policy.Session) {
			s.Ask(&policy.Event{Hook: policy.Rcpt, Rcpt: &policy.Recipient{In: pt.Path(t, "u@x.example")}})
			s.Tell(&policy.Event{Hook: policy.Disconnect})
		}, 0, 1},
		{"given back at once when the upstream refused the recipient", policy.Rcpt, func(t *testing.T, s *policy.Session) {
			rcpt(t, s, "u@x.example", 550)
		}, 0, 1},
		{"given back on RSET", policy.Rcpt, func(t *testing.T, s *policy.Session) {
			rcpt(t, s, "u@x.example", 250)
			s.Tell(&policy.Event{Hook: policy.Reset})
		}, 0, 1},
		{"given back on disconnect", policy.Mail, func(t *testing.T, s *policy.Session) {
			s.Tell(&policy.Event{Hook: policy.Disconnect})
		}, 0, 1},
		{"given back when the message was refused", policy.Mail, func(t *testing.T, s *policy.Session) {
			s.Tell(&policy.Event{Hook: policy.Done, Outcome: &policy.Outcome{Action: policy.Reject}})
		}, 0, 1},
		{"kept when discarded", policy.Mail, func(t *testing.T, s *policy.Session) {
			s.Tell(&policy.Event{Hook: policy.Done, Outcome: &policy.Outcome{Action: policy.Discard}})
		}, 1, 0},
		{"kept at once at helo", policy.Helo, func(t *testing.T, s *policy.Session) {
			s.Ask(&policy.Event{Hook: policy.Helo})
		}, 1, 0},
		{"given back when MAIL was refused", policy.Mail, func(t *testing.T, s *policy.Session) {
			s.Tell(&policy.Event{Hook: policy.Answered, Verb: "MAIL", Reply: policy.Say(550, policy.NoStatus, "no"), By: policy.ByUpstream})
		}, 0, 1},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h := &hold{}
			env, _ := pt.Env(policy.SMTP, pt.Rule(tt.hook, func(_ *policy.Session, ev *policy.Event) (policy.Verdict, error) {
				ev.Hold(h)
				return policy.Verdict{}, nil
			}))
			s := pt.Session(t, env)
			begin(t, s, "a@b.example")
			tt.end(t, s)
			if h.kept != tt.kept || h.released != tt.release {
				t.Errorf("kept %d released %d, want %d and %d", h.kept, h.released, tt.kept, tt.release)
			}
		})
	}
}

func TestLines(t *testing.T) {
	env, logs := pt.Env(policy.SMTP,
		pt.Rule(policy.Rcpt, func(_ *policy.Session, ev *policy.Event) (policy.Verdict, error) {
			if ev.Rcpt.In.Local == "bad" {
				return pt.Reject("no bad ones"), nil
			}
			return policy.Verdict{}, nil
		}))
	s := pt.Session(t, env)
	begin(t, s, "a@b.example")
	s.Tell(&policy.Event{Hook: policy.Answered, Verb: "MAIL", Reply: policy.Say(250, policy.NoStatus, "ok"), By: policy.ByUpstream})
	rcpt(t, s, "good@x.example", 250)
	rcpt(t, s, "bad@x.example", 250)
	s.Tell(&policy.Event{Hook: policy.Done, Outcome: &policy.Outcome{
		Action: policy.Accept, By: policy.ByUpstream, QueuedAs: "4XYZ", Size: 123,
		Reply: policy.Reply{Code: 250, Raw: []byte("250 2.0.0 Ok: queued as 4XYZ\r\n")},
	}})
	s.Tell(&policy.Event{Hook: policy.Disconnect})

	want := []string{"connect", "refuse", "message", "disconnect"}
	var got []string
	for _, e := range logs.All() {
		got = append(got, e.Message)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("lines %v, want %v", got, want)
	}
	refuse := logs.FilterMessage("refuse").All()[0].ContextMap()
	for key, want := range map[string]any{
		policy.KeyStage: "rcpt", policy.KeyCode: int64(550), policy.KeyTo: "bad@x.example", policy.KeyFrom: "a@b.example",
		policy.KeyHelo: "client.example", policy.KeyRule: "test.lua:5", policy.KeyBy: "policy", policy.KeyClient: "unknown[192.0.2.1]",
	} {
		if refuse[key] != want {
			if n, ok := refuse[key].(int); ok && int64(n) == want {
				continue
			}
			t.Errorf("refuse line: %s=%v, want %v", key, refuse[key], want)
		}
	}
	msg := logs.FilterMessage("message").All()[0].ContextMap()
	for key, want := range map[string]any{
		policy.KeyID: "S.1", policy.KeySession: "S", policy.KeyVerdict: "accepted", policy.KeyQueuedAs: "4XYZ",
		policy.KeySize: int64(123), policy.KeyPolicy: "test", policy.KeyReply: "250 2.0.0 Ok: queued as 4XYZ",
	} {
		if msg[key] != want {
			t.Errorf("message line: %s=%v, want %v", key, msg[key], want)
		}
	}
	if n := len(msg[policy.KeyRcpts].([]any)); n != 2 {
		t.Errorf("message line lists %d recipients, want both", n)
	}
	end := logs.FilterMessage("disconnect").All()[0].ContextMap()
	if c := end[policy.KeyCounts]; c != "mail=1 rcpt=1/2 commands=2/3" {
		t.Errorf("disconnect line counts %q", c)
	}
}

// Who ended the session ended the transaction, too.
func TestWhoEndsTheTransaction(t *testing.T) {
	bye := policy.Verdict{Action: policy.Tempfail, Reply: policy.Say(421, policy.Status{4, 7, 0}, "bye"), Close: true, Reason: "seen enough"}
	hangup := pt.Reject("go")
	hangup.Close = true
	for _, tt := range []struct {
		name     string
		verdict  policy.Verdict
		upstream int
		by, rule string
		reason   any
	}{
		{"the client", policy.Verdict{}, 250, "client", "", nil},
		{"the client, after a refusal", pt.Reject("no"), 250, "client", "", nil},
		{"a rule", bye, 0, "policy", "test.lua:5", "seen enough"},
		{"a rule, by another code", hangup, 0, "policy", "test.lua:5", nil},
		{"the upstream", policy.Verdict{}, 421, "upstream", "", nil},
	} {
		for _, hook := range []policy.Hook{policy.Disconnect, policy.Reset} {
			t.Run(tt.name+" "+hook.String(), func(t *testing.T) {
				env, logs := pt.Env(policy.SMTP, pt.Rule(policy.Rcpt, func(*policy.Session, *policy.Event) (policy.Verdict, error) { return tt.verdict, nil }))
				s := pt.Session(t, env)
				begin(t, s, "a@b.example")
				rcpt(t, s, "u@x.example", tt.upstream)
				s.Tell(&policy.Event{Hook: hook, Cause: "why"})
				m := logs.FilterMessage("message").All()[0].ContextMap()
				rule, _ := m[policy.KeyRule].(string)
				if m[policy.KeyVerdict] != "aborted" || m[policy.KeyBy] != tt.by || rule != tt.rule || m[policy.KeyReason] != tt.reason || m[policy.KeyCause] != "why" {
					t.Errorf("message line %v", m)
				}
			})
		}
	}
}

// A log rule that fails is told by the name its author knows.
func TestLogRuleFails(t *testing.T) {
	env, logs := pt.Env(policy.SMTP, pt.Rule(policy.Done, func(*policy.Session, *policy.Event) (policy.Verdict, error) {
		return policy.Verdict{}, errors.New("no")
	}))
	s := pt.Session(t, env)
	begin(t, s, "a@b.example")
	s.Tell(&policy.Event{Hook: policy.Reset})
	if m := logs.FilterMessage("rule failed").All()[0].ContextMap(); m[policy.KeyStage] != "log" {
		t.Errorf("told %v", m)
	}
}

// RFC 5321 4.1.4: a nested MAIL is refused, and the open transaction stays.
func TestNestedMail(t *testing.T) {
	env, logs := pt.Env(policy.SMTP)
	s := pt.Session(t, env)
	begin(t, s, "a@b.example")
	tell := func(r policy.Reply) {
		s.Tell(&policy.Event{Hook: policy.Answered, Verb: "MAIL", Reply: r, By: policy.ByMoongate})
	}
	tell(policy.Say(250, policy.NoStatus, "ok"))
	tell(policy.Say(503, policy.Status{5, 5, 1}, "nested"))
	if s.Tx == nil {
		t.Fatal("the transaction is gone")
	}
	if got := logs.FilterMessage("refuse").All(); len(got) != 1 || got[0].ContextMap()[policy.KeyStage] != "mail" {
		t.Errorf("refuse lines %v", got)
	}
}

func TestQuietClients(t *testing.T) {
	for _, command := range []bool{false, true} {
		env, logs := pt.Env(policy.SMTP)
		env.Quiet = func(a netip.Addr) bool { return a == netip.MustParseAddr("192.0.2.1") }
		s := pt.Session(t, env)
		if command {
			s.Tell(&policy.Event{Hook: policy.Answered, Verb: "QUIT", Reply: policy.Say(221, policy.NoStatus, "bye")})
		}
		s.Tell(&policy.Event{Hook: policy.Disconnect})
		if got := logs.Len() > 0; got != command {
			t.Errorf("command %v: lines %v", command, logs.All())
		}
	}
}
