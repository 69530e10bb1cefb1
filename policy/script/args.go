package script

import (
	"math"

	glua "github.com/yuin/gopher-lua"
)

// Arguments of API calls. A wrong one is raised at the author's line.

func checkString(L *glua.LState, n int, what string) string {
	switch v := L.Get(n).(type) {
	case glua.LString:
		return string(v)
	case glua.LNumber:
		return v.String()
	default:
		if v == glua.LNil {
			L.RaiseError("%s: argument %d is missing or nil", what, argument(L, n))
		}
		L.RaiseError("%s: argument %d is text, and here it is %s", what, argument(L, n), typeName(v))
	}
	return ""
}

// argument is how the author counts: a method's object is not the first.
func argument(L *glua.LState, n int) int {
	if _, method := L.Get(1).(*glua.LUserData); method && n > 1 {
		return n - 1
	}
	return n
}

func optString(L *glua.LState, n int, def string) string {
	if L.Get(n) == glua.LNil {
		return def
	}
	return checkString(L, n, "this call")
}

// optCount is a whole number of at least 1.
func optCount(L *glua.LState, n int, what string, def int64) int64 {
	switch v := L.Get(n).(type) {
	case *glua.LNilType:
		return def
	case glua.LNumber:
		if f := float64(v); f >= 1 && f == math.Trunc(f) && f <= math.MaxInt32 {
			return int64(f)
		}
		L.RaiseError("%s: %s is no whole number above 0", what, v.String())
	default:
		L.RaiseError("%s: argument %d is a number, and here it is %s", what, argument(L, n), typeName(v))
	}
	return 0
}

func optTable(L *glua.LState, n int, what string) *glua.LTable {
	switch v := L.Get(n).(type) {
	case *glua.LNilType:
		return nil
	case *glua.LTable:
		return v
	default:
		L.RaiseError("%s: argument %d is a table, and here it is %s", what, argument(L, n), typeName(v))
	}
	return nil
}

func typeName(v glua.LValue) string {
	if v == glua.LNil {
		return "nil"
	}
	return "a " + v.Type().String()
}

func textOrNil(s string) glua.LValue {
	if s == "" {
		return glua.LNil
	}
	return glua.LString(s)
}

// foldKey makes keys of lists, limits and caches: ten spellings of a mailbox
// are one. It allocates only if there is something to fold.
func foldKey(s string) string {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c >= 'A' && c <= 'Z' {
			b := []byte(s)
			for ; i < len(b); i++ {
				if c := b[i]; c >= 'A' && c <= 'Z' {
					b[i] = c + 'a' - 'A'
				}
			}
			return string(b)
		}
	}
	return s
}
