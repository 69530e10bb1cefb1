package milter

import (
	"errors"
	"strings"

	"github.com/emersion/go-milter"
	"go.uber.org/zap"

	"github.com/moongate/moongate/milter/wire"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/message"
)

func (c *conn) header(cmd wire.Header) error {
	if c.s.Tx != nil {
		field := fieldName(cmd.Name) + ":" + c.dialect().decode(cmd.Value) + "\r\n"
		switch {
		case len(c.mail.block)+len(field) <= c.srv.maxHeader() && c.mail.fields < message.MaxFields:
			c.mail.fields++
			c.mail.block = append(c.mail.block, field...)
		case !c.mail.final.Decided(): // then nobody is asked about it
			c.mail.trouble = replyHeader
		}
	}
	if c.options.Protocol&milter.OptNoHeaderReply != 0 {
		return nil
	}
	if c.s.Tx == nil {
		return c.act(milter.ActTempFail)
	}
	return c.act(milter.ActContinue)
}

// endOfHeader asks at headers, and before at data where the MTA has no such
// event.
func (c *conn) endOfHeader() error {
	if c.s.Tx == nil {
		return c.orphan(policy.Headers)
	}
	v := c.judgeHeader()
	if v.Refuses() && !c.silent(policy.Headers) {
		return c.concludeEarly(v) // the MTA sends nothing more of this message
	}
	return c.goOn(policy.Headers)
}

// judgeHeader gives the header to the policy and asks what is still to be
// asked before the body. A verdict on the message is kept in final.
func (c *conn) judgeHeader() policy.Verdict {
	m := &c.mail
	if m.headers {
		return m.final
	}
	m.headers = true
	h, n := message.ParseHeader(m.block)
	if n < len(m.block) {
		// fieldName and decode leave nothing that ends a header early, so this
		// is a bug; what the rules would not see must not pass.
		c.env.Log.Error("milter: header not understood", zap.String(policy.KeyID, c.s.CurrentID()), zap.Int("at", n))
		m.trouble = replyNotNow
	}
	m.block = nil
	c.s.Tx.SetMessage(&message.Message{Header: h, Blank: true})
	for _, hook := range []policy.Hook{policy.Data, policy.Headers} {
		settled := m.final.Decided()
		if hook == policy.Data {
			settled = m.final.Refuses() || m.data
		}
		if settled || !m.trouble.IsZero() || c.nobody() {
			continue
		}
		v := c.ask(&policy.Event{Hook: hook})
		if v.Refuses() || v.Swallows() {
			m.final = v
		}
	}
	return m.final
}

// nobody reports that every recipient was dropped: the message is discarded,
// and nobody is asked about it.
func (c *conn) nobody() bool { return len(c.s.Tx.Recipients()) == 0 }

func (c *conn) body(chunk []byte) error {
	if c.s.Tx != nil {
		c.keepBody(chunk)
	}
	switch {
	case c.options.Protocol&milter.OptNoBodyReply != 0:
		return nil
	case c.s.Tx == nil:
		return c.act(milter.ActTempFail)
	case (c.mail.final.Decided() || !c.mail.trouble.IsZero() || c.nobody()) && c.options.Protocol&milter.OptSkip != 0:
		return c.act(milter.ActSkip)
	}
	return c.act(milter.ActContinue)
}

func (c *conn) keepBody(chunk []byte) {
	m := &c.mail
	c.judgeHeader() // an MTA need not say where the header ends
	m.size += int64(len(chunk))
	if m.final.Decided() || !m.trouble.IsZero() || c.nobody() {
		return
	}
	if m.spool == nil {
		m.spool = c.srv.pool().New()
	}
	switch _, err := m.spool.Write(chunk); {
	case err == nil:
	case errors.Is(err, message.ErrFull):
		m.trouble = replyNoRoom
	default:
		c.env.Log.Error("milter: spool", zap.String(policy.KeyID, c.s.CurrentID()), zap.Error(err))
		m.trouble = replyNotNow
	}
}

// dialect is how this MTA writes header fields. It has put its Received on top,
// hides it from us and counts it: an insertion on top goes below it, where it
// would be if we stood in front of the MTA. A Postfix takes ORCPT even if it
// offers no DSN.
func (c *conn) dialect() dialect {
	return dialect{leadSpace: c.options.Protocol&milter.OptHeaderLeadingSpace != 0, own: 1, dsn: c.isPostfix()}
}

// fieldName makes a name that ends where it ends: an MTA that passes on what
// is no field name must not make two fields of one.
func fieldName(s string) string {
	s = strings.TrimRight(s, " \t")
	s = strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' || r == ':' {
			return '?'
		}
		return r
	}, s)
	if s == "" {
		return "?"
	}
	return s[:min(len(s), maxName)]
}

// maxName bounds a field name, RFC 5322 2.1.1.
const maxName = 998
