package lua

import glua "github.com/yuin/gopher-lua"

// library is what every state offers: the names of builtins, and nothing else (no io, os, debug, package, coroutine, load, getfenv,
// _G). It is made once and shared by all states: its tables are read-only from the start, its functions know no state.
var library struct {
	globals map[string]glua.LValue
	tables  map[*glua.LTable]struct{}
	strings *glua.LTable // the metatable of strings
}

func init() {
	g := map[string]glua.LValue{
		"_VERSION": glua.LString("Lua 5.1"),
		"string":   newLibrary(stringFuncs),
		"table":    newLibrary(tableFuncs),
		"math":     mathLibrary(),
	}
	for name, fn := range baseFuncs {
		g[name] = builtin(fn)
	}
	for name, fn := range hiddenFuncs {
		g[name] = builtin(fn)
	}
	library.globals = g
	library.strings = stringMetatable(g["string"])
	library.tables = map[*glua.LTable]struct{}{library.strings: {}}
	for _, v := range g {
		if t, ok := v.(*glua.LTable); ok {
			library.tables[t] = struct{}{}
		}
	}
}

// open gives a state the library.
func (s *State) open() {
	for name, v := range library.globals {
		s.L.G.Global.RawSetString(name, v)
	}
	s.L.SetMetatable(glua.LString(""), library.strings)
}

func builtin(fn glua.LGFunction) *glua.LFunction { return &glua.LFunction{IsG: true, GFunction: fn} }

func newLibrary(funcs map[string]glua.LGFunction) *glua.LTable {
	t := &glua.LTable{Metatable: glua.LNil}
	for name, fn := range funcs {
		t.RawSetString(name, builtin(fn))
	}
	return t
}
