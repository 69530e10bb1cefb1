package wire

import (
	"encoding/binary"
	"fmt"

	"github.com/emersion/go-milter"
)

// A Modification is one change that a filter asks for at the end of a message.
// Code says which of the fields count.
type Modification struct {
	Code   milter.ModifyActCode
	Addr   string   // '+' '2' '-' 'e': the address in its brackets
	Args   []string // '2' 'e': ESMTP arguments
	Index  uint32   // 'm': the k-th of that name, from 1; 'i': the place, from 0
	Name   string   // 'h' 'm' 'i'
	Value  string   // 'h' 'm' 'i'; empty with 'm' removes the field
	Body   []byte   // 'b': at most milter.MaxBodyChunk octets
	Reason string   // 'q'
}

// Frame is the modification as a packet.
func (m Modification) Frame() (Frame, error) {
	var b builder
	switch m.Code {
	case milter.ActAddRcpt, milter.ActDelRcpt:
		b.str(m.Addr)
	case ActAddRcptArgs, milter.ActChangeFrom:
		b.str(m.Addr)
		if args := join(m.Args); args != "" {
			b.str(args)
		}
	case milter.ActChangeHeader, milter.ActInsertHeader:
		b.data = binary.BigEndian.AppendUint32(b.data, m.Index)
		b.str(m.Name, m.Value)
	case milter.ActAddHeader:
		b.str(m.Name, m.Value)
	case milter.ActReplBody:
		if len(m.Body) > milter.MaxBodyChunk {
			return Frame{}, fmt.Errorf("%w: body chunk of %d octets", ErrFrameSize, len(m.Body))
		}
		b.data = m.Body
	case milter.ActQuarantine:
		b.str(m.Reason)
	default:
		return Frame{}, fmt.Errorf("%w: no such modification 0x%02x", ErrMalformed, byte(m.Code))
	}
	return b.frame(byte(m.Code))
}

// DecodeModification reads a modification; ok is false where the frame is none.
func DecodeModification(f Frame) (m Modification, ok bool, err error) {
	m.Code = milter.ModifyActCode(f.Code)
	data := f.Data
	switch m.Code {
	case milter.ActAddRcpt, milter.ActDelRcpt:
		m.Addr, err = oneString(data)
	case ActAddRcptArgs, milter.ActChangeFrom:
		var ss []string
		if ss, err = splitStrings(data); err == nil && len(ss) == 0 {
			err = fmt.Errorf("%w: no address", ErrMalformed)
		} else if err == nil {
			m.Addr, m.Args = ss[0], fields(ss[1:])
		}
	case milter.ActChangeHeader, milter.ActInsertHeader:
		if len(data) < 4 {
			return m, true, fmt.Errorf("%w: no header index", ErrMalformed)
		}
		m.Index, data = binary.BigEndian.Uint32(data), data[4:]
		m.Name, m.Value, err = twoStrings(data)
	case milter.ActAddHeader:
		m.Name, m.Value, err = twoStrings(data)
	case milter.ActReplBody:
		m.Body = data
	case milter.ActQuarantine:
		m.Reason, err = oneString(data)
	default:
		return Modification{}, false, nil
	}
	return m, true, err
}

func twoStrings(data []byte) (a, b string, err error) {
	if a, data, err = cutString(data); err == nil {
		b, err = oneString(data)
	}
	return a, b, err
}

// Act is the packet of a bare answer: continue, accept, reject and their kin.
func Act(a milter.ActionCode) Frame { return Frame{Code: byte(a)} }
