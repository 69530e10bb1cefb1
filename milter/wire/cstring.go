package wire

import (
	"bytes"
	"fmt"
	"strings"
)

// maxStrings bounds the strings of one packet. Each costs a header of its own,
// so a packet of NULs would take sixteen times its size. No MTA comes near: an
// SMTP command has a few arguments (Sendmail takes 20), a stage a few macros.
const maxStrings = 1000

// splitStrings cuts data into its C-strings. Every one must end in NUL: a
// parser that takes what is left for a string is how a peer shifts fields.
func splitStrings(data []byte) ([]string, error) {
	if len(data) == 0 {
		return nil, nil
	}
	if data[len(data)-1] != 0 {
		return nil, fmt.Errorf("%w: string without its NUL", ErrMalformed)
	}
	n := bytes.Count(data, []byte{0})
	if n > maxStrings {
		return nil, fmt.Errorf("%w: %d strings", ErrMalformed, n)
	}
	out := make([]string, 0, n)
	for len(data) > 0 {
		i := bytes.IndexByte(data, 0)
		out = append(out, string(data[:i]))
		data = data[i+1:]
	}
	return out, nil
}

// cutString takes one C-string off the front of data.
func cutString(data []byte) (s string, rest []byte, err error) {
	i := bytes.IndexByte(data, 0)
	if i < 0 {
		return "", nil, fmt.Errorf("%w: string without its NUL", ErrMalformed)
	}
	return string(data[:i]), data[i+1:], nil
}

// oneString takes data that is one C-string and nothing more.
func oneString(data []byte) (string, error) {
	s, rest, err := cutString(data)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%w: %d octets behind the string", ErrMalformed, len(rest))
	}
	return s, err
}

// A builder makes the data of a frame. A string that holds a NUL would become
// two fields at the peer, so it is an error, kept until the end.
type builder struct {
	data []byte
	err  error
}

func (b *builder) str(ss ...string) {
	for _, s := range ss {
		if strings.IndexByte(s, 0) >= 0 && b.err == nil {
			b.err = fmt.Errorf("%w: NUL inside %.40q", ErrMalformed, s)
		}
		b.data = append(append(b.data, s...), 0)
	}
}

func (b *builder) frame(code byte) (Frame, error) {
	if b.err != nil {
		return Frame{}, b.err
	}
	return Frame{Code: code, Data: b.data}, nil
}
