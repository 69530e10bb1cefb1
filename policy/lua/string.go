package lua

import (
	"strings"

	glua "github.com/yuin/gopher-lua"
)

// The string library is our own: gopher-lua's compiles a pattern at every call, copies the text at every replacement, formats with
// fmt, and breaks Latin-1 in lower().

// stringMetatable makes s:upper() work. By choice a text has no other fields: Lua would give nil for msg.from.domain, and a rule
// that compares it would let everything pass.
func stringMetatable(lib *glua.LTable) *glua.LTable {
	methods := NewTable()
	lib.ForEach(methods.RawSet)
	methods.Metatable = newLibrary(map[string]glua.LGFunction{"__index": func(L *glua.LState) int {
		L.RaiseError("text has no field '%s'", keyText(L.Get(2)))
		return 0
	}})
	mt := newLibrary(coercions())
	mt.RawSetString("__index", methods)
	mt.RawSetString("__metatable", glua.LFalse) // getmetatable("") must not lead to what all strings share
	return mt
}

var stringFuncs = map[string]glua.LGFunction{
	"byte":    stringByte,
	"char":    stringChar,
	"find":    func(L *glua.LState) int { return stringFind(L, true) },
	"format":  stringFormat,
	"gmatch":  stringGmatch,
	"gsub":    stringGsub,
	"len":     stringLen,
	"lower":   func(L *glua.LState) int { return stringCase(L, 'A', 'Z') },
	"match":   func(L *glua.LState) int { return stringFind(L, false) },
	"rep":     stringRep,
	"reverse": stringReverse,
	"sub":     stringSub,
	"upper":   func(L *glua.LState) int { return stringCase(L, 'a', 'z') },
}

// pushString is the end of a function that gives one string.
func pushString(L *glua.LState, s string) int {
	L.Push(glua.LString(s))
	return 1
}

func stringLen(L *glua.LState) int {
	L.Push(glua.LNumber(len(checkString(L, 1))))
	return 1
}

// span turns Lua's positions i and j into a Go slice's, within a string of n octets.
func span(i, j, n int) (from, to int) {
	if i < 0 {
		i = max(n+i+1, 1)
	}
	if j < 0 {
		j = n + j + 1
	}
	i, j = max(i, 1), min(j, n)
	if i > j {
		return 0, 0
	}
	return i - 1, j
}

func stringSub(L *glua.LState) int {
	s := checkString(L, 1)
	from, to := span(checkInt(L, 2), optInt(L, 3, -1), len(s))
	return pushString(L, s[from:to]) // shares s's memory
}

func stringByte(L *glua.LState) int {
	s := checkString(L, 1)
	i := optInt(L, 2, 1)
	from, to := span(i, optInt(L, 3, i), len(s))
	if to-from > 8000 {
		L.RaiseError("string slice too long")
	}
	MeterOf(L).Charge(int64(to - from))
	for _, c := range []byte(s[from:to]) {
		L.Push(glua.LNumber(c))
	}
	return to - from
}

func stringChar(L *glua.LState) int {
	n := L.GetTop()
	b := make([]byte, n)
	for i := range b {
		c := checkInt(L, i+1)
		if c < 0 || c > 255 {
			L.ArgError(i+1, "invalid value")
		}
		b[i] = byte(c)
	}
	MeterOf(L).Alloc(L, int64(n)+16)
	return pushString(L, string(b))
}

func stringRep(L *glua.LState) int {
	s, n := checkString(L, 1), checkNumber(L, 2)
	if !(n >= 1) || s == "" && L.Get(3) == glua.LNil {
		return pushString(L, "")
	}
	// The product may be larger than any integer: it is paid as a float first.
	sep := optString(L, 3, "") // LuaJIT's, and later Luas'
	total := float64(len(s)+len(sep)) * float64(int64(min(n, 1<<40)))
	m := MeterOf(L)
	m.Alloc(L, int64(min(total, 1<<50))+16)
	if sep != "" {
		s = strings.Repeat(s+sep, int(n)-1) + s
		return pushString(L, s)
	}
	return pushString(L, strings.Repeat(s, int(n)))
}

func stringReverse(L *glua.LState) int {
	s := checkString(L, 1)
	m := MeterOf(L)
	m.Alloc(L, int64(len(s))+16)
	m.Charge(int64(len(s)) >> 3)
	b := make([]byte, len(s))
	for i := range b {
		b[i] = s[len(s)-1-i]
	}
	return pushString(L, string(b))
}

// stringCase flips the case of ASCII letters from lo to hi; other octets stay as they are, whatever charset they are of.
func stringCase(L *glua.LState, lo, hi byte) int {
	s := checkString(L, 1)
	m := MeterOf(L)
	m.Charge(int64(len(s)) >> 3)
	for i := 0; i < len(s); i++ {
		if s[i] < lo || s[i] > hi {
			continue
		}
		m.Alloc(L, int64(len(s))+16)
		b := []byte(s)
		for ; i < len(b); i++ {
			if b[i] >= lo && b[i] <= hi {
				b[i] ^= 0x20
			}
		}
		return pushString(L, string(b))
	}
	L.Push(L.Get(1))
	if _, isNumber := L.Get(1).(glua.LNumber); isNumber {
		return pushString(L, s)
	}
	return 1
}
