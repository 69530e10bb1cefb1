package milter

import (
	"errors"
	"slices"

	"github.com/emersion/go-milter"
	"go.uber.org/zap"

	"github.com/moongate/moongate/milter/wire"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/message"
)

var errGone = errors.New("the MTA is gone before the answer")

// endOfMessage asks the last question and tells the MTA all that was decided:
// the changes, then the verdict. A milter's reply here is what the upstream's
// is at the SMTP door: limits are kept when it was given, and only then.
func (c *conn) endOfMessage(cmd wire.End) error {
	tx := c.s.Tx
	if tx == nil {
		if r := c.mail.trouble; !r.IsZero() {
			c.mail.trouble = policy.Reply{}
			return c.refuse(policy.Message, c.s.Refusal(r))
		}
		return c.act(milter.ActTempFail)
	}
	if len(cmd.Chunk) > 0 {
		c.keepBody(cmd.Chunk)
	}
	v := c.judgeHeader()
	if !v.Decided() && c.mail.trouble.IsZero() && !c.nobody() {
		if c.options.Protocol&milter.OptNoBody == 0 {
			if c.mail.spool == nil {
				c.mail.spool = c.srv.pool().New()
			}
			tx.Message.Body = c.mail.spool
			tx.SetMessage(tx.Message)
		}
		v = c.ask(&policy.Event{Hook: policy.Message})
	}
	o := c.outcome(v)
	switch {
	case !c.mail.trouble.IsZero():
		return c.conclude(refusalOf(c.mail.trouble, o))
	case v.Refuses():
		o.Reply = v.Reply
		return c.conclude(o)
	case v.Action != policy.Discard && c.nobody() && !tookAway(tx):
		// We never heard of one to whom it may go: no decision of the policy.
		return c.conclude(refusalOf(replyNotNow, o))
	case v.Action != policy.Discard && c.nobody() && (v.Action != policy.Quarantine || stays(tx) == nil):
		o.Action, o.By, o.Cause = policy.Discard, policy.ByPolicy, "no recipient is left"
	case v.Swallows():
	default:
		o.Action, o.By = policy.Accept, policy.ByUpstream
	}
	if o.Action != policy.Discard {
		if err := c.modify(o); err != nil {
			// A change that cannot be made is not dropped: nothing is delivered
			// other than the policy wanted it.
			c.out = c.out[:0]
			c.env.Log.Error("milter: edits cannot be made", zap.String(policy.KeyID, tx.ID), zap.Error(err))
			o.Cause = err.Error()
			return c.conclude(refusalOf(replyNotNow, o))
		}
	}
	return c.conclude(o)
}

// tookAway reports whether the policy dropped or removed a recipient.
func tookAway(tx *policy.Transaction) bool {
	return slices.ContainsFunc(tx.Rcpts, func(r *policy.Recipient) bool {
		return r.State == policy.RcptDropped || r.State == policy.RcptRemoved
	})
}

// stays finds those recipients who stay with a message on hold where there are no
// others: those that an edit removed, else those that a rule dropped of a message
// that was to be kept from MAIL on. It is nil if there are none of either.
func stays(tx *policy.Transaction) func(*policy.Recipient) bool {
	for _, gone := range []policy.RcptState{policy.RcptRemoved, policy.RcptDropped} {
		is := func(r *policy.Recipient) bool { return r.State == gone && !r.Added }
		if slices.ContainsFunc(tx.Rcpts, is) {
			return is
		}
	}
	return nil
}

// outcome is what a verdict comes to if nothing else is wrong with the message.
func (c *conn) outcome(v policy.Verdict) *policy.Outcome {
	c.s.Tx.Upstream = c.macros.get("j")
	return &policy.Outcome{Action: v.Action, Reply: ok, By: source(v), Size: c.size(), Verdict: v, QueuedAs: c.macros.get("i")}
}

// refusalOf turns an outcome into a refusal of moongate's own.
func refusalOf(r policy.Reply, o *policy.Outcome) *policy.Outcome {
	o.Action, o.Reply, o.By = policy.Reject, r, policy.ByMoongate
	if r.Code < 500 {
		o.Action = policy.Tempfail
	}
	return o
}

// concludeEarly ends a message at the end of its header.
func (c *conn) concludeEarly(v policy.Verdict) error {
	o := c.outcome(v)
	o.Reply = v.Reply
	return c.conclude(o)
}

// modify queues what is to be changed.
func (c *conn) modify(o *policy.Outcome) error {
	mods := modifications(c.s.Tx, c.dialect())
	if o.Action == policy.Quarantine {
		if c.nobody() {
			mods = keepSome(mods, c.s.Tx)
		}
		mods = append(mods, wire.Modification{Code: milter.ActQuarantine, Reason: quarantineReason(o.Verdict.Reason)})
	}
	mods, err := permitted(mods, c.options.Actions)
	if err != nil {
		return err
	}
	for _, m := range mods {
		f, err := m.Frame()
		if err != nil {
			return err
		}
		if err := c.send(f); err != nil {
			return err
		}
	}
	return nil
}

// keepSome leaves some recipients to a message on hold that has none: an MTA holds
// no message that is for nobody.
func keepSome(mods []wire.Modification, tx *policy.Transaction) []wire.Modification {
	kept := stays(tx)
	return slices.DeleteFunc(mods, func(m wire.Modification) bool {
		return m.Code == milter.ActDelRcpt && slices.ContainsFunc(tx.Rcpts, func(r *policy.Recipient) bool {
			return kept(r) && toRemove(r) == m.Addr
		})
	})
}

// maxReason bounds a quarantine's reason: it stands in a line of the MTA's log
// and queue file.
const maxReason = 500

// quarantineReason is the policy's reason as a packet and a log take it.
func quarantineReason(s string) string {
	if s == "" {
		return "held by policy"
	}
	return clean(s[:min(len(s), maxReason)])
}

// conclude gives the final answer and ends the transaction. What the MTA has
// not heard has not happened: an answer that cannot be written ends it as
// aborted.
func (c *conn) conclude(o *policy.Outcome) error {
	var err error
	meant := o.Reply.Code
	switch o.Action {
	case policy.Reject, policy.Tempfail:
		o.Reply = c.s.Refusal(o.Reply)
		var f wire.Frame
		if f, err = replyFrame(o.Reply); err == nil {
			err = c.send(f)
		}
	case policy.Discard:
		err = c.act(milter.ActDiscard)
	default:
		err = c.act(milter.ActAccept)
	}
	if err == nil && c.ctx.Err() != nil {
		err = errGone
	}
	if err == nil {
		err = c.tell()
	}
	if err != nil {
		o = &policy.Outcome{By: policy.ByClient, Cause: err.Error(), Size: o.Size, Verdict: o.Verdict}
	} else {
		c.s.Tell(&policy.Event{Hook: policy.Answered, Verb: "DATA", Reply: o.Reply, By: o.By, Cause: o.Cause, Meant: meant})
	}
	c.tellEnd(&policy.Event{Hook: policy.Done, Outcome: o})
	c.forget()
	return err
}

// size is the octets of the message as received; 0 if its body did not come.
func (c *conn) size() int64 {
	if c.options.Protocol&milter.OptNoBody != 0 || c.s.Tx.Message == nil {
		return 0
	}
	return int64(c.s.Tx.Message.Header.Size()) + 2 + c.mail.size
}

// defaultPool serves servers that were given none.
var defaultPool message.Pool

func (s *Server) pool() *message.Pool {
	if s.Pool != nil {
		return s.Pool
	}
	return &defaultPool
}
