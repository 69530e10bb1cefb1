package milter

import (
	"fmt"
	"strings"
	"testing"

	"github.com/emersion/go-milter"
	"github.com/google/go-cmp/cmp"

	"github.com/moongate/moongate/milter/wire"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/policytest"
)

// Two sessions on one connection of an MTA (QUIT_NC, or a second CONNECT) know
// nothing of each other: not who logged in, not what a rule remembered, not
// that it let the first one bypass all, nor what it put off.
func TestNothingLeaksIntoNextSession(t *testing.T) {
	for _, next := range []string{"QUIT_NC", "CONNECT"} {
		for _, within := range []string{"between messages", "in a message"} {
			t.Run(next+" "+within, func(t *testing.T) {
				var seen []string
				note := func(s *policy.Session, ev *policy.Event) {
					line := fmt.Sprintf("%s %v tls=%v user=%q stranger=%v", ev.Hook, s.Remote.Addr(), s.TLS != nil, s.User, s.Stranger)
					if s.Vars != nil {
						line += " vars"
					}
					seen = append(seen, line)
				}
				first := func(s *policy.Session) bool { return s.Remote.Addr().String() == "192.0.2.1" }
				connect := policytest.Rule(policy.Connect, func(s *policy.Session, ev *policy.Event) (policy.Verdict, error) {
					note(s, ev)
					if first(s) {
						s.Vars = "remembered"
						return policytest.Reject("put off"), nil
					}
					return policy.Verdict{}, nil
				})
				connect.At = policy.Rcpt
				srv, logs := serverOf(connect,
					policytest.Rule(policy.Helo, func(s *policy.Session, ev *policy.Event) (policy.Verdict, error) {
						note(s, ev)
						if first(s) && s.Helo == "bypassed" {
							return policy.Verdict{Action: policy.Bypass}, nil
						}
						return policy.Verdict{}, nil
					}),
					policytest.Rule(policy.Rcpt, func(s *policy.Session, ev *policy.Event) (policy.Verdict, error) {
						note(s, ev)
						return policy.Verdict{}, nil
					}))
				m := dial(t, srv, all)
				m.send(wire.Macros{For: milter.CodeConn, Pairs: []string{"v", "Postfix 3.7.11", "j", "one"}})
				m.want("c", wire.Connect{Host: "client.example", Family: milter.FamilyInet, Port: 25000, Addr: "192.0.2.1"})
				m.want("c", wire.Helo{Name: "plain"})
				m.want("c", wire.Mail{From: "<a@example.net>"})
				m.want("y 550 5.7.1 put off", wire.Rcpt{To: "<b@example.org>"})
				m.send(wire.Macros{For: milter.CodeHelo, Pairs: []string{"{tls_version}", "TLSv1.3", "{cert_subject}", "mx"}})
				m.want("c", wire.Helo{Name: "bypassed"})
				m.send(wire.Macros{For: milter.CodeMail, Pairs: []string{"i", "Q1", "{auth_authen}", "joe"}})
				m.want("c", wire.Mail{From: "<a@example.net>"})
				m.want("c", wire.Rcpt{To: "<b@example.org>"})
				if within == "between messages" {
					m.message("", "Subject: x")
					m.end()
				}

				if next == "QUIT_NC" {
					m.send(wire.Signal{Code: milter.CodeQuitNewConn})
				}
				m.want("c", wire.Connect{Host: "other.example", Family: milter.FamilyInet, Port: 25000, Addr: "192.0.2.2"})
				m.want("c", wire.Helo{Name: "bypassed"})
				m.want("c", wire.Mail{From: "<a@example.net>"})
				m.want("c", wire.Rcpt{To: "<b@example.org>"})
				m.message("", "Subject: x")
				if _, a := m.end(); a != "a" {
					t.Errorf("end: %q", a)
				}
				m.send(wire.Signal{Code: milter.CodeQuit})
				m.closed()
				ended(t, srv)
				want := []string{
					`connect 192.0.2.1 tls=false user="" stranger=true`, `helo 192.0.2.1 tls=false user="" stranger=true vars`,
					`helo 192.0.2.1 tls=true user="" stranger=true vars`,
					`connect 192.0.2.2 tls=false user="" stranger=true`, `helo 192.0.2.2 tls=false user="" stranger=true`,
					`rcpt 192.0.2.2 tls=false user="" stranger=true`,
				}
				if d := cmp.Diff(want, seen); d != "" {
					t.Errorf("the rules saw (-want +got):\n%s", d)
				}
				lines := logs.FilterMessage("message").All()
				last := lines[len(lines)-1].ContextMap()
				if last["queued_as"] != nil || last["upstream"] != "" || last["user"] != nil {
					t.Errorf("the second session's audit line: %v", last)
				}
				if n := logs.FilterMessage("disconnect").Len(); n != 2 {
					t.Errorf("%d disconnect lines, want 2", n)
				}
			})
		}
	}
}

// Octets that make no sense in the middle of a message end it once: one audit
// line says so, and what was taken is given back.
func TestHostileInMessage(t *testing.T) {
	for _, in := range []string{"\x00\x00\x00\x00", "\xff\xff\xff\xffB", "\x00\x00\x00\x01Z", "\x00\x00\x00\x03R<a", "\x00\x00\x00\x01O", "\x00\x00\x00\x02D"} {
		for _, stage := range []string{"rcpt", "header", "body"} {
			hold := &holdSpy{done: make(chan string, 1)}
			srv, logs := serverOf(policytest.Rule(policy.Rcpt, func(_ *policy.Session, ev *policy.Event) (policy.Verdict, error) {
				ev.Hold(hold)
				return policy.Verdict{}, nil
			}), policytest.Always(policy.Message, policy.Verdict{}))
			m := dial(t, srv, all)
			m.hello()
			m.want("c", wire.Mail{From: "<a@example.net>"})
			m.want("c", wire.Rcpt{To: "<b@example.org>"})
			switch stage {
			case "header":
				m.want("c", wire.Header{Name: "Subject", Value: " x"})
			case "body":
				m.message("x\r\n", "Subject: x")
			}
			if _, err := m.c.Write([]byte(in)); err != nil {
				t.Fatal(err)
			}
			m.c.(interface{ CloseWrite() error }).CloseWrite() // what is half a packet ends here
			m.closed()
			ended(t, srv)
			if got := <-hold.done; got != "released" {
				t.Errorf("%q at %s: what was taken is %s", in, stage, got)
			}
			if l := audited(t, logs); l["verdict"] != "aborted" || !strings.Contains(fmt.Sprint(l["cause"]), "milter") && l["cause"] != "unexpected EOF" {
				t.Errorf("%q at %s: %v", in, stage, l)
			}
			if n := logs.FilterMessage("panic").Len(); n != 0 {
				t.Errorf("%q at %s: %d panics", in, stage, n)
			}
		}
	}
}
