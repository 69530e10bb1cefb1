package message

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// Field is one header field, or a leading mbox "From " line, which is none and
// has no name. It never changes, and headers share it: the pointer tells one
// field from another.
type Field struct {
	raw    []byte // with CRLF; folds are inside
	colon  int16  // index of the colon in raw, below maxName; -1 for an mbox line
	name   int16  // length of the name
	origin int32  // 1-based occurrence of this name as received; 0 if it was added
}

// Name returns the field name as it was written, without blanks before the
// colon.
func (f Field) Name() string { return string(f.raw[:f.name]) }

// Is reports whether the field has this name, without regard to case.
func (f Field) Is(name string) bool {
	if int(f.name) != len(name) {
		return false
	}
	for i, c := range f.raw[:f.name] { // a name is ASCII
		if d := name[i]; c != d && lower(c) != lower(d) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// Raw returns the octets of the field with its CRLF.
func (f Field) Raw() []byte { return f.raw }

// Body returns what stands behind the colon, leading blank and folds included,
// without the final CRLF.
func (f Field) Body() string {
	return strings.TrimSuffix(string(f.raw[f.colon+1:]), "\r\n")
}

// Value returns the unfolded body, blanks around it removed. RFC 5322 2.2.3.
func (f Field) Value() string {
	v := f.raw[f.colon+1:]
	if bytes.IndexByte(v, '\n') < len(v)-1 {
		v = bytes.ReplaceAll(v, []byte("\r\n"), nil)
	}
	return string(bytes.Trim(v, " \t\r\n"))
}

// Origin returns the 1-based occurrence of the field among those of its name
// as received, and 0 for a field that was added: milters count so. It is known
// in a Clone, which is what edits are made to.
func (f Field) Origin() int { return int(f.origin) }

// IsField reports whether it is a field at all, and no mbox line.
func (f Field) IsField() bool { return f.colon >= 0 }

func newField(name, body string) *Field {
	raw := make([]byte, 0, len(name)+len(body)+3)
	raw = append(append(append(raw, name...), ':'), body...)
	raw = append(raw, '\r', '\n')
	return &Field{raw: raw, colon: int16(len(name)), name: int16(len(name))}
}

// Errors of CheckField.
var (
	errFieldName = errors.New("a header name is printable ASCII without blank and colon (RFC 5322 2.2)")
	ErrFieldLine = errors.New("a header line is longer than 998 octets (RFC 5322 2.1.1)")
)

// CheckField checks a field before it is added: the name by RFC 5322 2.2, the
// body (as it stands behind the colon, leading blank included) for octets that
// would end the field: CR and LF only as folds, no NUL. ErrFieldLine says that
// nothing else is wrong with it.
func CheckField(name, body string) error {
	if name == "" || len(name) > 76 {
		return errFieldName
	}
	for i := 0; i < len(name); i++ {
		if name[i] <= ' ' || name[i] > '~' || name[i] == ':' {
			return errFieldName
		}
	}
	line, long := len(name)+1, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case c == '\r':
			if i+2 >= len(body) || body[i+1] != '\n' || body[i+2] != ' ' && body[i+2] != '\t' {
				return fmt.Errorf("the value of %s holds a line end", name)
			}
			i++
			line = -1
		case c == '\n':
			return fmt.Errorf("the value of %s holds a line end", name)
		case c == 0:
			return fmt.Errorf("the value of %s holds a NUL", name)
		}
		line++
		long = long || line > 998
	}
	if long {
		return ErrFieldLine
	}
	return nil
}
