package proxy

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moongate/moongate/policy"
)

// TestClock: the time for a message begins when its end was sent, as far as
// that can be known, and stands while we wait for the client.
func TestClock(t *testing.T) {
	const budget = 90 * time.Second
	start := func(t *testing.T) (*session, *clock) {
		s := &session{set: &Settings{Budget: budget, Timeouts: Timeouts{Body: 10 * time.Minute}}, policy: &policy.Session{Ctx: t.Context()}}
		s.startClock()
		t.Cleanup(s.stopClock)
		return s, s.clock
	}
	test := func(name string, f func(t *testing.T, s *session, c *clock)) {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, c := start(t)
				f(t, s, c)
			})
		})
	}
	left := func(t *testing.T, c *clock, want time.Duration) {
		t.Helper()
		if got := time.Until(c.due()); got != want {
			t.Errorf("%v is left, want %v", got, want)
		}
	}
	test("a client that is slow to send", func(t *testing.T, s *session, c *clock) {
		for range 10 {
			c.hold(time.Now())
			time.Sleep(time.Minute)
			c.heard(1000, true)
		}
		if s.cut() != nil {
			t.Error("its time was taken for ours")
		}
		left(t, c, budget)
		time.Sleep(budget)
		synctest.Wait()
		if o := s.cut(); o == nil || o.Reply.Code != 451 || context.Cause(s.policy.Ctx) != errBudget {
			t.Errorf("it did not run out: %v", o)
		}
	})
	test("patience with the client alone", func(t *testing.T, s *session, c *clock) {
		c.hold(time.Now())
		time.Sleep(time.Minute)
		c.heard(1000, true)
		time.Sleep(time.Hour) // a judge, or an upstream that takes no more
		c.hold(time.Now())
		c.heard(1000, false)
		if want := 10*time.Minute - time.Minute + 2000*perOctet; c.patience != want {
			t.Errorf("it is %v, want %v", c.patience, want)
		}
		c.hold(time.Now())
		if time.Sleep(c.patience - time.Nanosecond); c.slow() {
			t.Error("it ends too early")
		}
		if time.Sleep(time.Nanosecond); !c.slow() {
			t.Error("it does not end")
		}
	})
	test("too late for the dot", func(t *testing.T, s *session, c *clock) {
		c.heard(1000, true)
		time.Sleep(budget * 3 / 4)
		if c.tooLate() {
			t.Error("a quarter is left")
		}
		if time.Sleep(time.Second); !c.tooLate() {
			t.Error("less than a quarter is left, and the dot would be sent")
		}
	})
	test("what was here while the header was judged", func(t *testing.T, s *session, c *clock) {
		c.heard(1000, true)
		time.Sleep(time.Minute)
		c.hold(time.Now())
		c.heard(1000, false)
		left(t, c, budget-time.Minute)
	})
	test("a big message and a slow upstream", func(t *testing.T, s *session, c *clock) {
		c.heard(1000, true)
		for range 200 { // what can have been on its way came with the last 16 MiB
			time.Sleep(4 * time.Second)
			c.hold(time.Now())
			c.heard(1<<20, false)
			if got := time.Since(c.begin); got < 0 || got > 17*4*time.Second {
				t.Fatalf("it began %v ago", got)
			}
		}
		if s.cut() != nil {
			t.Error("its time was used up")
		}
	})
	test("its end", func(t *testing.T, s *session, c *clock) {
		c.heard(1, true)
		s.stopClock()
		s.stopClock()
		time.Sleep(2 * budget)
		synctest.Wait()
		if s.policy.Ctx.Err() != nil || s.clock != nil || s.cut() != nil {
			t.Error("it goes on behind the answer")
		}
	})
}
