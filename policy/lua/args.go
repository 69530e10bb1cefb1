package lua

import (
	"math"

	glua "github.com/yuin/gopher-lua"
)

// checkString gives the text of argument n, which may be a number.
func checkString(L *glua.LState, n int) string {
	v := L.Get(n)
	if s, ok := textOf(v); ok {
		return s
	}
	L.TypeError(n, glua.LTString)
	return ""
}

func optString(L *glua.LState, n int, def string) string {
	if L.Get(n) == glua.LNil {
		return def
	}
	return checkString(L, n)
}

// checkNumber gives argument n, which may be a numeral in a string.
func checkNumber(L *glua.LState, n int) float64 {
	switch v := L.Get(n).(type) {
	case glua.LNumber:
		return float64(v)
	case glua.LString:
		if f, ok := parseNumber(string(v)); ok {
			return f
		}
	}
	L.TypeError(n, glua.LTNumber)
	return 0
}

// checkInt gives argument n cut to an int; what no int can hold is taken to the nearest one that arithmetic on
// indexes can bear.
func checkInt(L *glua.LState, n int) int { return clampInt(checkNumber(L, n)) }

func clampInt(f float64) int {
	switch {
	case math.IsNaN(f):
		return 0
	case f > math.MaxInt32:
		return math.MaxInt32
	case f < math.MinInt32:
		return math.MinInt32
	}
	return int(f)
}

func optInt(L *glua.LState, n, def int) int {
	if L.Get(n) == glua.LNil {
		return def
	}
	return checkInt(L, n)
}
