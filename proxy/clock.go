package proxy

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/moongate/moongate/internal/socket"
	"github.com/moongate/moongate/policy"
)

var errBudget = errors.New("the time for the message is used up")

// clock bounds what a client waits between the end of its message and our
// answer. Whatever we wait for meanwhile (rules, delays, the envelope, DATA, the
// body, the final reply) has the rest of Settings.Budget: an answer that comes
// after the client has hung up makes a duplicate.
//
// It begins when the end of the message was sent, at the earliest: while we
// judge the header, what follows may have long been here. What came after we had
// waited for it was sent just now; of the rest we know that no more than
// inFlight can lie between the client and us. The clock stands while we wait for
// the client: what he takes to send is bounded apart, and generously.
type clock struct {
	budget time.Duration
	outer  context.Context // the session's; ends when the client is gone
	stop   context.CancelCauseFunc
	timer  *time.Timer

	begin  time.Time // the end was not sent before
	mark   time.Time // when octets began to be counted
	octets int       // read since, without waiting

	held     time.Time     // since when we wait for the client
	patience time.Duration // how long we still would
}

// perOctet is how much longer each octet lets us wait for the rest of a message.
// Whoever sends 100 octets a second may go on for ever; Postfix, where it cares,
// wants 500 (smtpd_min_data_rate).
const perOctet = time.Second / 100

// inFlight is what the kernels of both sides may hold: twice the usual maximum
// of net.ipv4.tcp_wmem.
const inFlight = 8 << 20

// startClock lets the context of the message at hand end with its time, from
// the first octets on that are heard.
func (s *session) startClock() {
	ctx, stop := context.WithCancelCause(s.policy.Ctx)
	c := &clock{budget: s.set.Budget, outer: s.policy.Ctx, stop: stop, begin: time.Now(), patience: s.set.Timeouts.Body}
	c.mark = c.begin
	c.timer = time.AfterFunc(time.Hour, func() { stop(errBudget) })
	c.timer.Stop() // until octets are heard
	s.clock, s.policy.Ctx = c, ctx
}

// stopClock gives the session its own context back. It may be called twice.
func (s *session) stopClock() {
	if c := s.clock; c != nil {
		c.timer.Stop()
		s.policy.Ctx, s.clock = c.outer, nil
		c.stop(nil)
	}
}

// heard says that octets of the message were read, and whether they were waited
// for. The clock runs from here to the next hold.
func (c *clock) heard(octets int, waited bool) {
	now := time.Now()
	c.octets += octets
	c.patience += time.Duration(octets) * perOctet
	switch {
	case waited:
		c.patience -= now.Sub(c.held)
		c.begin, c.mark, c.octets = now, now, 0
	case c.octets > inFlight:
		if c.mark.After(c.begin) {
			c.begin = c.mark
		}
		c.mark, c.octets = now, 0
	}
	c.timer.Reset(c.due().Sub(now))
}

// tooLate reports whether so little is left that the dot had better not be sent:
// an upstream that needs longer takes the message, and its client comes again
// with it. A quarter of the whole is kept for that answer, and 30 s at most.
func (c *clock) tooLate() bool {
	return time.Until(c.due()) < min(c.budget/4, 30*time.Second)
}

// hold stops the clock: we wait for the client now.
func (c *clock) hold(now time.Time) { c.held = now; c.timer.Stop() }

// slow reports whether the client has used up our patience, and not only been
// silent.
func (c *clock) slow() bool { return time.Since(c.held) >= c.patience }

// due is when the answer must be there.
func (c *clock) due() time.Time { return c.begin.Add(c.budget) }

// cut is the end of a message whose time is used up, or whose client is gone;
// nil if neither is so. Nothing of it has gone to the upstream's dot.
func (s *session) cut() *policy.Outcome {
	if c := s.clock; c != nil && !time.Now().Before(c.due()) { // the timer may be late
		c.stop(errBudget)
	}
	switch cause := context.Cause(s.policy.Ctx); cause {
	case nil:
		return nil
	case errBudget:
		return outcome(replyTrouble, policy.ByMoongate, errBudget.Error())
	}
	return &policy.Outcome{By: policy.ByClient, Cause: "connection lost before the end"}
}

// orCut is the outcome o of something that was waited for, or why the wait was
// cut short.
func (s *session) orCut(o *policy.Outcome) *policy.Outcome {
	c := s.cut()
	if c == nil || o.By == policy.ByUpstream {
		return o
	}
	if strings.Contains(o.Cause, c.Cause) { // and it says where
		c.Cause = o.Cause
	}
	return c
}

// closedBeforeDot reports whether a forwarder has closed its connection: it
// gave up waiting, and hears no answer. Nothing goes to the upstream's dot then,
// as the client behind it was told to come again. A client of our own may close
// its side behind a whole message.
func (s *session) closedBeforeDot() bool {
	return s.forwarder && clientGone(socket.PeerOf(s.conn), watchForwarder) // the sweeper looks through one of its own
}
