package proxy

import (
	"errors"
	"slices"

	"github.com/moongate/moongate/policy"
)

// settle makes the envelope that the upstream knows that of the transaction,
// before DATA is opened. Recipients more cost a RCPT each; any other change
// costs RSET and a replay. If a replayed command is refused, nothing is sent:
// the answer is a 4xx if any refusal was one, else that 5xx. A message is never
// delivered to a part of its recipients. docs/mail.md 10.
func (s *session) settle() *policy.Outcome {
	r, tx := &s.relay, s.policy.Tx
	if r.up == nil && len(r.told) > 0 { // lost at the last recipient
		if o := s.revive(nil); o != nil {
			return o
		}
	}
	live := distinct(tx)
	more, same := r.untold(live)
	if r.open && same && r.from.Raw == tx.Out.From.Raw && slices.Equal(r.params, tx.Out.Params) {
		return s.tell(more)
	}
	s.resetUpstream()
	r.told = r.told[:0]
	if r.up == nil {
		if o := s.dial(); o != nil {
			return o
		}
	} else {
		r.up.Begin(&s.policy.Facts, tx.ID)
	}
	s.sendMail()
	return s.replay(live)
}

// untold returns the recipients that the upstream was not told yet, and whether
// those that it was told are all still to get the message, unchanged.
func (r *relay) untold(live []*policy.Recipient) (more []*policy.Recipient, same bool) {
	told := r.told
	for _, l := range live {
		if len(told) > 0 && told[0].rcpt == l && told[0].raw == l.Out.Raw {
			told = told[1:]
			continue
		}
		more = append(more, l)
	}
	return more, len(told) == 0
}

// replayTold says MAIL and the recipients again that were told already.
func (s *session) replayTold() *policy.Outcome {
	rcpts := make([]*policy.Recipient, len(s.relay.told))
	for i, t := range s.relay.told {
		rcpts[i] = t.rcpt
	}
	s.relay.told = s.relay.told[:0]
	s.sendMail()
	return s.replay(rcpts)
}

// replay reads the reply to a MAIL just queued and tells the recipients.
func (s *session) replay(rcpts []*policy.Recipient) *policy.Outcome {
	r, err := s.reply()
	if err != nil {
		s.relay.abort()
		return hopFailed(gone(err))
	}
	if o := s.hopSaid(r); o.Action != policy.Accept {
		return replayRefused(o)
	}
	s.relay.open = true
	return s.tell(rcpts)
}

// tell sends RCPT for each recipient, in one group where the upstream takes
// groups, and reads the replies.
func (s *session) tell(rcpts []*policy.Recipient) *policy.Outcome {
	group := rcpts
	if !s.relay.up.Caps().Has("PIPELINING") {
		group = nil
	}
	for _, r := range group {
		s.sendRcpt(r, r.Out.Raw)
	}
	var worst, alone *policy.Outcome
	for _, r := range rcpts {
		if group == nil {
			s.sendRcpt(r, r.Out.Raw)
		}
		said, err := s.reply()
		if err != nil {
			s.relay.abort()
			return hopFailed(gone(err))
		}
		o := s.hopSaid(said)
		switch {
		case o.Action == policy.Accept:
			s.relay.told = append(s.relay.told, toldRcpt{r, r.Out.Raw})
		case r.Added && r.Optional:
			r.State, r.Reply, alone = policy.RcptRefused, said, o
		case worst == nil, worst.Action == policy.Reject && o.Action == policy.Tempfail:
			r.Reply, worst = said, o
		}
	}
	if worst == nil && len(s.relay.told) == 0 {
		worst = alone // and nobody is left
	}
	if worst != nil {
		return replayRefused(worst)
	}
	return nil
}

// replayRefused marks a refusal that met a command which the client did not
// give in this form.
func replayRefused(o *policy.Outcome) *policy.Outcome {
	if o.Cause != "" {
		o.Cause = "replay_refused: " + o.Cause
	} else {
		o.Cause = "replay_refused"
	}
	return o
}

// gone turns ErrGone, met where there is no going back, into a plain failure.
func gone(err error) error {
	if errors.Is(err, ErrGone) {
		return &HopError{Op: "reply", Reply: replyTrouble, Err: err}
	}
	return err
}

// openData settles the envelope and opens DATA upstream; goAhead is its 354.
// Without a writer the outcome is the answer.
func (s *session) openData() (w BodyWriter, goAhead policy.Reply, o *policy.Outcome) {
	for {
		if o := s.settle(); o != nil {
			return nil, goAhead, o
		}
		s.wait()
		w, r, err := s.relay.up.Data(s.policy.Ctx)
		s.proceed()
		switch {
		case errors.Is(err, ErrGone):
			if o := s.revive(nil); o != nil {
				return nil, goAhead, o
			}
			continue
		case err != nil:
			s.relay.abort()
			return nil, goAhead, hopFailed(err)
		case w == nil:
			if r.Code == 421 {
				s.relay.abort()
			}
			if r.Positive() { // 2xx to DATA: nonsense
				s.relay.abort()
				return nil, goAhead, outcome(replyTrouble, policy.ByMoongate, "upstream: "+r.String())
			}
			return nil, goAhead, s.hopSaid(r)
		}
		s.relay.body = w
		return w, r, nil
	}
}
