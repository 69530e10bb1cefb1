package policy

import (
	"errors"
	"fmt"
	"runtime/debug"

	"go.uber.org/zap"
)

var (
	replyPolicyError = Say(451, Status{4, 3, 0}, "Temporary policy failure, please try again later")
	replyNotNow      = Say(550, Status{5, 7, 1}, "Refused by policy")
)

var errGone = errors.New("the client is gone")

// failed is what a rule's error comes to: its on_error. The peer hears nothing
// of the reason. A shadow rule's failure is logged and counted, no more.
func (s *Session) failed(r *Rule, h Hook, err error) Verdict {
	if err == errGone {
		return s.stopped(r, h)
	}
	s.Env.Metrics.ruleFailed(r)
	s.log.Warn("rule failed", zap.String(KeySession, s.ID), zap.String(KeyID, s.CurrentID()),
		zap.String(KeyStage, h.String()), zap.String(KeyRule, r.String()),
		zap.String(KeyOnError, r.OnError.String()), zap.Error(err))
	v := Verdict{Failed: true, Reason: err.Error(), Rule: r}
	if h == Done || r.Shadow {
		return v
	}
	switch r.OnError {
	case Accept:
		s.unchecked(r)
		return v // zero action: the next rule is asked
	case Reject:
		v.Action, v.Reply = Reject, replyNotNow
	default:
		v.Action, v.Reply = Tempfail, replyPolicyError
	}
	s.errors++
	return v
}

// stopped is what a rule comes to whose client went away: nobody hears it, the
// message goes nowhere, and the rule has done nothing wrong.
func (s *Session) stopped(r *Rule, h Hook) Verdict {
	v := Verdict{Failed: true, Reason: errGone.Error(), Rule: r}
	if h != Done && !r.Shadow {
		v.Action, v.Reply = Tempfail, replyPolicyError
	}
	return v
}

// unchecked marks a message that passed a rule which failed and whose author
// said on_error = "accept".
func (s *Session) unchecked(r *Rule) {
	if s.Tx != nil {
		s.Tx.Note(Edit{Kind: AddHeader, Name: "X-Moongate-Unchecked", Value: " " + r.Place()})
	}
}

// Caught counts a panic, logs it with its stack and makes an error of it: for
// who recovers, where it was recovered.
func (s *Session) Caught(p any, h Hook) error {
	s.Env.Metrics.panicked()
	s.log.Error("panic", zap.String(KeySession, s.ID), zap.String(KeyStage, h.String()),
		zap.Any(KeyReason, p), zap.ByteString(KeyStack, debug.Stack()))
	return fmt.Errorf("panic: %v", p)
}
