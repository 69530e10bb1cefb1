package lua

import (
	"strings"

	glua "github.com/yuin/gopher-lua"
)

var baseFuncs = map[string]glua.LGFunction{
	"assert":       baseAssert,
	"error":        baseError,
	"getmetatable": baseGetMetatable,
	"ipairs":       baseIpairs,
	"next":         baseNext,
	"pairs":        basePairs,
	"pcall":        basePCall,
	"rawequal":     baseRawEqual,
	"rawget":       baseRawGet,
	"rawset":       baseRawSet,
	"require":      baseRequire,
	"select":       baseSelect,
	"setmetatable": baseSetMetatable,
	"tonumber":     baseToNumber,
	"tostring":     baseToString,
	"type":         baseType,
	"unpack":       baseUnpack,
	"xpcall":       baseXPCall,
}

func baseAssert(L *glua.LState) int {
	v := L.CheckAny(1)
	if glua.LVAsBool(v) {
		return L.GetTop()
	}
	msg := L.Get(2)
	if msg == glua.LNil {
		msg = glua.LString("assertion failed!")
	}
	L.Error(msg, 0)
	return 0
}

// baseError adds the position where it was called; its level says whose line is named.
func baseError(L *glua.LState) int {
	level := max(optInt(L, 2, 1), 0)
	if level > 0 {
		level++ // gopher-lua counts this function too, but takes 1 and 2 for the same
	}
	L.Error(L.Get(1), level)
	return 0
}

func baseGetMetatable(L *glua.LState) int {
	L.Push(L.GetMetatable(L.CheckAny(1)))
	return 1
}

// baseSetMetatable works on tables only: the metatable of one string is that of all.
func baseSetMetatable(L *glua.LState) int {
	t := L.CheckTable(1)
	if L.GetTop() < 2 || L.Get(2) != glua.LNil && L.Get(2).Type() != glua.LTTable {
		L.ArgError(2, "nil or table expected")
	}
	if mt, ok := t.Metatable.(*glua.LTable); ok && mt.RawGetString("__metatable") != glua.LNil {
		L.RaiseError("cannot change a protected metatable")
	}
	if StateOf(L).Frozen(t) {
		L.RaiseError("this table belongs to the file and serves every connection: its metatable cannot be set after loading")
	}
	t.Metatable = L.Get(2)
	L.SetTop(1)
	return 1
}

func baseRawEqual(L *glua.LState) int {
	L.Push(glua.LBool(L.CheckAny(1) == L.CheckAny(2)))
	return 1
}

func baseRawGet(L *glua.LState) int {
	L.Push(L.CheckTable(1).RawGet(L.CheckAny(2)))
	return 1
}

func baseRawSet(L *glua.LState) int {
	rawSet(L, L.CheckTable(1), L.CheckAny(2), L.CheckAny(3))
	L.SetTop(1)
	return 1
}

func baseSelect(L *glua.LState) int {
	n := L.GetTop()
	if L.Get(1) == glua.LString("#") {
		L.Push(glua.LNumber(n - 1))
		return 1
	}
	i := checkInt(L, 1)
	switch {
	case i < 0:
		i = n + i
	case i > n:
		i = n
	}
	if i < 1 {
		L.ArgError(1, "index out of range")
	}
	return n - i
}

func baseToNumber(L *glua.LState) int {
	v := L.CheckAny(1)
	if base := optInt(L, 2, 10); base != 10 {
		L.Push(integerInBase(L, checkString(L, 1), base))
		return 1
	}
	switch v := v.(type) {
	case glua.LNumber:
		L.Push(v)
	case glua.LString:
		if f, ok := parseNumber(string(v)); ok {
			L.Push(glua.LNumber(f))
			return 1
		}
		L.Push(glua.LNil)
	default:
		L.Push(glua.LNil)
	}
	return 1
}

func integerInBase(L *glua.LState, s string, base int) glua.LValue {
	if base < 2 || base > 36 {
		L.ArgError(2, "base out of range")
	}
	s = strings.Trim(s, " \t\n\v\f\r")
	neg := strings.HasPrefix(s, "-")
	if neg || strings.HasPrefix(s, "+") {
		s = s[1:]
	}
	if base == 16 && len(s) > 2 && s[0] == '0' && s[1]|0x20 == 'x' {
		s = s[2:]
	}
	if s == "" {
		return glua.LNil
	}
	f := 0.0
	for i := 0; i < len(s); i++ {
		d, ok := digit(s[i])
		if !ok || d >= base {
			return glua.LNil
		}
		f = f*float64(base) + float64(d)
	}
	if neg {
		f = -f
	}
	return glua.LNumber(f)
}

func baseToString(L *glua.LState) int {
	L.Push(glua.LString(toString(L, L.CheckAny(1))))
	return 1
}

// toString gives the text of any value, through __tostring.
func toString(L *glua.LState, v glua.LValue) string {
	if s, ok := textOf(v); ok {
		return s
	}
	if mm, ok := L.GetMetaField(v, "__tostring").(*glua.LFunction); ok {
		L.Push(mm)
		L.Push(v)
		L.Call(1, 1)
		r := L.Get(-1)
		L.Pop(1)
		s, ok := textOf(r)
		if !ok {
			L.RaiseError("'__tostring' must give a string")
		}
		return s
	}
	if fn, ok := v.(*glua.LFunction); ok && fn.IsG {
		return strings.Replace(v.String(), "function", "builtin", 1)
	}
	return v.String()
}

func baseType(L *glua.LState) int {
	L.Push(typeNames[L.CheckAny(1).Type()])
	return 1
}

// typeNames spares an allocation for each call of type.
var typeNames = func() (names [9]glua.LValue) {
	for t := range names {
		names[t] = glua.LString(glua.LValueType(t).String())
	}
	return names
}()

func baseUnpack(L *glua.LState) int {
	t := L.CheckTable(1)
	i, j := optInt(L, 2, 1), optInt(L, 3, t.Len())
	if i > j {
		return 0
	}
	n := j - i + 1
	if n > 8000 || n <= 0 {
		L.RaiseError("too many results to unpack")
	}
	MeterOf(L).Charge(int64(n))
	for ; i <= j; i++ {
		L.Push(t.RawGet(glua.LNumber(i)))
	}
	return n
}
