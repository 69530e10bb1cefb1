package proxy

import (
	"bytes"
	"io"
)

// encodeState is where in a line the encoder stands.
type encodeState uint8

const (
	encStart encodeState = iota
	encText
	encCR // behind a CR, which is not written yet
)

// encoder writes a message as it travels behind DATA: a dot at the start of a
// line is doubled (RFC 5321 4.5.2), and no CR or LF leaves but as CRLF,
// whatever was written into it: the decoder and the edits have seen to that
// already, and this is the last door. The final dot is written by End and by
// nothing else.
type encoder struct {
	w     io.Writer
	state encodeState
}

var (
	dots     = []byte("..")
	finalDot = []byte(" \r\n.\r\n")
)

// Write writes a piece of the message.
func (e *encoder) Write(b []byte) (int, error) {
	from, p := 0, 0 // b[from:p] goes out as it is
	for p < len(b) {
		if e.state == encCR {
			if b[p] == '\n' {
				p++
				if err := e.put(crlf); err != nil {
					return 0, err
				}
				e.state, from = encStart, p
				continue
			}
			if err := e.put(blank); err != nil {
				return 0, err
			}
			e.state = encText
		}
		if e.state == encStart && b[p] == '.' {
			if err := e.run(b[from:p], dots); err != nil {
				return 0, err
			}
			p++
			e.state, from = encText, p
			continue
		}
		i := bytes.IndexByte(b[p:], '\n')
		line := b[p:]
		if i >= 0 {
			line = b[p : p+i]
		}
		cr := bytes.IndexByte(line, '\r')
		switch {
		case i > 0 && cr == i-1: // a clean line
			p += i + 1
			e.state = encStart
		case cr >= 0: // a CR that is stray, or the last octet here
			if err := e.run(b[from:p+cr], nil); err != nil {
				return 0, err
			}
			p += cr + 1
			e.state, from = encCR, p
		case i >= 0: // a bare LF
			if err := e.run(b[from:p+i], crlf); err != nil {
				return 0, err
			}
			p += i + 1
			e.state, from = encStart, p
		default:
			p = len(b)
			e.state = encText
		}
	}
	return len(b), e.run(b[from:p], nil)
}

// End completes the last line and writes the final dot.
func (e *encoder) End() error {
	switch e.state {
	case encStart:
		return e.put(finalDot[3:])
	case encCR:
		return e.put(finalDot)
	}
	return e.put(finalDot[1:])
}

func (e *encoder) run(b, then []byte) error {
	if len(b) > 0 {
		if err := e.put(b); err != nil {
			return err
		}
	}
	if then == nil {
		return nil
	}
	return e.put(then)
}

func (e *encoder) put(b []byte) error {
	_, err := e.w.Write(b)
	return err
}
