package proxy

import (
	"strconv"
	"strings"

	"github.com/moongate/moongate/policy"
)

// relay is the upstream's side of a transaction: what it was told so far, and
// which of its replies the client is still owed.
type relay struct {
	up      Upstream        // nil: not dialled, or lost
	body    BodyWriter      // DATA is open
	open    bool            // the upstream accepted a MAIL that has neither ended nor been reset
	from    policy.Path     // of that MAIL
	params  []policy.Param  // the same
	told    []toldRcpt      // the recipients that it accepted, in order
	awaited []awaited       // commands whose replies are outstanding, in order
	refused *policy.Outcome // a held MAIL was refused: each RCPT hears this
	redials int             // how often it was lost in this transaction, unseen by the client
	size    int64           // of the message as it goes on, once that is known
}

type toldRcpt struct {
	rcpt *policy.Recipient
	raw  string // the path as it was told
}

// dial gets a connection for this transaction.
func (s *session) dial() *policy.Outcome {
	if s.relay.up != nil {
		return nil
	}
	s.wait()
	up, err := s.set.Hop.Get(s.policy.Ctx, &s.policy.Facts)
	s.proceed()
	if err != nil {
		return hopFailed(err)
	}
	tx := s.policy.Tx
	if o := s.fits(up.Caps()); o != nil {
		up.Return()
		return o
	}
	s.relay.up, tx.Upstream = up, up.Address()
	up.Begin(&s.policy.Facts, tx.ID)
	return nil
}

// fits reports whether the upstream that answered has what was announced for
// it and is used. docs/mail.md 19.
func (s *session) fits(c *Caps) *policy.Outcome {
	for _, p := range s.policy.Tx.In.Params {
		if !c.Has(mailParams[p.Key].cap) && !harmless(p) {
			return outcome(replyTrouble, policy.ByMoongate, "upstream does not offer "+p.Key)
		}
	}
	for _, r := range s.policy.Tx.Rcpts {
		if o := fitsRcpt(c, r); o != nil && !r.Added && (r.State == policy.RcptAsked || r.Live()) {
			return o
		}
	}
	return nil
}

// fitsRcpt is fits for what is asked for one recipient.
func fitsRcpt(c *Caps, r *policy.Recipient) *policy.Outcome {
	for _, p := range r.Params {
		if !c.Has(rcptParams[p.Key].cap) {
			return outcome(replyTrouble, policy.ByMoongate, "upstream does not offer "+p.Key)
		}
	}
	return nil
}

// harmless parameters may be left out for an upstream that does not know them.
func harmless(p policy.Param) bool {
	return p.Key == "SIZE" || p.Key == "AUTH" || p.Key == "BODY" && strings.EqualFold(p.Value, "7BIT")
}

// sendMail queues MAIL as the transaction has it now.
func (s *session) sendMail() {
	tx, caps := s.policy.Tx, s.relay.up.Caps()
	b := append([]byte("FROM:"), tx.Out.From.Raw...)
	for _, p := range tx.Out.Params {
		switch {
		case !caps.Has(mailParams[p.Key].cap):
		case p.Key == "SIZE" && s.relay.size > 0: // RFC 1870 6.1: of what is sent, not of what came
			b = strconv.AppendInt(append(b, " SIZE="...), s.relay.size, 10)
		default:
			b = append(append(b, ' '), p.Raw...)
		}
	}
	s.relay.from, s.relay.params = tx.Out.From, tx.Out.Params
	s.relay.up.Send("MAIL", b)
}

// sendRcpt queues RCPT for a recipient.
func (s *session) sendRcpt(r *policy.Recipient, raw string) {
	dsn := s.relay.up.Caps().Has("DSN")
	b := append([]byte("TO:"), raw...)
	for _, p := range r.Params {
		if dsn || rcptParams[p.Key].cap != "DSN" {
			b = append(append(b, ' '), p.Raw...)
		}
	}
	if dsn && r.Added {
		// An archive mailbox must not bounce to the outside.
		if _, ok := policy.FindParam(r.Params, "NOTIFY"); !ok {
			b = append(b, " NOTIFY=NEVER"...)
		}
	}
	if dsn && raw != r.In.Raw {
		if orcpt := r.Orcpt(); orcpt != "" {
			b = append(append(b, ' '), orcpt...)
		}
	}
	s.relay.up.Send("RCPT", b)
}

// relayMail sends MAIL and leaves its reply outstanding. silent: the client has
// its answer already.
func (s *session) relayMail(silent bool) *policy.Outcome {
	spread(0)
	if o := s.dial(); o != nil {
		return o
	}
	s.sendMail()
	s.await(awaited{verb: "MAIL", silent: silent})
	return nil
}

// relayRcpt sends RCPT and leaves its reply outstanding.
func (s *session) relayRcpt(r *policy.Recipient) *policy.Outcome {
	if s.relay.up == nil && len(s.relay.told) > 0 {
		if o := s.revive(nil); o != nil { // lost at the recipient before this one
			return o
		}
	}
	if !s.relay.open && len(s.relay.awaited) == 0 { // a held MAIL
		if o := s.relayMail(true); o != nil {
			return o
		}
		switch { // an upstream without PIPELINING has answered
		case s.relay.refused != nil:
			return s.relay.refused
		case s.relay.up == nil:
			return outcome(replyTrouble, policy.ByMoongate, "upstream lost")
		}
	}
	if o := fitsRcpt(s.relay.up.Caps(), r); o != nil {
		return o
	}
	s.sendRcpt(r, r.Out.Raw)
	s.await(awaited{verb: "RCPT", rcpt: r})
	return nil
}

// abort closes the connection, whatever is open in it: no dot, RSET or QUIT.
func (r *relay) abort() {
	if r.body != nil {
		r.body.Abort()
		r.body = nil
	}
	if r.up != nil {
		r.up.Abort()
		r.up.Return() // its place is free
		r.up = nil
	}
	r.open = false
}

// settleDown gives the connection back at the end of a transaction; the next
// one starts from nothing. A transaction that is still open upstream is reset
// there by Return.
func (r *relay) settleDown() {
	if r.body != nil {
		r.abort()
	}
	if r.up != nil {
		r.up.Return()
	}
	*r = relay{told: r.told[:0], awaited: r.awaited[:0]}
}

// resetUpstream ends a transaction that the upstream has open and that will not
// be sent.
func (s *session) resetUpstream() {
	if s.relay.up == nil || !s.relay.open {
		return
	}
	s.relay.up.Send("RSET", nil)
	if r, err := s.reply(); err != nil || !r.Positive() {
		s.relay.abort()
	}
	s.relay.open = false
}
