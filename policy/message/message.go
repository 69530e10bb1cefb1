package message

import "io"

// Message is a message as received: what the front-end read between DATA and
// the final dot, dot-stuffing removed, line ends CRLF.
type Message struct {
	Header *Header
	Blank  bool   // an empty line stands between header and body (it may be missing)
	Body   *Spool // nil while only the header is here
}

// Size returns the octets of header, empty line and body, and false while the
// body is not here.
func (m *Message) Size() (int64, bool) {
	if m.Body == nil {
		return 0, false
	}
	n := int64(m.Header.Size()) + m.Body.Len()
	if m.Blank {
		n += 2
	}
	return n, true
}

// WriteTo writes header h (as it goes on), the empty line and the body.
func (m *Message) WriteTo(w io.Writer) (int64, error) {
	b := m.Header.Append(nil)
	if m.Blank {
		b = append(b, '\r', '\n')
	}
	n, err := w.Write(b)
	if err != nil || m.Body == nil {
		return int64(n), err
	}
	k, err := m.Body.WriteTo(w)
	return int64(n) + k, err
}

// Close frees the body.
func (m *Message) Close() error {
	if m == nil || m.Body == nil {
		return nil
	}
	return m.Body.Close()
}
