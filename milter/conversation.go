package milter

import (
	"context"
	"errors"
	"io"
	"strings"
	"syscall"
	"time"

	"github.com/emersion/go-milter"
	"go.uber.org/zap"

	"github.com/moongate/moongate/policy"
)

// A conversation is a filter's side of one session. The session's goroutine
// owns it.
//
// A failure costs the message under way, or the commands up to the next MAIL,
// and no more: there the filter is dialled again and told who the client is.
type conversation struct {
	f    *Filter
	link *link // nil: not connected

	greeted bool           // HELO was said on this link, and for this message
	content bool           // a message was begun and has not ended
	done    bool           // the filter wants to hear no more of this session
	heard   bool           // it was asked about the sender of this message
	skip    bool           // it wants to hear no more of this message
	late    policy.Verdict // decided earlier in this message, or where it could not be told
	said    policy.Action  // of this message, and it decides nothing: ACCEPT, or what a shadow would have decided
	failed  error          // why this message is not asked about
	fair    bool           // it had its time when it was last dialled, see lazyConn
	away    bool           // it failed before MAIL, where it is tried again
}

// version is macro {v}: what we call ourselves to filters.
const version = "moongate"

var (
	errNothing = errors.New("milter: nothing to say")
	errLost    = errors.New("milter: the connection was lost since MAIL")
	errChange  = errors.New("a change that cannot be made")
	errUnasked = errors.New("milter: it was not asked about the sender")
)

// Eval implements policy.Evaluator. Whatever happens to the filter is its
// on_error: it returns no error.
func (c *conversation) Eval(_ context.Context, s *policy.Session, ev *policy.Event) (policy.Verdict, error) {
	start := time.Now()
	v := c.recovered(s, ev)
	c.f.Metrics.answered(c.f.Name(), v, time.Since(start))
	if c.f.Shadow && v.Decided() {
		s.Env.Log.Info("shadow", zap.String(policy.KeyID, s.CurrentID()), zap.String(policy.KeyStage, ev.Hook.String()),
			zap.String(policy.KeyFilter, c.f.Name()), zap.String(policy.KeyVerdict, v.Action.String()),
			zap.String(policy.KeyReply, v.Reply.String()), zap.String(policy.KeyReason, v.Reason))
		if v.Failed { // nothing else was said, and its on_error is what would have counted
			return policy.Verdict{Failed: true, Reason: v.Reason, Shadow: true, Watched: v.Action}, nil
		}
		if ev.Hook != policy.Rcpt && ev.Hook != policy.Unknown { // there it is of one recipient, or of that command
			c.said = v.Action
		}
		v = policy.Verdict{}
	}
	v.Shadow = c.f.Shadow
	if ev.Hook == policy.Message && !v.Failed {
		c.sum(&v)
	}
	return v, nil
}

// sum makes of what was said about a message, at whatever command, what rules and
// the log are told: that the filter accepted, or what a shadow would have decided.
func (c *conversation) sum(v *policy.Verdict) {
	said := c.said
	if c.done {
		said = policy.Accept
	}
	switch {
	case c.f.Shadow:
		v.Watched = said
	case !v.Decided():
		v.Action = said
	}
}

// recovered is eval; a panic is a failure like any other. Where the conversation
// stands is not known then, so its connection is given up.
func (c *conversation) recovered(s *policy.Session, ev *policy.Event) (v policy.Verdict) {
	defer func() {
		if p := recover(); p != nil {
			v = c.fail(s, ev.Hook, s.Caught(p, ev.Hook))
		}
	}()
	return c.eval(s, ev)
}

func (c *conversation) eval(s *policy.Session, ev *policy.Event) policy.Verdict {
	switch ev.Hook {
	case policy.Mail:
		c.reset()
		c.heard, c.away = true, false
		if c.f.When != nil && !c.f.When(s) {
			c.skip = true
		}
	case policy.Auth, policy.Vrfy, policy.Headers: // a milter has no such question; the header goes with the body
		return policy.Verdict{}
	}
	ofMessage := ev.Hook > policy.Mail && ev.Hook <= policy.Message
	switch {
	case c.done || c.skip, c.away && ev.Hook == policy.Helo:
		return policy.Verdict{}
	case c.failed != nil:
		return c.onError(s, ev.Hook)
	case ofMessage && !c.heard && s.Tx.Swallowed(): // by a rule or another filter, before our turn
		return policy.Verdict{}
	case ofMessage && !c.heard: // never a pass, however it came about
		return c.fail(s, ev.Hook, errUnasked)
	case ofMessage && c.late.Decided():
		if ev.Hook == policy.Rcpt {
			return policy.Verdict{}
		}
		c.skip = c.f.Shadow // said once
		return c.late
	}
	v, err := c.ask(s, ev)
	if err != nil {
		return c.fail(s, ev.Hook, err)
	}
	if c.done || c.skip || v.Decided() {
		c.f.breaker.served()
	}
	if v.Decided() && (ev.Hook == policy.Mail || ev.Hook == policy.Data) {
		// The message has ended for the filter: libmilter gives no answer to
		// what comes then. It may go on for us, by a shadow's verdict, to be
		// swallowed, or with another DATA.
		c.late, c.skip = v, c.f.Shadow
	}
	return v
}

// ask says what an MTA would say at this hook and understands the answer.
// Between two messages a connection may be lost unseen: the filter was restarted,
// or closes those that say nothing for a while. It is not down, so it is dialled
// anew, and once more if that shows only in the saying.
func (c *conversation) ask(s *policy.Session, ev *policy.Event) (policy.Verdict, error) {
	between := ev.Hook <= policy.Mail || ev.Hook == policy.Unknown && !c.content
	if !between || c.link == nil {
		return c.say(s, ev)
	}
	c.link.c.until(c.f.commandTime(), ev.Deadline)
	err := c.link.c.quiet()
	if err == nil {
		var v policy.Verdict
		if v, err = c.say(s, ev); err == nil || !hungUp(err) || s.Ctx.Err() != nil {
			return v, err
		}
	}
	level := zap.DebugLevel
	if errors.Is(err, errUninvited) { // what it said of the last message may have been meant for another question
		level = zap.WarnLevel
	}
	s.Env.Log.Log(level, "filter dialled anew", zap.String(policy.KeySession, s.ID), zap.String(policy.KeyFilter, c.f.Name()), zap.Error(err))
	c.drop()
	return c.say(s, ev)
}

// hungUp reports an error by which a connection ends that the filter has
// closed, or on which it is out of step.
func hungUp(err error) bool {
	for _, e := range []error{errHungUp, errUninvited, io.EOF, syscall.EPIPE, syscall.ECONNRESET} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// say is ask on the connection there is, or on a new one.
func (c *conversation) say(s *policy.Session, ev *policy.Event) (policy.Verdict, error) {
	if ev.Hook >= policy.Rcpt && ev.Hook <= policy.Message && (c.link == nil || !c.content) {
		return policy.Verdict{}, errLost
	}
	if c.link == nil {
		v, err := c.connect(s, ev)
		if v.Refuses() {
			c.drop() // it is meant for the session: the next message hears it, too
		}
		if err != nil || v.Decided() || c.done || ev.Hook == policy.Connect {
			return v, err
		}
	}
	var act *milter.Action
	var err error
	switch ev.Hook {
	case policy.Helo:
		act, err = c.helo(s, ev)
	case policy.Mail:
		// rspamd forgets HELO with each message, libmilter does not mind to
		// hear it again.
		c.link.c.until(c.f.commandTime(), ev.Deadline)
		if err = c.abort(); err != nil {
			break
		}
		if !c.greeted && s.Helo != "" {
			act, err = c.helo(s, ev)
			if err != nil || act.Code != milter.ActContinue && act.Code != milter.ActDiscard { // which means nothing there
				break
			}
		}
		act, err = c.mail(s, ev)
	case policy.Rcpt:
		act, err = c.rcpt(s, ev)
	case policy.Data:
		act, err = c.data(s, ev)
	case policy.Unknown:
		act, err = c.unknown(ev)
	case policy.Message:
		return c.message(s, ev)
	default:
		return policy.Verdict{}, nil
	}
	if err == errNothing {
		return policy.Verdict{}, nil
	}
	if err != nil {
		return policy.Verdict{}, err
	}
	return c.verdict(act, ev.Hook)
}

// connect reaches the filter and says who the client is.
func (c *conversation) connect(s *policy.Session, ev *policy.Event) (policy.Verdict, error) {
	now := time.Now()
	limit := now.Add(c.f.connectTime())
	if !ev.Deadline.IsZero() && ev.Deadline.Before(limit) {
		limit = ev.Deadline
	}
	c.fair = limit.Sub(now) >= min(c.f.connectTime(), fairTime)
	l, err := c.f.dial(s.Ctx, limit)
	if err != nil {
		return policy.Verdict{}, err
	}
	c.link, c.greeted, c.content = l, false, false
	l.c.until(c.f.commandTime(), ev.Deadline)
	l.c.fair = l.c.fair || c.fair // what it took to be reached was its own
	host, family, port, addr := clientOf(&s.Facts)
	err = l.Macros(milter.CodeConn, pairs(
		"j", c.f.Hostname, "v", version, "_", strings.Trim(host, "[]")+" ["+addr+"]",
		"{daemon_name}", s.Listener, "{daemon_addr}", addrText(s.Local), "{daemon_port}", portText(s.Local), "{if_addr}", addrText(s.Local),
		"{client_addr}", addr, "{client_name}", nameOf(&s.Facts), "{client_port}", portText(s.Remote), "{client_ptr}", nameOf(&s.Facts))...)
	if err != nil {
		return policy.Verdict{}, err
	}
	act, err := l.Conn(host, family, port, addr)
	if err != nil {
		return policy.Verdict{}, err
	}
	c.f.breaker.reached()
	return c.verdict(act, policy.Connect)
}

// abort ends a message that the filter knows of.
func (c *conversation) abort() error {
	if !c.content {
		return nil
	}
	c.content, c.greeted = false, false
	return c.link.Abort()
}

// reset forgets the last message, the failure too.
func (c *conversation) reset() {
	c.heard, c.skip, c.failed, c.late, c.said = false, false, nil, policy.Verdict{}, policy.Continue
}

// Tell implements policy.Conversation: a message that went no further is
// aborted at the filter.
func (c *conversation) Tell(ev *policy.Event) {
	switch ev.Hook {
	case policy.Reset, policy.Done:
	case policy.Answered:
		if ev.Verb != "MAIL" || !ev.Reply.Refuses() {
			return
		}
	default:
		return
	}
	if c.link != nil && c.content {
		c.link.c.until(c.f.commandTime(), time.Time{})
		if err := c.abort(); err != nil {
			c.drop()
		}
	}
	c.reset()
}

// Close implements policy.Conversation. The socket is closed whatever happens.
func (c *conversation) Close() error {
	if c.link != nil {
		c.link.quit()
		c.link = nil
	}
	return nil
}

// drop closes a connection on which nothing can be understood any more.
func (c *conversation) drop() {
	if c.link != nil {
		c.link.drop()
		c.link = nil
	}
}
