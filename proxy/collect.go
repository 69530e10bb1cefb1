package proxy

import (
	"errors"

	"github.com/moongate/moongate/policy"
)

// awaited is a command that went upstream. silent: the client has heard its
// answer already (a held MAIL).
type awaited struct {
	verb   string
	rcpt   *policy.Recipient
	silent bool
}

// underWay counts the recipients whose replies are outstanding.
func (r *relay) underWay() (n int) {
	for _, a := range r.awaited {
		if a.rcpt != nil {
			n++
		}
	}
	return n
}

// onlyMail reports whether MAIL alone is outstanding. The rules of the first
// recipient are asked beside it: they see no more of the transaction than when
// MAIL is held for them, and both commands leave in one group.
func (r *relay) onlyMail() bool { return len(r.awaited) == 1 && r.awaited[0].verb == "MAIL" }

// maxRedials bounds how often a dead connection is replaced at MAIL: a pool may
// hold several that died together. Once MAIL was accepted it happens once
// (docs/mail.md 11).
const maxRedials = 3

// await notes an outstanding reply. RFC 2920 3.1: who does not announce
// PIPELINING is told one command at a time.
func (s *session) await(a awaited) {
	s.relay.awaited = append(s.relay.awaited, a)
	if !s.relay.up.Caps().Has("PIPELINING") {
		s.collect()
	}
}

// reply waits for the next reply of the upstream.
func (s *session) reply() (policy.Reply, error) {
	s.wait()
	r, err := s.relay.up.Reply(s.policy.Ctx)
	s.proceed()
	return r, err
}

// collect reads the outstanding replies and gives each to the client.
func (s *session) collect() {
	if len(s.relay.awaited) == 0 {
		return
	}
	group := s.relay.awaited
	s.relay.awaited = nil
	for i := 0; i < len(group) && s.cause == ""; i++ { // a 421 of ours is the last word
		a := group[i]
		if s.relay.up == nil { // lost on the way, or MAIL was refused
			s.answerLost(a)
			continue
		}
		r, err := s.reply()
		if s.policy.Tx == nil { // it went with a MAIL that was refused: what the upstream says of it is void
			if err != nil || r.Code == 421 {
				s.relay.abort()
			}
			s.answerLost(a)
			continue
		}
		var o *policy.Outcome
		switch {
		case errors.Is(err, ErrGone):
			if o = s.revive(group[i:]); o == nil {
				i--
				continue
			}
		case err != nil:
			o = hopFailed(err)
			s.relay.abort()
		default:
			o = s.hopSaid(r)
			if r.Code == 421 {
				s.relay.abort()
			}
		}
		s.deliverReply(a, o)
	}
	if s.policy.Tx == nil {
		s.relay.settleDown()
	}
	s.relay.awaited = group[:0]
}

// deliverReply gives the client what became of a command.
func (s *session) deliverReply(a awaited, o *policy.Outcome) {
	switch {
	case a.verb == "MAIL" && o.Action == policy.Accept:
		s.relay.open = true
	case a.verb == "MAIL" && s.relay.up != nil:
		s.relay.refused = o
	case s.relay.refused != nil: // its RCPT was on the way already
		s.answerLost(a)
		return
	case o.Action == policy.Accept:
		s.relay.told = append(s.relay.told, toldRcpt{a.rcpt, a.rcpt.Out.Raw})
	}
	if a.silent {
		return
	}
	s.say(a.verb, o.Reply, o.By, a.rcpt, o.Cause)
}

// answerLost answers a command that the upstream cannot answer any more.
func (s *session) answerLost(a awaited) {
	switch o := s.relay.refused; {
	case a.silent:
	case s.policy.Tx == nil: // its MAIL was refused
		s.say(a.verb, replyNeedMail, policy.ByMoongate, a.rcpt, "")
	case o != nil:
		s.say(a.verb, o.Reply, o.By, a.rcpt, o.Cause)
	default:
		s.say(a.verb, replyTrouble, policy.ByMoongate, a.rcpt, "upstream lost")
	}
}

// revive replaces a connection that was gone while nothing was awaited of it:
// the envelope is said again, unseen by the client, then what was queued.
// docs/mail.md 11.
func (s *session) revive(queued []awaited) *policy.Outcome {
	r := &s.relay
	open := r.open || len(r.told) > 0
	r.abort()
	if open && r.redials > 0 || r.redials >= maxRedials {
		return outcome(replyTrouble, policy.ByMoongate, "upstream lost again")
	}
	r.redials++
	s.srv.Metrics.redialed()
	if o := s.dial(); o != nil {
		return o
	}
	if open {
		if o := s.replayTold(); o != nil {
			r.abort()
			return outcome(replyTrouble, policy.ByMoongate, "replay refused: "+o.Reply.String())
		}
	}
	for _, a := range queued {
		if a.verb == "MAIL" {
			s.sendMail()
		} else {
			s.sendRcpt(a.rcpt, a.rcpt.Out.Raw)
		}
	}
	return nil
}
