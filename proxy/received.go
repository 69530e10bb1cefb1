package proxy

import (
	"cmp"
	"strings"
	"time"

	"github.com/moongate/moongate/policy"
)

// addReceived puts our Received line on top of the message, as an edit like any
// other, where the upstream's own line cannot tell the client: it sees us.
// docs/mail.md 16.
func (s *session) addReceived() {
	if s.set.Received == "never" || s.set.Received == "auto" && s.set.Hop.Identity.Knows() {
		return
	}
	at := s.policy.Tx.Header().Mbox() // behind those lines, which would end the header elsewhere
	s.policy.Tx.Note(policy.Edit{Kind: policy.InsertHeader, Name: "Received", Index: at, Value: s.receivedLine(time.Now())})
}

// receivedLine is the body of a Received field: RFC 5321 4.4, folded. It names
// a recipient only if there is one: a second one would tell the first of
// hidden copies.
func (s *session) receivedLine(now time.Time) string {
	f, tx := &s.policy.Facts, s.policy.Tx
	var b strings.Builder
	b.WriteString(" from " + token(cmp.Or(f.Helo, "unknown")))
	switch {
	case !f.Remote.IsValid() && f.Stranger: // a forwarder did not say
		b.WriteString(" (" + token(cmp.Or(f.PTR, "unknown")) + ")")
	case f.Remote.IsValid():
		a := f.Remote.Addr().Unmap()
		literal := a.String()
		if a.Is6() {
			literal = "IPv6:" + literal
		}
		b.WriteString(" (")
		if f.PTR != "" {
			b.WriteString(token(f.PTR) + " ")
		}
		b.WriteString("[" + literal + "])")
	}
	b.WriteString("\r\n\tby " + s.set.Hostname + " (moongate) with " + protocol(f, tx) + " id " + tx.ID)
	if t := f.TLS; t != nil {
		b.WriteString("\r\n\t(using " + t.Version + " with cipher " + t.Cipher + ")")
	}
	if live := tx.Recipients(); len(live) == 1 && !live[0].Added && len(live[0].Out.Raw) < 500 {
		b.WriteString("\r\n\tfor " + live[0].Out.Raw)
	}
	b.WriteString(";\r\n\t" + now.Format("Mon, 2 Jan 2006 15:04:05 -0700"))
	return b.String()
}

// protocol is the WITH clause: RFC 3848, RFC 6531 4.3.
func protocol(f *policy.Facts, tx *policy.Transaction) string {
	p := cmp.Or(f.Proto, "SMTP") // a forwarder may say another, or none
	if p != "ESMTP" {
		return token(p)
	}
	if tx.SMTPUTF8() {
		p = "UTF8SMTP"
	}
	if f.TLS != nil {
		p += "S"
	}
	if f.User != "" {
		p += "A"
	}
	return p
}

// token makes what a client said of itself fit for a Received line: it cannot
// end a clause or open a comment there.
func token(s string) string {
	return strings.Map(func(c rune) rune {
		if c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || strings.ContainsRune(".-_:[]", c) {
			return c
		}
		return '?'
	}, s)
}
