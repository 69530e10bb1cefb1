package lua

import (
	"strings"

	glua "github.com/yuin/gopher-lua"
)

// builder makes a long string out of pieces, each paid before it is added.
type builder struct {
	L *glua.LState
	m *Meter
	b strings.Builder
}

func (b *builder) put(s string) {
	b.m.Alloc(b.L, int64(len(s)))
	b.b.WriteString(s)
}

func (b *builder) putByte(c byte) {
	b.m.Alloc(b.L, 1)
	b.b.WriteByte(c)
}

// stringGsub replaces matches by a string with %1, a table's entry or a function's result.
func stringGsub(L *glua.LState) int {
	s, pat := checkString(L, 1), checkString(L, 2)
	repl := L.Get(3)
	switch repl.Type() {
	case glua.LTString, glua.LTNumber, glua.LTTable, glua.LTFunction:
	default:
		L.ArgError(3, "string, function or table expected, got "+repl.Type().String())
	}
	limit := optInt(L, 4, len(s)+1)
	m := &matcher{src: s, pat: pat}
	out := builder{L: L, m: MeterOf(L)}
	anchored := strings.HasPrefix(pat, "^")
	count, pos := 0, 0
	for count < limit && pos <= len(s) {
		start, end := search(L, m, pos, true)
		if start < 0 || anchored && start != pos {
			break
		}
		count++
		out.m.Work(L, 4)
		out.put(s[pos:start])
		replace(&out, m, repl, start, end)
		if pos = end; end == start { // an empty match: one octet goes by as it is
			if start < len(s) {
				out.putByte(s[start])
			}
			pos++
		}
		if anchored {
			break
		}
	}
	if count == 0 {
		L.Push(glua.LString(s))
	} else {
		if pos < len(s) {
			out.put(s[pos:])
		}
		L.Push(glua.LString(out.b.String()))
	}
	L.Push(glua.LNumber(count))
	return 2
}

func replace(out *builder, m *matcher, repl glua.LValue, start, end int) {
	L := out.L
	var v glua.LValue
	switch r := repl.(type) {
	case *glua.LTable:
		key := glua.LValue(glua.LString(m.src[start:end]))
		if m.level > 0 {
			key = captured(L, m, 0)
		}
		v = L.GetTable(r, key)
	case *glua.LFunction:
		L.Push(r)
		level := m.level
		L.Call(pushCaptures(L, m, start, end, true), 1)
		m.level = level
		v = L.Get(-1)
		L.Pop(1)
	default:
		text, _ := textOf(repl)
		template(out, m, text, start, end)
		return
	}
	if glua.LVIsFalse(v) {
		out.put(m.src[start:end])
		return
	}
	text, ok := textOf(v)
	if !ok {
		L.RaiseError("invalid replacement value (a %s)", v.Type())
	}
	out.put(text)
}

// template puts a replacement string, with %0 to %9.
func template(out *builder, m *matcher, text string, start, end int) {
	L := out.L
	for {
		i := strings.IndexByte(text, '%')
		if i < 0 || i+1 >= len(text) {
			out.put(text)
			return
		}
		out.put(text[:i])
		c := text[i+1]
		text = text[i+2:]
		switch {
		case !isDigit(c):
			out.putByte(c)
		case c == '0' || c == '1' && m.level == 0:
			out.put(m.src[start:end])
		case int(c-'1') >= m.level:
			L.RaiseError("invalid capture index %%%c in the replacement", c)
		default:
			t, _ := textOf(captured(L, m, int(c-'1')))
			out.put(t)
		}
	}
}
