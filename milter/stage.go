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

// A mail is the message under way, as far as the policy has not got it.
type mail struct {
	final   policy.Verdict  // decided, and to be told at the end of the message
	refused *policy.Outcome // DATA was refused; the client may still try again
	data    bool            // asked at data
	headers bool            // asked at headers
	block   []byte          // the header, as it was on the wire
	size    int64           // of the body that came, kept or not
	spool   *message.Spool
	trouble policy.Reply // the message cannot be judged: too large, no room
}

var (
	errUnheard = errors.New("milter: a refusal where the MTA waits for none")

	replyNotNow   = policy.Say(451, policy.Status{4, 3, 0}, "Temporary failure, please try again later")
	replyNoRoom   = policy.Say(452, policy.Status{4, 3, 1}, "Insufficient system storage")
	replyHeader   = policy.Say(552, policy.Status{5, 3, 4}, "Message header is too large")
	replySender   = policy.Say(501, policy.Status{5, 1, 7}, "Bad sender address syntax")
	replyReceiver = policy.Say(501, policy.Status{5, 1, 3}, "Bad recipient address syntax")
)

// abort ends a message that the MTA does not go on with. Postfix says so after
// every message, too, when there is none any more.
func (c *conn) abort(cause string) {
	if c.s != nil && c.s.Tx != nil {
		if o := c.mail.refused; o != nil {
			c.s.Tell(&policy.Event{Hook: policy.Done, Outcome: o})
		} else {
			c.s.Tell(&policy.Event{Hook: policy.Reset, Cause: cause})
		}
	}
	c.forget()
}

// forget clears what was kept of a message.
func (c *conn) forget() {
	if c.mail.spool != nil {
		c.mail.spool.Close()
	}
	c.mail = mail{}
	c.macros.endMessage()
}

func (c *conn) mailFrom(cmd wire.Mail) error {
	said := c.macros[milter.CodeMail]
	c.abort("a new MAIL") // Sendmail says nothing between two messages
	c.macros.set(milter.CodeMail, said)
	c.s.User = c.macros.get("auth_authen")
	c.s.Stranger = c.s.Stranger && c.s.User == ""
	if len(cmd.Args) > 0 {
		c.s.Proto = "ESMTP"
	}
	p := params(cmd.Args)
	_, utf8ok := policy.FindParam(p, "SMTPUTF8")
	from, err := policy.ParsePath(bracketed(cmd.From), true, utf8ok)
	if err != nil {
		return c.malformed(policy.Mail, "MAIL", replySender, err)
	}
	c.s.Begin(from, p)
	ev := policy.Event{Hook: policy.Mail}
	v := c.ask(&ev)
	c.keep(v)
	return c.answer(&ev, "MAIL", v)
}

func (c *conn) rcptTo(cmd wire.Rcpt) error {
	tx := c.s.Tx
	if tx == nil {
		return c.orphan(policy.Rcpt)
	}
	to, err := policy.ParsePath(bracketed(cmd.To), false, tx.SMTPUTF8())
	if err != nil {
		return c.malformed(policy.Rcpt, "RCPT", replyReceiver, err)
	}
	ev := policy.Event{Hook: policy.Rcpt, Rcpt: &policy.Recipient{In: to, Out: to, Params: params(cmd.Args)}}
	var v policy.Verdict
	if !c.mail.final.Decided() {
		if v = c.ask(&ev); v.Action == policy.Drop {
			ev.Rcpt.State = policy.RcptDropped
		}
		if v.Refuses() && c.submits {
			// Nobody is there to be told of one recipient: Postfix calls it a
			// configuration error and keeps the mail for ever. It is the answer
			// to the message, and the sender gets it back with the reason.
			c.mail.final, v = v, policy.Verdict{}
		}
	}
	return c.answer(&ev, "RCPT", v)
}

// malformed refuses an address that the grammar of the SMTP door refuses: what
// a rule cannot name it cannot judge, and both doors say the same.
func (c *conn) malformed(h policy.Hook, verb string, r policy.Reply, err error) error {
	r = c.s.Refusal(r)
	c.s.Tell(&policy.Event{Hook: policy.Answered, Verb: verb, Reply: r, By: policy.ByMoongate, Cause: err.Error()})
	if c.silent(h) {
		c.mail.trouble = r // told at the end of the message
		return nil
	}
	return c.refuse(h, r)
}

// orphan answers what belongs to a message when there is none that the policy
// has let pass: never a continue.
func (c *conn) orphan(h policy.Hook) error {
	if c.silent(h) {
		return nil // the end of the message is refused
	}
	return c.act(milter.ActTempFail)
}

// keep remembers a verdict on the whole message. The MTA hears it at the end,
// so that it goes on telling us of recipients, and the audit line knows them.
func (c *conn) keep(v policy.Verdict) {
	if v.Swallows() {
		c.mail.final = v
	}
}

func (c *conn) data() error {
	if c.s.Tx == nil {
		return c.orphan(policy.Data)
	}
	c.mail.data, c.mail.refused = true, nil
	if c.mail.final.Decided() {
		return c.goOn(policy.Data)
	}
	ev := policy.Event{Hook: policy.Data}
	v := c.ask(&ev)
	c.keep(v)
	if v.Refuses() {
		// The transaction stays open: the client may say DATA again, and is
		// asked about again.
		c.mail.data = false
		c.mail.refused = &policy.Outcome{Action: v.Action, Reply: c.s.Refusal(v.Reply), By: source(v), Verdict: v}
	}
	return c.answer(&ev, "DATA", v)
}

func (c *conn) header(cmd wire.Header) error {
	if c.s.Tx != nil {
		field := fieldName(cmd.Name) + ":" + c.dialect().decode(cmd.Value) + "\r\n"
		if len(c.mail.block)+len(field) > c.srv.maxHeader() {
			c.mail.trouble = replyHeader
		} else {
			c.mail.block = append(c.mail.block, field...)
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
		if m.final.Decided() || hook == policy.Data && m.data || !m.trouble.IsZero() || c.nobody() {
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
// would be if we stood in front of the MTA.
func (c *conn) dialect() dialect {
	return dialect{leadSpace: c.options.Protocol&milter.OptHeaderLeadingSpace != 0, own: 1}
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

// params reads ESMTP arguments, each of which came as a string of its own.
func params(args []string) []policy.Param {
	var out []policy.Param
	for _, a := range args {
		if a == "" {
			continue
		}
		key, value, _ := strings.Cut(a, "=")
		out = append(out, policy.Param{Key: strings.ToUpper(key), Value: value, Raw: a})
	}
	return out
}

// bracketed puts brackets around an address that came without: filters that
// an MTA feeds itself may see such.
func bracketed(s string) string {
	if strings.HasPrefix(s, "<") {
		return s
	}
	return "<" + s + ">"
}
