package milter

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/emersion/go-milter"
	"go.uber.org/zap"

	"github.com/moongate/moongate/milter/wire"
	"github.com/moongate/moongate/policy"
)

var (
	replyFilterReject = policy.Say(550, policy.Status{5, 7, 1}, "Command rejected")
	replyFilterTemp   = policy.Say(451, policy.Status{4, 7, 1}, "Service unavailable - try again later")
)

// verdict is what a filter's action means at a hook.
func (c *conversation) verdict(act *milter.Action, h policy.Hook) (policy.Verdict, error) {
	reason := "filter " + c.f.Name()
	switch act.Code {
	case milter.ActContinue:
		return policy.Verdict{}, nil
	case milter.ActAccept:
		// The filter is content: with the session, or with this message. The
		// other filters and the rules are asked all the same.
		if h < policy.Mail {
			c.done = true
		} else {
			c.skip, c.said = true, policy.Accept
		}
		return policy.Verdict{}, nil
	case milter.ActReject:
		return policy.Verdict{Action: policy.Reject, Reply: replyFilterReject, Reason: reason}, nil
	case milter.ActTempFail:
		return policy.Verdict{Action: policy.Tempfail, Reply: replyFilterTemp, Reason: reason}, nil
	case milter.ActDiscard:
		v := policy.Verdict{Action: policy.Discard, Reason: reason}
		switch {
		case h < policy.Mail || h == policy.Unknown: // meaningless; an MTA warns and goes on
			return policy.Verdict{}, nil
		case h == policy.Rcpt: // it means the message, which no answer to RCPT can say
			c.late = v
			return policy.Verdict{}, nil
		}
		return v, nil
	case milter.ActReplyCode:
		r, err := filterReply(act)
		if err != nil {
			return policy.Verdict{}, err
		}
		v := policy.Verdict{Action: policy.Reject, Reply: r, Reason: reason, Close: r.Code == 421}
		if r.Code < 500 {
			v.Action = policy.Tempfail
		}
		return v, nil
	}
	return policy.Verdict{}, fmt.Errorf("%w: action %q at %s", wire.ErrMalformed, byte(act.Code), h)
}

// filterReply reads a filter's own reply. The library gives the code, and as
// text all behind it: the codes of further lines and doubled percent signs
// included. The code is the decision, so words that no reply may have give way,
// and so does a status of another class than the code's.
func filterReply(act *milter.Action) (policy.Reply, error) {
	code, lines, err := wire.SplitReply(fmt.Sprintf("%03d ", act.SMTPCode) + act.SMTPText)
	if err != nil {
		return policy.Reply{}, err
	}
	lines = lines[:min(len(lines), mostLines)]
	status := policy.NoStatus
	for i, line := range lines {
		line = printable(line[:min(len(line), mostText)])
		word, rest, _ := strings.Cut(line, " ")
		if st, err := policy.ParseStatus(word); err == nil {
			if i == 0 {
				status = policy.Status{code / 100, st[1], st[2]}
			}
			if status != policy.NoStatus { // it stands on each line
				line = rest
			}
		}
		lines[i] = line
	}
	for {
		r, err := policy.NewReply(0, code, status, lines...)
		if err == nil || len(lines) == 1 {
			return r, err
		}
		lines = lines[:len(lines)-1] // folded, they were more than fit
	}
}

// What libmilter has room for in a reply: lines, and octets of each.
const (
	mostLines = 32
	mostText  = 980
)

// printable makes a question mark of each control character.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f {
			return '?'
		}
		return r
	}, s)
}

// message shows the filter the whole message and does what it says. The
// filter sees what the filters before it made of the message, and one that
// signs sees all edits.
func (c *conversation) message(s *policy.Session, ev *policy.Event) (policy.Verdict, error) {
	tx := s.Tx
	l := c.link
	l.c.until(c.f.endTime(), ev.Deadline)
	v := viewOf(tx, c.f.Sign)
	act, err := c.show(tx, v)
	if err != nil {
		return policy.Verdict{}, err
	}
	var mods []milter.ModifyAction
	if act.Code == milter.ActContinue {
		if err := l.Macros(milter.CodeEOB, "i", tx.ID); err != nil {
			return policy.Verdict{}, err
		}
		l.c.restart()
		if mods, act, err = l.End(); err != nil {
			return policy.Verdict{}, err
		}
	}
	// The end of a message is the end of it at the filter, and rspamd forgets
	// the HELO with it.
	c.content, c.greeted = false, false
	verdict, err := c.verdict(act, policy.Message)
	// Changes are made nowhere else than at the end of a message, so the verdict
	// behind them is its own.
	if err == nil && !verdict.Decided() && len(mods) == 0 && c.f.loose.Load() {
		err = c.confirm(ev)
	}
	if err == nil {
		c.f.breaker.served()
	}
	if err != nil || verdict.Decided() {
		return verdict, err
	}
	if c.f.Shadow {
		if len(mods) > 0 {
			s.Env.Log.Info("shadow", zap.String(policy.KeyID, tx.ID), zap.String(policy.KeyFilter, c.f.Name()), zap.Int(policy.KeyEdits, len(mods)))
		}
		return c.held(mods), nil
	}
	return c.apply(s, v, mods)
}

// confirm makes sure that what a filter let pass was this message, where the
// filter was caught giving more answers than it was asked for: it ends the
// connection, before whose end all stands that the filter still had to say. Had an
// earlier answer been taken for the verdict, the last is the true one.
func (c *conversation) confirm(ev *policy.Event) error {
	defer c.drop() // the next message has another
	c.link.c.until(c.f.commandTime(), ev.Deadline)
	conn := c.link.c.Conn // past the look, which tells no answer from another
	quit, err := wire.Frame{Code: byte(milter.CodeQuit)}.Append(nil)
	if err != nil {
		return err
	}
	if _, err := conn.Write(quit); err != nil {
		return err
	}
	for r := wire.NewReader(conn); ; {
		f, err := r.Next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch milter.ActionCode(f.Code) {
		case milter.ActContinue, milter.ActAccept, wire.ActProgress:
		default:
			return errUninvited
		}
	}
}

// show sends header and body. It stops at the first answer that is no
// continue.
func (c *conversation) show(tx *policy.Transaction, v *view) (*milter.Action, error) {
	l := c.link
	d := dialect{leadSpace: l.ProtocolOption(milter.OptHeaderLeadingSpace)}
	goOn := &milter.Action{Code: milter.ActContinue}
	if !l.ProtocolOption(milter.OptNoHeaders) {
		if err := l.Macros(milter.CodeHeader, "i", tx.ID); err != nil {
			return nil, err
		}
		for _, f := range v.fields {
			if f.hidden || f.name == "" {
				continue
			}
			// Name and value as they are: the library's Header() changes the
			// case of the one and unfolds the other, and breaks signatures.
			act, err := l.HeaderField(f.name, noNUL(d.encode(f.body)))
			if err != nil || act.Code != milter.ActContinue {
				return act, err
			}
		}
	}
	if act, err := l.HeaderEnd(); err != nil || act.Code != milter.ActContinue {
		return act, err
	}
	if l.ProtocolOption(milter.OptNoBody) {
		return goOn, nil
	}
	// The library's BodyReadFrom loses what a reader returns together with its
	// end, so the chunks are cut here.
	buf := make([]byte, milter.MaxBodyChunk)
	for r := bodyOf(tx); ; {
		n, err := io.ReadFull(r, buf)
		if err != nil && err != io.EOF && err != io.ErrUnexpectedEOF {
			return nil, err
		}
		if n > 0 {
			l.c.restart() // each piece has the whole limit, and the answer, too
			if act, err := l.BodyChunk(buf[:n]); err != nil || act.Code != milter.ActContinue {
				return act, err
			}
		}
		if n < len(buf) {
			return goOn, nil
		}
	}
}

// bodyOf is the body as it goes on.
func bodyOf(tx *policy.Transaction) io.Reader {
	if b, ok := tx.Body(); ok {
		return bytes.NewReader(b)
	}
	return tx.Message.Body.Reader()
}
