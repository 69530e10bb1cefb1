package proxy

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"github.com/moongate/moongate/policy"
)

// checkData checks DATA. RFC 5321 4.1.1.4, RFC 2920 3.1: a client that
// pipelines may send it although no recipient was taken.
func (s *session) checkData(k *call) *policy.Reply {
	tx := s.policy.Tx
	switch {
	case tx == nil:
		return &replyNeedMail
	case len(k.arg) > 0:
		return &replyNoArg
	}
	asked, live, dropped, later := 0, 0, 0, 0
	for _, r := range tx.Rcpts {
		switch {
		case r.Added:
			continue
		case r.State == policy.RcptDropped:
			dropped++
		case r.State != policy.RcptRefused:
			live++
		case r.Reply.Code < 500:
			later++
		}
		asked++
	}
	switch {
	case asked == 0:
		return &replyNeedRcpt
	case live+dropped+later == 0:
		return &replyNoRcpts
	case live+dropped == 0: // a client that looks at this reply alone is to come again
		return &replyNoneYet
	}
	s.dropped = live == 0
	return nil
}

// data takes the message. Where nothing can act any more, the upstream is asked
// for DATA first and its 354 is the client's; else ours goes out now, and the
// upstream's answer to DATA is part of the answer to the dot.
func (s *session) data(k *call, v policy.Verdict) {
	if v.Swallows() {
		s.swallow = v
	}
	// docs/mail.md 22: all dropped is a discard, unless a rule named another one
	// to get the message, this one too.
	s.dropped = s.dropped && len(s.policy.Tx.Recipients()) == 0
	s.startClock()
	defer s.stopClock()
	in := newIntake(s)
	goAhead := replyGoAhead
	if !s.swallow.Swallows() && !s.dropped && !s.policy.Wants(policy.Headers) && !s.policy.Wants(policy.Message) &&
		len(s.policy.Tx.Recipients()) > 0 {
		w, r, o := s.openData()
		if o != nil {
			o.Reply = s.say(k.verb, o.Reply, o.By, nil, o.Cause)
			s.finish(o)
			s.dataRefused()
			return
		}
		in.open, goAhead = w, r
	}
	s.out.add(&goAhead)
	if s.out.flush() != nil {
		in.drop()
		s.gone("connection lost")
		return
	}
	if err := in.read(); err != nil {
		in.drop()
		if errors.Is(err, errFlood) { // it has an answer, and is never read to its end
			s.conclude(in, in.answer)
			s.close("too much data behind a refusal")
			return
		}
		s.bodyFailed(err)
		return
	}
	s.whole = true
	s.in.free()
	o := in.end()
	s.whole = false
	s.conclude(in, o)
}

// dataRefused ends the session of a client that did not wait for the answer to
// DATA (RFC 2920 3.1 wants it last in a group) and was refused: what it sent
// behind it is likely a message, and must not be taken for commands.
func (s *session) dataRefused() {
	if s.in.Buffered() > 0 {
		s.close("data behind a refused DATA")
	}
}

// conclude answers the final dot and ends the transaction. This is the only
// place where a message is answered: with the upstream's own reply, a refusal,
// or the 250 of a discard or quarantine that the log names.
func (s *session) conclude(in *intake, o *policy.Outcome) {
	in.drop()
	o.Size = in.size
	if tx := s.policy.Tx; tx != nil {
		tx.EOL = in.dec.EOL
	}
	s.srv.Metrics.body(in.size, in.dec.EOL > 0)
	if o.Action == policy.Continue { // nobody is there to hear it
		s.finish(o)
		s.close("connection lost")
		return
	}
	if o.Reply.Positive() && o.By != policy.ByUpstream && !swallows(o) {
		// The last door of the first law. Nothing comes here; if a bug does,
		// nobody is told that a message was taken.
		o = outcome(replyTrouble, policy.ByMoongate, "a 250 that is not the upstream's")
	}
	if o.Verdict.Refuses() {
		s.delay(o.Verdict)
	}
	s.stopClock() // it is answered
	o.Reply = s.say("DATA", o.Reply, o.By, nil, o.Cause)
	if lost := !s.queued() && s.out.flush() != nil; (lost || s.watch.gone.Load()) && o.Reply.Positive() {
		o.Cause = "250 not confirmed"
	}
	if o.Verdict.Close {
		s.close("policy")
	}
	s.finish(o)
	if in.dec.Doubtful {
		// What follows an end that others do not see may be a part of the
		// message: it is never taken for commands. docs/mail.md 13.
		s.close("doubtful end of data")
	}
}

// swallows reports an outcome that the policy decided: the 250 is our own, and
// the log says so.
func swallows(o *policy.Outcome) bool {
	return o.Action == policy.Discard || o.Action == policy.Quarantine
}

// bodyFailed ends a session whose message did not come whole. The rest is never
// read: it is a part of a message, not commands.
func (s *session) bodyFailed(err error) {
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		cause := "timeout in DATA"
		if s.clock.slow() {
			cause = "too slow in DATA"
		}
		s.out.add(&replyTimeout)
		s.gone(cause)
	case s.hard.Err() != nil: // we went away, he did not
		s.relay.abort()
		s.finish(&policy.Outcome{By: policy.ByMoongate, Cause: "server closed"})
		s.close("server closed")
	case errors.Is(err, io.EOF):
		s.gone("connection lost in DATA")
	default:
		s.gone("connection lost in DATA: " + err.Error())
	}
}

// gone ends a transaction and its session: the client went away.
func (s *session) gone(cause string) {
	s.srv.Metrics.clientGone()
	s.relay.abort()
	s.finish(&policy.Outcome{By: policy.ByClient, Cause: cause})
	s.close(cause)
}

// finalReply is what the upstream's reply to the final dot comes to.
func (s *session) finalReply(w BodyWriter) *policy.Outcome {
	if s.closedBeforeDot() {
		s.cancel()
	}
	if o := s.cut(); o != nil { // docs/mail.md 12: a reset before the dot ends the message
		s.relay.abort()
		return o
	}
	if s.clock.tooLate() {
		s.relay.abort()
		return outcome(replyTrouble, policy.ByMoongate, errBudget.Error())
	}
	// The client's leaving changes nothing any more, but the answer must not
	// come too late.
	ctx, cancel := context.WithDeadlineCause(s.hard, s.clock.due(), errBudget)
	defer cancel()
	s.wait()
	r, err := w.End(ctx)
	s.proceed()
	s.relay.open, s.relay.body = false, nil
	if err != nil {
		s.relay.abort()
		return hopFailed(err)
	}
	if r.Positive() {
		o := outcome(r, policy.ByUpstream, "")
		o.QueuedAs = queuedAs(r)
		return o
	}
	o := s.hopSaid(r)
	if r.Code == 421 || r.Code < 400 {
		s.relay.abort()
	}
	return o
}

// swallowed is the end of a message that goes nowhere by a decision of the
// policy: our own 250.
func (s *session) swallowed(v policy.Verdict) *policy.Outcome {
	o := &policy.Outcome{Action: v.Action, Reply: replyTaken, By: source(v), Verdict: v}
	if v.Action != policy.Quarantine {
		return o
	}
	s.wait()
	id, err := s.set.Env.Keeper.Keep(s.policy.Ctx, s.policy.Tx, v)
	s.proceed()
	if err != nil {
		o := outcome(replyNoSpace, policy.ByMoongate, "quarantine: "+err.Error())
		o.Verdict.Rule = v.Rule
		return o
	}
	o.Kept = id
	return o
}

// nobodyLeft is the end of a message without recipients: the policy dropped or
// removed them all.
func nobodyLeft() *policy.Outcome {
	return &policy.Outcome{Action: policy.Discard, Reply: replyTaken, By: policy.ByPolicy, Cause: "no recipient is left"}
}

// readBy sets when the next read of the body ends.
func (s *session) readBy() {
	now := time.Now()
	wait := s.set.Timeouts.Data
	if s.srv.stress.Load() {
		wait = min(wait, s.set.Timeouts.Stress)
	}
	s.conn.SetReadDeadline(now.Add(min(wait, s.clock.patience)))
	s.clock.hold(now)
}
