package milter

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-milter"

	"github.com/moongate/moongate/milter/wire"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/policytest"
)

// sendmailWaits is how long a Sendmail that was told nothing else waits for a
// packet: T=R:10s.
const sendmailWaits = 10 * time.Second

// A rule that works for minutes at the end of a message is waited for also by
// a Sendmail with its default timeouts, which begin anew with each packet.
func TestProgressInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := policytest.Rule(policy.Message, func(*policy.Session, *policy.Event) (policy.Verdict, error) {
			time.Sleep(time.Minute)
			return policy.Verdict{}, nil
		})
		slow.Timeout = 2 * time.Minute
		srv, _ := serverOf(slow)
		m := pipe(t, srv, all)
		m.c.SetDeadline(time.Now().Add(time.Hour))
		m.hello()
		m.want("c", wire.Mail{From: "<a@example.net>"})
		m.want("c", wire.Rcpt{To: "<b@example.org>"})
		m.message("x\r\n", "Subject: x")
		m.send(wire.End{})
		for last := time.Now(); ; last = time.Now() {
			f := m.next()
			if gap := time.Since(last); gap > sendmailWaits/2 {
				t.Errorf("%c after %v of silence, want at most %v", f.Code, gap, sendmailWaits/2)
			}
			if f.Code != 'p' {
				if f.Code != 'a' {
					t.Errorf("then %c", f.Code)
				}
				break
			}
		}
	})
}

// Sendmail takes progress only at the end of a message: anywhere else it is an
// answer that makes no sense, and the end of the filter.
func TestNoProgressBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var rules []*policy.Rule
		for _, h := range everyHook {
			r := policytest.Rule(h, func(s *policy.Session, ev *policy.Event) (policy.Verdict, error) {
				if h != policy.Message {
					time.Sleep(min(18*time.Second, time.Until(ev.Deadline)))
				}
				return policy.Verdict{Delay: 5 * time.Second}, nil
			})
			r.Timeout = 19 * time.Second
			rules = append(rules, r)
		}
		srv, _ := serverOf(rules...)
		m := pipe(t, srv, all)
		m.c.SetDeadline(time.Now().Add(time.Hour))
		m.hello()
		m.want("c", wire.Unknown{Line: "WIZ"})
		m.want("c", wire.Mail{From: "<a@example.net>"})
		m.want("c", wire.Rcpt{To: "<b@example.org>"})
		m.want("c", wire.Signal{Code: milter.CodeData})
		m.want("c", wire.Signal{Code: milter.CodeEOH})
	})
}
