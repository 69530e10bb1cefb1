package proxy

import (
	"bytes"
	"errors"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/message"
)

// maxHops is how many Received fields make a loop. RFC 5321 6.3.
const maxHops = 50

// errFlood ends a session whose client goes on sending long after its message
// was refused.
var errFlood = errors.New("too much data behind a refusal")

// way is how a body goes on once the header was judged: it streams to the
// upstream, is held, or is read and forgotten.
type way interface {
	// write takes octets of the body, valid during the call. An outcome is the
	// answer to the message; the way is dropped.
	write(b []byte) *policy.Outcome
	// end is called at the end of the message and returns the answer.
	end() *policy.Outcome
	// drop is called if the message does not end; it may follow end.
	drop()
}

// intake reads one message: first the header, which is judged, then the body,
// which goes its way. Once the answer is known the rest is read and forgotten,
// up to a bound.
type intake struct {
	s    *session
	dec  *decoder
	open BodyWriter // DATA is open upstream already
	msg  *message.Message

	head   []byte // until the header was judged
	line   int    // where its unfinished line begins
	fields int    // how many there are so far, mbox lines included
	past   bool   // mbox lines are possible no more

	way    way
	answer *policy.Outcome // set: the rest is read and forgotten
	size   int64
	limit  int64 // of size
}

func newIntake(s *session) *intake {
	mode := bareNormalize
	if s.set.RejectBare {
		mode = bareReject
	}
	return &intake{s: s, dec: newDecoder(mode, s.set.Limits.Line), limit: s.limitSize()}
}

// read reads up to the final dot. After an error the connection is dead.
func (in *intake) read() error {
	take := in.take
	for {
		in.s.readBy()
		span, err := in.s.in.Span()
		if err != nil {
			return err
		}
		in.s.clock.heard(len(span), in.s.in.waited)
		used, end, err := in.dec.Next(span, take)
		in.s.in.Consume(used)
		switch {
		case err != nil:
			return err
		case in.dec.TooLong:
			in.refuse(replyBigLine)
		case in.dec.Bare:
			in.refuse(replyBare)
		}
		if end {
			return nil
		}
	}
}

// take gets the decoded octets.
func (in *intake) take(b []byte) error {
	in.size += int64(len(b))
	if in.answer == nil && in.size > in.limit {
		in.refuse(replyTooBig)
	}
	if in.answer != nil {
		if in.size > 3*in.s.set.Limits.Size {
			return errFlood
		}
		return nil
	}
	if in.way != nil {
		in.settle(in.way.write(b))
		return nil
	}
	b, ends := in.header(b)
	switch {
	case len(in.head) > in.s.set.Limits.Header || in.fields > message.MaxFields:
		in.refuse(replyBigHeader)
	case ends:
		in.judge(b)
	}
	return nil
}

// settle makes an outcome the answer, if there is one.
func (in *intake) settle(o *policy.Outcome) {
	if o == nil || in.answer != nil {
		return
	}
	in.answer = o
	in.head = nil
	in.drop()
}

// refuse answers with a stated limit.
func (in *intake) refuse(r policy.Reply) { in.settle(outcome(r, policy.ByMoongate, "")) }

// header takes the lines of the header from b, and reports whether it is here
// whole: a line was seen that goes on with none. That line and what follows it
// are returned.
func (in *intake) header(b []byte) (body []byte, ends bool) {
	for len(b) > 0 {
		i := bytes.IndexByte(b, '\n') + 1
		if i == 0 {
			in.head = append(in.head, b...)
			return nil, false
		}
		line := b[:i]
		if len(in.head) > in.line { // its beginning came before
			in.head = append(in.head, line...)
			line = in.head[in.line:]
		}
		if !message.IsHeaderLine(line, in.fields == 0, !in.past) {
			if len(in.head) > in.line {
				b = append(bytes.Clone(line), b[i:]...)
				in.head = in.head[:in.line]
			}
			return b, true
		}
		in.past = in.past || !bytes.HasPrefix(bytes.TrimLeft(line, ">"), []byte("From "))
		if line[0] != ' ' && line[0] != '\t' {
			in.fields++
		}
		if len(in.head) == in.line {
			in.head = append(in.head, line...)
		}
		in.line, b = len(in.head), b[i:]
	}
	return nil, false
}

// judge hands the header to the policy and chooses the way of the body.
func (in *intake) judge(body []byte) {
	s := in.s
	h, _ := message.ParseHeader(in.head)
	in.msg = &message.Message{Header: h}
	if bytes.HasPrefix(body, crlf) {
		in.msg.Blank, body = true, body[2:]
	}
	in.head = nil // its octets live on in the fields
	s.looseBody = !in.msg.Blank && len(body) > 0 && (body[0] == ' ' || body[0] == '\t')
	s.policy.Tx.SetMessage(in.msg)
	switch {
	case s.swallow.Action == policy.Quarantine:
		in.way = &hold{s: s, msg: in.msg, verdict: s.swallow}
	case s.swallow.Swallows() || s.dropped:
		in.way = &sink{s: s}
	case h.Count("Received") > maxHops:
		in.refuse(replyLoop)
		return
	default:
		in.choose()
	}
	if in.answer == nil && len(body) > 0 {
		in.settle(in.way.write(body))
	}
}

// choose asks about the header.
func (in *intake) choose() {
	s := in.s
	if in.open == nil {
		v := s.ask(policy.Headers)
		if o := s.cut(); o != nil {
			in.settle(o)
			return
		}
		switch {
		case v.Refuses():
			in.settle(verdictOutcome(v))
			return
		case v.Action == policy.Quarantine:
			in.way = &hold{s: s, msg: in.msg, verdict: v}
			return
		case v.Swallows():
			s.swallow = v
			in.way = &sink{s: s}
			return
		}
		s.delay(v)
		if o := s.cut(); o != nil {
			in.settle(o)
			return
		}
		if s.policy.Wants(policy.Message) {
			in.way = &hold{s: s, msg: in.msg, ask: true}
			return
		}
	}
	st := &stream{s: s, msg: in.msg, w: in.open}
	in.way = st
	in.settle(st.begin())
}

// end returns the answer to a message that came whole.
func (in *intake) end() *policy.Outcome {
	if in.answer == nil && in.way == nil { // no body
		in.judge(nil)
	}
	if in.answer != nil {
		return in.answer
	}
	return in.way.end()
}

// drop ends the way before the message has ended; behind the end it does
// nothing.
func (in *intake) drop() {
	if in.way != nil {
		in.way.drop()
	} else if in.open != nil {
		in.s.relay.abort()
	}
}
