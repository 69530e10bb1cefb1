package milter

import (
	"errors"
	"strings"

	"github.com/emersion/go-milter"

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
	fields  int             // of it
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
	replyMany     = policy.Say(452, policy.Status{4, 5, 3}, "Too many recipients")
	replyTooMany  = policy.Say(554, policy.Status{5, 5, 3}, "Too many recipients") // to a program that submits
	replyReceiver = policy.Say(501, policy.Status{5, 1, 3}, "Bad recipient address syntax")
)

// abort ends a message that the MTA does not go on with. Postfix says so after
// every message, too, when there is none any more.
func (c *conn) abort(cause string) {
	if c.s != nil && c.s.Tx != nil {
		if o := c.mail.refused; o != nil {
			c.tellEnd(&policy.Event{Hook: policy.Done, Outcome: o})
		} else {
			c.tellEnd(&policy.Event{Hook: policy.Reset, Cause: cause})
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
	said := c.justSaid(milter.CodeMail)
	c.abort("a new MAIL") // Sendmail says nothing between two messages
	c.macros.set(milter.CodeMail, said)
	c.s.User = c.macros.get("auth_authen")
	c.s.Stranger = c.s.Stranger && c.s.User == ""
	if c.s.Proto != "ESMTP" {
		c.s.Proto = c.proto(cmd.Args)
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
	if len(tx.Rcpts) >= c.mostRcpts() {
		return c.tooMany()
	}
	to, err := policy.ParsePath(bracketed(cmd.To), false, tx.SMTPUTF8())
	if err != nil {
		return c.malformed(policy.Rcpt, "RCPT", replyReceiver, err)
	}
	ev := policy.Event{Hook: policy.Rcpt, Rcpt: &policy.Recipient{In: to, Out: to, Params: params(cmd.Args)}}
	var v policy.Verdict
	// Of a message that was settled at MAIL the recipients are judged all the same:
	// the client hears of them, limits count them, and who holds it may let it go.
	if f := c.mail.final; !f.Decided() || f.Swallows() && !c.submits {
		if v = c.ask(&ev); v.Action == policy.Drop {
			ev.Rcpt.Drop(v)
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

// mostRcpts is how many recipients a message may have. A client sends to the
// others another time; a program that submits cannot, and no limit of its MTA
// holds it back, so it has room for a mailing list.
func (c *conn) mostRcpts() int {
	if c.submits {
		return 100 * c.srv.maxRcpts()
	}
	return c.srv.maxRcpts()
}

// tooMany refuses one recipient more than a message may have, RFC 5321
// 4.5.3.1.10.
func (c *conn) tooMany() error {
	r := replyMany
	if c.submits { // as in rcptTo; and it does not come again
		r = replyTooMany
	}
	told := c.s.Refusal(r)
	c.s.Tell(&policy.Event{Hook: policy.Answered, Verb: "RCPT", Reply: told, By: policy.ByMoongate, Meant: r.Code})
	if c.submits {
		c.mail.trouble = r
		return c.goOn(policy.Rcpt)
	}
	return c.refuse(policy.Rcpt, told)
}

// malformed refuses an address that the grammar of the SMTP door refuses: what
// a rule cannot name it cannot judge, and both doors say the same.
func (c *conn) malformed(h policy.Hook, verb string, r policy.Reply, err error) error {
	told := c.s.Refusal(r)
	c.s.Tell(&policy.Event{Hook: policy.Answered, Verb: verb, Reply: told, By: policy.ByMoongate, Cause: err.Error(), Meant: r.Code})
	if c.silent(h) || h == policy.Rcpt && c.submits {
		c.mail.trouble = r // told at RCPT, or at the end of the message
		return c.goOn(h)
	}
	return c.refuse(h, told)
}

// orphan answers what belongs to a message when there is none that the policy
// has let pass: never a continue.
func (c *conn) orphan(h policy.Hook) error {
	if c.silent(h) {
		return nil // the end of the message is refused
	}
	if r := c.mail.trouble; !r.IsZero() {
		if h == policy.Rcpt && c.submits {
			return c.goOn(h)
		}
		return c.refuse(h, c.s.Refusal(r)) // what MAIL would have heard, had the MTA waited there
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
	if c.mail.final.Refuses() {
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
