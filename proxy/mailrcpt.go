package proxy

import (
	"github.com/moongate/moongate/policy"
)

// checkMail checks MAIL and begins the transaction, whose rules are pinned
// from here on.
func (s *session) checkMail(k *call) *policy.Reply {
	switch {
	case !s.greeted:
		return &replyNeedHelo
	case s.policy.Tx != nil:
		return &replyNested // RFC 5321 4.1.4
	}
	if s.forwarder {
		s.adoptForwarded()
	}
	from, params, refusal := parseMail(k.arg, s.allowed())
	if refusal != nil {
		return refusal
	}
	if s.forwarder && s.tooNew(params) {
		return &badUnknownParam
	}
	if declaredSize(params) > s.limitSize() { // RFC 1870 6.1
		return &replyTooBig
	}
	if p := s.set.Spool; p.MaxBytes > 0 && p.InUse() >= p.MaxBytes {
		return &replyNoSpace
	}
	if s.forwarder {
		s.askForwarded()
	}
	s.policy.Begin(from, params)
	return nil
}

// allowed are the keywords whose parameters this client may use. A forwarder
// says what its own clients said, whatever we offer: what the upstream has is
// passed, and what is harmless is left out for it. docs/mail.md 29.
func (s *session) allowed() *Caps {
	if !s.forwarder {
		return s.offered
	}
	up := s.set.Hop.Caps()
	if up == nil {
		return everything
	}
	all := NewCaps("SIZE", "8BITMIME", "AUTH")
	for _, c := range up.Lines() {
		all.list = append(all.list, NewCaps(c).list...)
	}
	return all
}

// everything is what an upstream may have that was not seen yet. What it has not
// is told when it is dialled, and for now: unknown means temporary.
var everything = func() *Caps {
	c := NewCaps("BINARYMIME")
	for _, known := range []map[string]param{mailParams, rcptParams} {
		for _, p := range known {
			if !c.Has(p.cap) {
				c.add(p.cap, "")
			}
		}
	}
	return c
}()

// tooNew reports a parameter that the upstream lacks and that means something.
func (s *session) tooNew(params []policy.Param) bool {
	up := s.set.Hop.Caps()
	if up == nil {
		return false
	}
	for _, p := range params {
		if !up.Has(mailParams[p.Key].cap) && !harmless(p) {
			return true
		}
	}
	return false
}

// limitSize is the largest message that this client may send.
func (s *session) limitSize() int64 {
	if n := s.offered.Size(); n > 0 {
		return min(n, s.set.Limits.Size)
	}
	return s.set.Limits.Size
}

// mail tells the upstream, unless the message is settled already or MAIL is
// held until there is a recipient.
func (s *session) mail(k *call, v policy.Verdict) {
	switch {
	case v.Swallows():
		s.swallow = v
		s.answer(k.verb, replySender, source(v), nil)
	case s.set.HoldMail:
		s.answer(k.verb, replySender, policy.ByMoongate, nil)
	default:
		if o := s.relayMail(false); o != nil {
			s.answerCause(k.verb, o.Reply, o.By, nil, o.Cause)
			s.relay.settleDown()
		}
	}
}

// checkRcpt checks RCPT; the recipient is under judgement from here on.
func (s *session) checkRcpt(k *call) *policy.Reply {
	tx := s.policy.Tx
	if tx == nil {
		return &replyNeedMail
	}
	to, params, refusal := parseRcpt(k.arg, tx.SMTPUTF8(), s.allowed())
	if refusal != nil {
		return refusal
	}
	k.rcpt = &policy.Recipient{In: to, Out: to, Params: params}
	if len(tx.Rcpts)+s.relay.underWay() >= s.set.Limits.Recipients {
		return &replyManyRcpts // RFC 5321 4.5.3.1.10
	}
	return nil
}

// rcpt passes the guard, then tells the upstream.
func (s *session) rcpt(k *call, v policy.Verdict) {
	r := k.rcpt
	if s.set.guarded(&s.policy.Facts, &r.In) {
		s.answer(k.verb, replyRelay, policy.ByMoongate, r)
		return
	}
	switch {
	case v.Action == policy.Drop || r.State == policy.RcptRemoved:
		r.Drop(v)
		s.answer(k.verb, replyRcpt, source(v), r)
	case s.swallow.Swallows():
		s.answer(k.verb, replyRcpt, source(s.swallow), r)
	case s.relay.refused != nil: // a held MAIL
		o := s.relay.refused
		s.answerCause(k.verb, o.Reply, o.By, r, o.Cause)
	case duplicates(s.policy.Tx, r):
		r.Duplicate = true
		s.answer(k.verb, replyRcpt, policy.ByMoongate, r)
	default:
		if o := s.relayRcpt(r); o != nil {
			s.answerCause(k.verb, o.Reply, o.By, r, o.Cause)
		}
	}
}
