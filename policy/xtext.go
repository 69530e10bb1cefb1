package policy

import (
	"errors"
	"strconv"
)

// AppendXtext appends s in the xtext of RFC 3461 4, in which any value is one
// word: what is not printable ASCII, "+" and "=" become "+" and two upper case
// digits. plain, unless it is nil, says which of the other octets stand as they
// are: for a reader that takes fewer than the RFC does.
func AppendXtext(b []byte, s string, plain func(c byte) bool) []byte {
	const digits = "0123456789ABCDEF"
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c > ' ' && c <= '~' && c != '+' && c != '=' && (plain == nil || plain(c)) {
			b = append(b, c)
		} else {
			b = append(b, '+', digits[c>>4], digits[c&15])
		}
	}
	return b
}

var errXtext = errors.New("a + without two hexadecimal digits")

// DecodeXtext is the way back. By choice it also takes what a lenient writer
// leaves as it is, and lower case digits, as a Postfix does.
func DecodeXtext(s string) (string, error) {
	var b []byte
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c == '+' {
			if i+2 >= len(s) {
				return "", errXtext
			}
			n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				return "", errXtext
			}
			c, i = byte(n), i+2
		}
		b = append(b, c)
	}
	return string(b), nil
}
