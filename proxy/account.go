package proxy

import (
	"time"

	"github.com/moongate/moongate/policy"
)

// note keeps account of what a reply means for the state of the connection.
func (c *conn) note(cmd owed, r policy.Reply) error {
	if r.Code == 421 {
		c.dead.Store(true) // RFC 5321 3.8: it is closing
	}
	if cmd.own && !r.Positive() {
		// We composed the command, so it is no verdict on the message; and with
		// it refused, what follows must not be sent under another's name.
		return c.said(cmd.verb, r)
	}
	if r.Code/100 == 3 && cmd.verb != "AUTH" && cmd.verb != "DATA" && !isBase64(cmd.verb) {
		return c.said(cmd.verb, r)
	}
	switch cmd.verb {
	case "MAIL":
		c.mails++
		c.inMail = c.inMail || r.Positive()
		c.refused(r)
	case "RCPT", "DATA":
		c.refused(r)
	case "RSET", "HELO", "EHLO":
		if r.Positive() {
			c.inMail = false
		}
	case "AUTH":
		c.authed = true
	}
	return nil
}

// isBase64 recognises what stands in the place of a verb in the middle of an
// AUTH exchange: anything that is no known command's verb is such a line.
func isBase64(verb string) bool {
	switch verb {
	case "MAIL", "RCPT", "RSET", "HELO", "EHLO", "NOOP", "VRFY", "QUIT", "XFORWARD", "XCLIENT":
		return false
	}
	return true
}

func (c *conn) refused(r policy.Reply) {
	if r.Refuses() {
		c.refusals++
	}
}

// ended keeps account of a message that was answered.
func (c *conn) ended(r policy.Reply) {
	c.inBody, c.inMail, c.body = false, false, nil
	if r.Positive() {
		c.refusals, c.mails = 0, 0
	}
	c.refused(r)
	if r.Code == 421 {
		c.dead.Store(true)
	}
}

// fit reports whether another transaction may use the connection. A client
// that collects refusals makes a Postfix slow down for all that come over the
// same connection, and AUTH outlives RSET and EHLO.
func (c *conn) fit() bool {
	if time.Since(c.born) >= c.hop.maxAge() {
		return false
	}
	return c.hop.KnowsClient() || !c.authed && c.refusals < 5 && c.mails < 50
}
