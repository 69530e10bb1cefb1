package proxy

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/moongate/moongate/policy"
)

// Behind a Postfix with smtpd_proxy_filter the client that counts is the one
// that it forwards: XFORWARD names him before MAIL, and connect and helo rules
// are asked at MAIL, about him. docs/mail.md 29.

// forwardKeyword is what our EHLO reply offers to who may forward.
const forwardKeyword = "XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE"

var (
	replyBadForward = policy.Say(501, policy.Status{5, 5, 4}, "Bad XFORWARD attribute")
	replyForwarded  = policy.Say(250, policy.Status{2, 0, 0}, "Ok")
)

// mayForward reports whether this peer may speak for others. One without an
// address came over a unix socket: that he may open it is his permission.
func (s *Settings) mayForward(a netip.Addr) bool {
	if !a.IsValid() {
		return len(s.XForward) > 0
	}
	a = a.Unmap()
	return slices.ContainsFunc(s.XForward, func(p netip.Prefix) bool { return p.Contains(a) })
}

// checkForward checks XFORWARD, and notes what it says; one command may go on
// where another ended.
func (s *session) checkForward(k *call) *policy.Reply {
	switch {
	case !s.forwarder:
		return &replyNotHere
	case !s.greeted:
		return &replyNeedHelo
	case s.policy.Tx != nil:
		return &replyNested
	case len(k.arg) == 0:
		s.misforwarded()
		return &replyNeedArg
	}
	f := s.nobodyKnown()
	if s.forward != nil {
		*f = *s.forward
	}
	for attr := range strings.FieldsSeq(string(k.arg)) {
		key, raw, ok := strings.Cut(attr, "=")
		value, valid := attrValue(raw)
		if !ok || !valid || !setForwarded(f, strings.ToUpper(key), value) {
			s.misforwarded()
			return &replyBadForward
		}
	}
	s.forward = f
	return nil
}

// nobodyKnown is a client of whom nothing was told. What is not told is not
// known, and it is not the forwarder's either.
func (s *session) nobodyKnown() *policy.Facts {
	f := s.peer
	f.Remote, f.PTR, f.PTRTemp, f.Helo, f.Proto = netip.AddrPort{}, "", false, "", ""
	return &f
}

// misforwarded notes that a forwarder was not understood. If it goes on all the
// same, its next message is a stranger's of whom nothing is known: what it named
// before may have been another client, a friend even, and it does not speak for
// itself. Its facts must not stand on the stack of who reads commands, which many
// hold who wait.
//
//go:noinline
func (s *session) misforwarded() {
	if s.forwarder && s.policy.Tx == nil {
		s.forward = s.nobodyKnown()
	}
}

// adoptForwarded makes the client of this MAIL the session's, whatever becomes
// of the command: its line in the log is about him.
func (s *session) adoptForwarded() {
	want := s.peer
	want.Helo, want.Proto = s.policy.Helo, s.policy.Proto
	if s.forward != nil {
		want = *s.forward
		// docs/mail.md 1: his address says it, and one that is not known is a stranger's.
		want.Stranger = !want.Remote.IsValid() || s.set.stranger(want.Remote.Addr())
	} else {
		// Its own address says nothing of whom it speaks for.
		want.Stranger = true
		if s.named {
			want.Helo, want.Proto = s.peerHelo, s.peerProto
		}
	}
	if s.named && sameClient(&want, &s.policy.Facts) {
		return
	}
	if s.named { // another client: another session, of its own id
		s.tellEnd(&policy.Event{Hook: policy.Disconnect, Cause: "forwarded another client"})
		s.set.Hop.Forget(s.policy.ID)
		want.ID = ""
		s.policy = s.set.Env.NewSession(s.policy.Ctx, want)
	} else {
		want.ID = s.policy.ID
		s.policy.Facts = want
	}
	s.named, s.policy.Unnamed = true, false
	s.unheard, s.refused = true, policy.Verdict{}
}

// askForwarded asks connect and helo about a client that was not asked about. A
// refusal is the answer to MAIL.
func (s *session) askForwarded() {
	if !s.unheard {
		return
	}
	s.unheard = false
	for _, h := range []policy.Hook{policy.Connect, policy.Helo} {
		if h == policy.Helo && s.policy.Helo == "" { // a client that said none: as in a milter
			continue
		}
		s.event = policy.Event{}
		v := s.ask(h)
		s.pause(v.Delay)
		if v.Refuses() {
			v.Delay = 0
			if v.Reply.Code == 421 && !v.Close { // the forwarder's connection is not the client's
				v.Reply.Code = 451
			}
			s.refused = v
			break
		}
	}
}

func sameClient(a, b *policy.Facts) bool {
	return a.Remote == b.Remote && a.PTR == b.PTR && a.Helo == b.Helo && a.Proto == b.Proto && a.Stranger == b.Stranger
}
