package lua

import (
	"fmt"
	"math"
	"strings"

	glua "github.com/yuin/gopher-lua"
)

// stringFormat is C's printf as far as Lua offers it. Go's fmt does the digits; what differs is done here.
func stringFormat(L *glua.LState) int {
	f := checkString(L, 1)
	out := builder{L: L, m: MeterOf(L)}
	out.m.Charge(int64(len(f)) >> 3)
	arg := 1
	for {
		i := strings.IndexByte(f, '%')
		if i < 0 {
			out.put(f)
			break
		}
		out.put(f[:i])
		f = f[i+1:]
		if strings.HasPrefix(f, "%") {
			out.putByte('%')
			f = f[1:]
			continue
		}
		var d directive
		f = d.parse(L, f)
		arg++
		L.CheckAny(arg)
		out.put(d.text(L, arg))
	}
	return pushString(L, out.b.String())
}

// directive is one %-5.2f.
type directive struct {
	flags       string
	width, prec int // -1: none
	verb        byte
}

func (d *directive) parse(L *glua.LState, f string) (rest string) {
	n := 0
	for n < len(f) && strings.IndexByte("-+ #0", f[n]) >= 0 {
		n++
	}
	if n > 5 {
		L.RaiseError("invalid format (repeated flags)")
	}
	d.flags, f = f[:n], f[n:]
	d.width, f = digits(L, f)
	d.prec = -1
	if strings.HasPrefix(f, ".") {
		d.prec, f = digits(L, f[1:])
		d.prec = max(d.prec, 0)
	}
	if f == "" {
		L.RaiseError("invalid format (ends with '%s')", "%")
	}
	d.verb = f[0]
	return f[1:]
}

// digits reads a number of at most two digits, as Lua allows; -1 for none.
func digits(L *glua.LState, f string) (n int, rest string) {
	n = -1
	i := 0
	for ; i < len(f) && isDigit(f[i]); i++ {
		if i == 2 {
			L.RaiseError("invalid format (width or precision too long)")
		}
		n = max(n, 0)*10 + int(f[i]-'0')
	}
	return n, f[i:]
}

func (d *directive) has(flag byte) bool { return strings.IndexByte(d.flags, flag) >= 0 }

func (d *directive) text(L *glua.LState, arg int) string {
	switch d.verb {
	case 'd', 'i':
		return d.printf('d', integer(checkNumber(L, arg)))
	case 'u':
		return d.printf('d', uint64(integer(checkNumber(L, arg))))
	case 'o', 'x', 'X':
		n := uint64(integer(checkNumber(L, arg)))
		if n == 0 { // C writes no prefix for a zero
			d.flags = strings.ReplaceAll(d.flags, "#", "")
		}
		return d.printf(rune(d.verb), n)
	case 'c':
		return d.pad(string([]byte{byte(checkInt(L, arg))}))
	case 'e', 'E', 'f', 'g', 'G':
		return d.float(checkNumber(L, arg))
	case 'q':
		return quote(checkString(L, arg))
	case 's':
		s := toString(L, L.Get(arg))
		if d.prec >= 0 && d.prec < len(s) {
			s = s[:d.prec]
		}
		return d.pad(s)
	}
	L.RaiseError("invalid option '%%%s' to 'format'", printable(d.verb))
	return ""
}

func printable(c byte) string {
	if c > ' ' && c < 127 {
		return string(rune(c))
	}
	return fmt.Sprintf("\\%d", c)
}

// integer cuts a number as a C cast does, with the ends for what does not fit.
func integer(f float64) int64 {
	switch {
	case f >= math.MaxInt64:
		return math.MaxInt64
	case f <= math.MinInt64 || math.IsNaN(f):
		return math.MinInt64
	}
	return int64(f)
}

func (d *directive) printf(verb rune, v any) string {
	spec := "%" + d.flags
	if d.width >= 0 {
		spec += fmt.Sprint(d.width)
	}
	if d.prec >= 0 {
		spec += "." + fmt.Sprint(d.prec)
	}
	return fmt.Sprintf(spec+string(verb), v)
}

func (d *directive) float(f float64) string {
	if math.IsInf(f, 0) || math.IsNaN(f) {
		s := formatNumber(f)
		if d.has('+') && s[0] != '-' {
			s = "+" + s
		}
		if d.verb == 'E' || d.verb == 'G' {
			s = strings.ToUpper(s)
		}
		return d.pad(s)
	}
	if d.prec < 0 {
		d.prec = 6 // Go's %g would take the shortest
	}
	return d.printf(rune(d.verb), f)
}

// pad counts octets, as C does; fmt would count characters.
func (d *directive) pad(s string) string {
	if len(s) >= d.width {
		return s
	}
	fill := strings.Repeat(" ", d.width-len(s))
	if d.has('-') {
		return s + fill
	}
	return fill + s
}

// quote writes a string so that Lua reads it back.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '"', '\\', '\n':
			b.WriteByte('\\')
			b.WriteByte(c)
		case '\r':
			b.WriteString(`\r`)
		case 0:
			b.WriteString(`\000`)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
