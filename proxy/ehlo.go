package proxy

import (
	"slices"
	"strconv"

	"github.com/moongate/moongate/policy"
)

// sizeMargin is how much less than the upstream's SIZE we announce: edits add
// to a message.
const sizeMargin = 64 << 10

// relayed are the keywords that are the upstream's to offer: announced only if
// it has them. docs/mail.md 19.
var relayed = []string{"8BITMIME", "SMTPUTF8", "DSN", "ENHANCEDSTATUSCODES"}

// offer is what our EHLO reply announces.
type offer struct {
	upstream *Caps // that it was made from
	caps     *Caps
	reply    policy.Reply
}

// offer makes it of what we support, met with what the upstream said last. Of
// an upstream that was never seen it promises what MAIL may ask for: a client
// that misses SMTPUTF8 or 8BITMIME sends a bounce to its user, and one that uses
// them hears 451 until the upstream is there.
func (s *Settings) offer(upstream *Caps) *offer {
	if o := s.offered.Load(); o != nil && o.upstream == upstream {
		return o
	}
	caps := s.meet(upstream)
	o := &offer{upstream, caps, policy.Reply{Code: 250, Text: append([]string{s.Hostname}, caps.Lines()...)}}
	s.offered.Store(o)
	return o
}

func (s *Settings) meet(upstream *Caps) *Caps {
	size := s.Limits.Size
	if n := upstream.Size(); n > 0 {
		if n > 2*sizeMargin {
			n -= sizeMargin
		}
		size = min(size, n)
	}
	c := NewCaps("PIPELINING", "SIZE "+strconv.FormatInt(size, 10))
	for _, key := range relayed {
		if upstream.Has(key) || upstream == nil && key != "ENHANCEDSTATUSCODES" {
			c.list = append(c.list, capability{key: key})
		}
	}
	return c
}

// checkHelo checks the argument of HELO and EHLO. RFC 5321 4.1.1.1 wants a
// domain or an address literal; by choice anything printable passes, as the
// policy judges it.
func (s *session) checkHelo(k *call) *policy.Reply {
	if len(k.arg) == 0 || len(k.arg) > 255 {
		return &replyHeloArg
	}
	for _, c := range k.arg {
		if c <= ' ' {
			return &replyHeloArg
		}
	}
	// RFC 5321 4.1.4: EHLO ends a transaction as RSET does. Each is asked anew.
	s.forgetTransaction(k.verb)
	helo, proto := string(k.arg), "SMTP"
	if k.verb == "EHLO" {
		proto = "ESMTP"
	}
	if s.peerHelo, s.peerProto = helo, proto; !s.forwarder || !s.named {
		s.policy.Helo, s.policy.Proto = helo, proto
	}
	s.greeted = false
	return nil
}

// helo answers HELO and EHLO.
func (s *session) helo(k *call, _ policy.Verdict) {
	s.greeted = true
	if k.verb == "HELO" {
		s.offered = nil
		s.answer(k.verb, policy.Reply{Code: 250, Text: []string{s.set.Hostname}}, policy.ByMoongate, nil)
	} else {
		o := s.set.offer(s.upstreamCaps())
		s.offered = o.caps
		r := o.reply
		if s.forwarder {
			r.Text = append(slices.Clip(r.Text), forwardKeyword)
		}
		s.answer(k.verb, r, policy.ByMoongate, nil)
	}
	s.out.flush() // RFC 2920 3.2: it is not held
}

// upstreamCaps are the keywords of the upstream as it was last seen. If it was
// never seen, this client waits for the first look: a promise that is not made
// now is missing for the whole session.
func (s *session) upstreamCaps() *Caps {
	if c := s.set.Hop.Caps(); c != nil || s.set.Hop.Open() {
		return c
	}
	s.wait()
	s.set.Hop.Probe(s.policy.Ctx)
	s.proceed()
	return s.set.Hop.Caps()
}
