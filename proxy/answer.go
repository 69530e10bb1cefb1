package proxy

import (
	"context"
	"time"

	"github.com/moongate/moongate/policy"
)

// ask asks the policy about the event at hand. While it is asked the sweeper
// looks after the client.
func (s *session) ask(h policy.Hook) policy.Verdict {
	s.event.Hook = h
	s.wait()
	v := s.policy.Ask(&s.event)
	s.proceed()
	return v
}

// tellEnd tells of the end of a transaction or session. Its log rules run also
// when the client is gone, which has cancelled all else.
func (s *session) tellEnd(ev *policy.Event) {
	ctx := s.policy.Ctx
	if ctx.Err() != nil {
		s.policy.Ctx = context.WithoutCancel(ctx)
	}
	s.policy.Tell(ev)
	s.policy.Ctx = ctx
}

// answer is what the client hears to a command, behind what it is still owed;
// the policy is told.
func (s *session) answer(verb string, r policy.Reply, by policy.Source, rcpt *policy.Recipient) {
	s.answerCause(verb, r, by, rcpt, "")
}

func (s *session) answerCause(verb string, r policy.Reply, by policy.Source, rcpt *policy.Recipient, cause string) {
	switch s.collect(); {
	case s.cause != "": // behind a 421 nothing is said any more
	case s.orphan(rcpt):
		s.say(verb, replyNeedMail, policy.ByMoongate, rcpt, "")
	default:
		s.say(verb, r, by, rcpt, cause)
	}
}

// orphan reports a recipient whose MAIL, sent beside it, was refused meanwhile.
func (s *session) orphan(rcpt *policy.Recipient) bool { return rcpt != nil && s.policy.Tx == nil }

// say is answer for who knows that nothing is owed. It returns the reply as the
// client hears it.
func (s *session) say(verb string, r policy.Reply, by policy.Source, rcpt *policy.Recipient, cause string) policy.Reply {
	meant := r.Code
	r = s.policy.Refusal(r)
	s.out.add(&r)
	s.policy.Tell(&policy.Event{Hook: policy.Answered, Verb: verb, Reply: r, By: by, Rcpt: rcpt, Cause: cause, Meant: meant})
	if !r.Refuses() {
		return r
	}
	if r.Code == 421 {
		s.close(verb + " answered 421")
	}
	s.erred()
	return r
}

// erred counts an error, and ends the session with one too many.
func (s *session) erred() {
	if s.errors++; s.errors > s.set.Limits.Errors && s.cause == "" {
		s.out.add(&replyErrors)
		s.close("too many errors")
	}
}

// refuse gives the client a verdict that refuses.
func (s *session) refuse(verb string, v policy.Verdict, rcpt *policy.Recipient) policy.Reply {
	if s.collect(); s.cause != "" {
		return v.Reply
	}
	if s.orphan(rcpt) {
		return s.say(verb, replyNeedMail, policy.ByMoongate, rcpt, "")
	}
	s.delay(v)
	r := s.say(verb, v.Reply, source(v), rcpt, "")
	if v.Close {
		s.close("policy")
	}
	return r
}

// source says who decided a verdict.
func source(v policy.Verdict) policy.Source {
	if v.Rule == nil {
		return policy.ByFilter
	}
	return policy.ByPolicy
}

// delay waits as long as a verdict wants, or until the client is gone.
func (s *session) delay(v policy.Verdict) { s.pause(v.Delay) }

// pause waits, or until the client is gone.
func (s *session) pause(d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	s.wait()
	select {
	case <-t.C:
	case <-s.policy.Ctx.Done():
	}
	s.proceed()
}
