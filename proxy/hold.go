package proxy

import (
	"errors"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/message"
)

// hold is the way of a body that the policy has to see whole, or that is to be
// quarantined: it is kept in a spool, and DATA is opened upstream only when
// all has been said about it.
type hold struct {
	s       *session
	msg     *message.Message
	spool   *message.Spool
	ask     bool           // about the message
	verdict policy.Verdict // quarantine, if it is decided already
}

func (h *hold) write(b []byte) *policy.Outcome {
	if h.spool == nil {
		h.spool = h.s.set.Spool.New()
	}
	if _, err := h.spool.Write(b); err != nil {
		cause := err.Error()
		if !errors.Is(err, message.ErrFull) {
			cause = "spool: " + cause
		}
		return outcome(replyNoSpace, policy.ByMoongate, cause)
	}
	return nil
}

// end asks about the message and sends it.
func (h *hold) end() *policy.Outcome {
	s := h.s
	if h.spool == nil {
		h.spool = s.set.Spool.New()
	}
	h.msg.Body, h.spool = h.spool, nil // the transaction closes it
	s.policy.Tx.SetMessage(h.msg)
	v := h.verdict
	if h.ask {
		v = s.ask(policy.Message)
	}
	if o := s.cut(); o != nil {
		return o
	}
	switch {
	case v.Refuses():
		return verdictOutcome(v)
	case v.Swallows():
		return s.swallowed(v)
	}
	s.delay(v)
	if o := s.cut(); o != nil {
		return o
	}
	return h.send()
}

// send gives the message to the upstream.
func (h *hold) send() *policy.Outcome {
	s, tx := h.s, h.s.policy.Tx
	if len(tx.Recipients()) == 0 {
		return nobodyLeft()
	}
	s.addReceived()
	body, replaced := tx.Body()
	header := s.headerOut(h.msg)
	s.relay.size = int64(len(header)) + h.msg.Body.Len()
	if replaced {
		s.relay.size = int64(len(header) + len(body))
	}
	w, _, o := s.openData()
	if o != nil {
		return s.orCut(o)
	}
	s.wait()
	_, err := w.Write(header)
	switch {
	case err != nil:
	case replaced:
		_, err = w.Write(body)
	default:
		_, err = h.msg.Body.WriteTo(w)
	}
	s.proceed()
	if err != nil {
		s.relay.abort()
		return s.orCut(hopFailed(err))
	}
	return s.finalReply(w)
}

// drop frees what was kept of a message that did not end.
func (h *hold) drop() {
	if h.spool != nil {
		h.spool.Close()
		h.spool = nil
	}
}
