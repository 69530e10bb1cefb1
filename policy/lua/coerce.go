package lua

import (
	"math"

	glua "github.com/yuin/gopher-lua"
)

// coercions are the arithmetic metamethods of strings. The VM looks for them before its own conversion, which reads
// "010" as eight, "1_000" as a thousand and "0b1" as one.
func coercions() map[string]glua.LGFunction {
	funcs := map[string]glua.LGFunction{}
	for event, op := range map[string]func(a, b float64) float64{
		"__add": func(a, b float64) float64 { return a + b },
		"__sub": func(a, b float64) float64 { return a - b },
		"__mul": func(a, b float64) float64 { return a * b },
		"__div": func(a, b float64) float64 { return a / b },
		"__mod": modulo,
		"__pow": math.Pow,
		"__unm": func(a, _ float64) float64 { return -a },
	} {
		funcs[event] = func(L *glua.LState) int {
			a, aok := number(L.Get(1))
			b, bok := number(L.Get(2))
			if event == "__unm" {
				b, bok = 0, true
			}
			if aok && bok {
				L.Push(glua.LNumber(op(a, b)))
				return 1
			}
			// The string came first, but the other operand may know the operation.
			for i := 1; i <= 2; i++ {
				v := L.Get(i)
				if mm, ok := L.GetMetaField(v, event).(*glua.LFunction); ok && v.Type() != glua.LTString {
					L.Push(mm)
					L.Push(L.Get(1))
					L.Push(L.Get(2))
					L.Call(2, 1)
					return 1
				}
			}
			bad := L.Get(1)
			if aok {
				bad = L.Get(2)
			}
			if str, ok := bad.(glua.LString); ok {
				L.RaiseError("attempt to calculate with the text '%s'", keyText(str))
			}
			L.RaiseError("attempt to calculate with a %s value", bad.Type())
			return 0
		}
	}
	return funcs
}

// number converts as arithmetic does.
func number(v glua.LValue) (float64, bool) {
	switch v := v.(type) {
	case glua.LNumber:
		return float64(v), true
	case glua.LString:
		return parseNumber(string(v))
	}
	return 0, false
}

// modulo is a - floor(a/b)*b, as Lua 5.1 defines it.
func modulo(a, b float64) float64 {
	r := math.Mod(a, b)
	if r != 0 && (r < 0) != (b < 0) {
		r += b
	}
	return r
}
