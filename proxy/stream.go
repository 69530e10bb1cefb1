package proxy

import (
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/message"
)

// stream is the way of a body that nobody has to see whole: DATA is opened
// upstream when the header was judged, and the body flows through.
type stream struct {
	s     *session
	msg   *message.Message
	w     BodyWriter
	ended bool
}

// begin opens DATA, unless it is open already, and sends the header.
func (st *stream) begin() *policy.Outcome {
	s := st.s
	s.addReceived()
	if st.w == nil {
		if len(s.policy.Tx.Recipients()) == 0 {
			st.ended = true
			return nobodyLeft()
		}
		w, _, o := s.openData()
		if o != nil {
			st.ended = true
			return s.orCut(o)
		}
		st.w = w
	}
	return st.write(s.headerOut(st.msg))
}

func (st *stream) write(b []byte) *policy.Outcome {
	if len(b) == 0 {
		return nil
	}
	st.s.wait()
	_, err := st.w.Write(b)
	st.s.proceed()
	if err != nil {
		return st.s.orCut(hopFailed(err))
	}
	return nil
}

func (st *stream) end() *policy.Outcome {
	st.ended = true
	return st.s.finalReply(st.w)
}

// drop closes the connection: an abandoned DATA ends with no dot.
func (st *stream) drop() {
	if !st.ended {
		st.ended = true
		st.s.relay.abort()
	}
}

// headerOut is the header as it goes on, with the empty line behind it. Where
// the message had none, one is put in if an edit would have the upstream read
// as header what we took for body: that body begins with a blank and would be
// the fold of a field that we put there, or an mbox line begins it, which ends a
// header and stands in front of one, and the last field was removed; or it is
// a new body, which may begin with anything.
func (s *session) headerOut(m *message.Message) []byte {
	h := s.policy.Tx.Header()
	had, has := hasFields(m.Header), hasFields(h)
	_, replaced := s.policy.Tx.Body()
	b := h.Append(make([]byte, 0, h.Size()+2))
	if m.Blank || replaced || had && !has || has && s.looseBody {
		b = append(b, crlf...)
	}
	return b
}

// hasFields reports a header that is more than mbox lines.
func hasFields(h *message.Header) bool { return h.Len() > h.Mbox() }

// sink is the way of a body that goes nowhere: it was discarded, or every
// recipient was dropped.
type sink struct{ s *session }

func (k *sink) write([]byte) *policy.Outcome { return nil }

func (k *sink) end() *policy.Outcome {
	if k.s.swallow.Swallows() {
		return k.s.swallowed(k.s.swallow)
	}
	return nobodyLeft()
}

func (k *sink) drop() {}
