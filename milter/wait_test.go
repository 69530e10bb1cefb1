package milter

import (
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moongate/moongate/milter/wire"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/policytest"
)

// mtaWaits is how long an MTA waits for an answer before it gives up.
const mtaWaits = 30 * time.Second

// The MTA goes on where no rule answers, and its next wait begins while those
// rules are still asked: however long they take, and whatever they delay, it
// has that answer in time.
func TestAnswersInTime(t *testing.T) {
	at := func(h, at policy.Hook, takes time.Duration, v policy.Verdict) *policy.Rule {
		r := policytest.Rule(h, func(_ *policy.Session, ev *policy.Event) (policy.Verdict, error) {
			time.Sleep(min(takes, time.Until(ev.Deadline)))
			return v, nil
		})
		r.At, r.Timeout = at, 18*time.Second
		return r
	}
	slow := policy.Verdict{Delay: 15 * time.Second}
	slowly := policytest.Reject("slowly")
	slowly.Delay = 15 * time.Second
	shadow := at(policy.Helo, policy.Helo, time.Hour, policytest.Reject("shadow"))
	shadow.Shadow = true
	for _, tc := range []struct {
		name   string
		answer string
		least  time.Duration // before the answer to RCPT
		rules  []*policy.Rule
	}{
		{"delays", "c", 15 * time.Second, []*policy.Rule{
			at(policy.Connect, policy.Rcpt, 0, slow), at(policy.Helo, policy.Rcpt, 0, slow), at(policy.Rcpt, policy.Rcpt, 0, slow)}},
		{"a delayed refusal with a delay", "y 550 5.7.1 slowly", 15 * time.Second, []*policy.Rule{
			at(policy.Connect, policy.Rcpt, 0, slow), at(policy.Helo, policy.Rcpt, 0, slowly)}},
		{"rules", "c", 26 * time.Second, []*policy.Rule{
			at(policy.Connect, policy.Rcpt, time.Hour, policy.Verdict{}), at(policy.Connect, policy.Rcpt, time.Hour, slow),
			at(policy.Helo, policy.Rcpt, time.Hour, slow), at(policy.Rcpt, policy.Rcpt, time.Hour, slow)}},
		{"a shadow", "c", 18 * time.Second, []*policy.Rule{
			at(policy.Connect, policy.Rcpt, 10*time.Second, policy.Verdict{}), shadow, at(policy.Rcpt, policy.Rcpt, 0, policy.Verdict{})}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv, _ := serverOf(tc.rules...)
				m := pipe(t, srv, all)
				start := time.Now()
				m.hello()
				m.want("c", wire.Mail{From: "<a@example.net>"})
				m.want(tc.answer, wire.Rcpt{To: "<b@example.org>"})
				if took := time.Since(start); took >= mtaWaits || took < tc.least {
					t.Errorf("RCPT is answered after %v, want %v to %v", took, tc.least, mtaWaits)
				}
				start = time.Now()
				m.want(tc.answer, wire.Rcpt{To: "<c@example.org>"})
				if took := time.Since(start); took >= mtaWaits {
					t.Errorf("the second RCPT is answered after %v", took)
				}
			})
		})
	}
}

// Log rules have the time of a stage, however little the last one had.
func TestLogRuleInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		slow := func(h policy.Hook) *policy.Rule {
			r := policytest.Rule(h, func(_ *policy.Session, ev *policy.Event) (policy.Verdict, error) {
				time.Sleep(time.Until(ev.Deadline))
				return policy.Verdict{}, nil
			})
			r.At, r.Timeout = policy.Rcpt, 18*time.Second
			return r
		}
		var left time.Duration
		srv, _ := serverOf(slow(policy.Connect), slow(policy.Helo), policytest.Rule(policy.Done, func(_ *policy.Session, ev *policy.Event) (policy.Verdict, error) {
			left = time.Until(ev.Deadline)
			return policy.Verdict{}, nil
		}))
		m := pipe(t, srv, all)
		m.hello()
		m.c.Close()
		ended(t, srv)
		if left < time.Second {
			t.Errorf("the log rule has %v", left)
		}
	})
}

// pipe is dial over memory, where time can stand still. A packet is taken
// when the server reads it.
func pipe(t *testing.T, srv *Server, offer wire.Options) *mta {
	t.Helper()
	ours, theirs := net.Pipe()
	t.Cleanup(func() { ours.Close() })
	go srv.ServeConn(theirs)
	m := &mta{t: t, c: ours, r: wire.NewReader(ours)}
	m.send(offer)
	cmd, err := wire.Decode(m.next())
	if err != nil {
		t.Fatal(err)
	}
	m.got = cmd.(wire.Options)
	return m
}

// An MTA that was silent for a moment does not wait for what was done then.
func TestCatchUp(t *testing.T) {
	srv, _ := serverOf()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	mta, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer mta.Close()
	nc, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	c := srv.newConn(nc, "milter")
	newHand().lend(c)
	defer c.cancel()
	c.behind = maxBehind
	if c.catchUp(); c.behind != 0 {
		t.Errorf("the MTA is silent, and we are %v behind", c.behind)
	}
	c.behind = maxBehind
	if _, err := mta.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(patience); c.peer.Silent() && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond) // until the octet has come
	}
	if c.catchUp(); c.behind == 0 {
		t.Error("the MTA has said something, and we take it for silent")
	}
}
