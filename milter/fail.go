package milter

import (
	"errors"
	"fmt"
	"net"

	"go.uber.org/zap"

	"github.com/moongate/moongate/policy"
)

// unchecked is the field that marks a message which a filter could not see.
const unchecked = "X-Moongate-Unchecked"

// fail notes that the filter cannot be asked about this message.
func (c *conversation) fail(s *policy.Session, h policy.Hook, err error) policy.Verdict {
	reached := c.link != nil
	if reached {
		c.fair = c.link.c.fair
	}
	c.drop()
	if s.Ctx.Err() != nil {
		return policy.Verdict{Action: policy.Tempfail, Reply: replyNotNow, Failed: true, Reason: "the client is gone"}
	}
	if c.blame(err) {
		c.f.breaker.failed(reached)
	}
	early := h < policy.Mail || h == policy.Unknown
	c.away = c.away || h < policy.Mail // a client does not wait for one that hangs at each command
	if early && errors.Is(err, errBreaker) {
		return policy.Verdict{} // it is told, and counted, when a message misses it
	}
	c.f.Metrics.failed(c.f.Name())
	s.Env.Log.Warn("filter failed", zap.String(policy.KeySession, s.ID), zap.String(policy.KeyID, s.CurrentID()),
		zap.String(policy.KeyStage, h.String()), zap.String(policy.KeyFilter, c.f.Name()), zap.Error(err))
	if early {
		return policy.Verdict{} // it is dialled again at MAIL, and missed there
	}
	c.failed = fmt.Errorf("filter %s: %w", c.f.Name(), err)
	if c.f.OnError == policy.Accept && !c.f.Shadow {
		s.Tx.Note(policy.Edit{Kind: policy.AddHeader, Name: unchecked, Value: " " + headerWord(c.f.Name()), By: c.f.Name()})
	}
	return c.onError(s, h)
}

// blame reports whether a failure tells of the filter's health, for the breaker:
// not one that follows from another, not a change that we cannot make, and not
// a time that those before it had used up.
func (c *conversation) blame(err error) bool {
	for _, e := range []error{errBreaker, errLost, errUnasked, errChange} {
		if errors.Is(err, e) {
			return false
		}
	}
	var e net.Error
	return c.fair || !errors.As(err, &e) || !e.Timeout()
}

var (
	replyFilterAway = policy.Say(451, policy.Status{4, 7, 1}, "Service unavailable, please try again later")
	replyFilterNo   = policy.Say(550, policy.Status{5, 7, 1}, "Message cannot be checked")
)

// onError is what a failure means for a command.
func (c *conversation) onError(_ *policy.Session, h policy.Hook) policy.Verdict {
	if h < policy.Mail || h > policy.Message {
		return policy.Verdict{}
	}
	v := policy.Verdict{Failed: true, Reason: c.failed.Error()}
	switch c.f.OnError {
	case policy.Accept:
	case policy.Reject:
		v.Action, v.Reply = policy.Reject, replyFilterNo
	default:
		v.Action, v.Reply = policy.Tempfail, replyFilterAway
	}
	return v
}
