package lua

import (
	"math"
	"strconv"
	"strings"
)

// formatNumber writes a number as Lua 5.1 does (%.14g), but by choice without the sign of a zero: the VM's -3 % 3 has one
// where Lua's has none.
func formatNumber(f float64) string {
	if f == math.Trunc(f) && math.Abs(f) < 1e14 {
		return strconv.FormatInt(int64(f), 10)
	}
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	}
	return strconv.FormatFloat(f, 'g', 14, 64)
}

// parseNumber reads a numeral as Lua 5.1 does: decimal with an exponent, or hexadecimal, with blanks around it.
// Go's own parsers also take octal, binary, underscores, "inf" and "nan".
func parseNumber(s string) (float64, bool) {
	s = strings.Trim(s, " \t\n\v\f\r")
	body := s
	neg := false
	if body != "" && (body[0] == '-' || body[0] == '+') {
		neg = body[0] == '-'
		body = body[1:]
	}
	if len(body) > 2 && body[0] == '0' && body[1]|0x20 == 'x' {
		var f float64
		for i := 2; i < len(body); i++ {
			d, ok := digit(body[i])
			if !ok || d > 15 {
				return 0, false
			}
			f = f*16 + float64(d)
		}
		if neg {
			f = -f
		}
		return f, true
	}
	if !decimal(body) {
		return 0, false
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil || math.IsInf(f, 0)
}

// decimal checks digits [. digits] [e [sign] digits], with a digit before the exponent.
func decimal(s string) bool {
	i, digits := 0, 0
	for ; i < len(s) && isDigit(s[i]); i++ {
		digits++
	}
	if i < len(s) && s[i] == '.' {
		for i++; i < len(s) && isDigit(s[i]); i++ {
			digits++
		}
	}
	if digits == 0 {
		return false
	}
	if i < len(s) && s[i]|0x20 == 'e' {
		i++
		if i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		from := i
		for ; i < len(s) && isDigit(s[i]); i++ {
		}
		if i == from {
			return false
		}
	}
	return i == len(s)
}

// digit is the value of c in bases up to 36.
func digit(c byte) (int, bool) {
	switch {
	case isDigit(c):
		return int(c - '0'), true
	case isAlpha(c):
		return int(c|0x20-'a') + 10, true
	}
	return 0, false
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }
func isAlpha(c byte) bool { c |= 0x20; return c >= 'a' && c <= 'z' }
