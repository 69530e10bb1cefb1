package lua

import glua "github.com/yuin/gopher-lua"

// Library is the names that states begin with: the language's own (no io, os, debug, package, coroutine, load, getfenv, _G)
// and the host's. It is made once and shared by all its states, so that a state costs little more than its stack: its
// tables are read-only from the start, its functions know no state but find it by StateOf.
type Library struct {
	globals *glua.LTable
	layer   *glua.LTable              // the metatable that puts globals under a state's own names
	tables  map[*glua.LTable]struct{} // all that cannot be written
}

// builtin names, the same in each library.
var (
	language        map[string]glua.LValue
	stringMeta      *glua.LTable
	standardLibrary *Library
)

func init() {
	strings := newLibrary(stringFuncs)
	language = map[string]glua.LValue{
		"_VERSION": glua.LString("Lua 5.1"),
		"string":   strings,
		"table":    newLibrary(tableFuncs),
		"math":     mathLibrary(),
	}
	for name, fn := range baseFuncs {
		language[name] = Builtin(fn)
	}
	for name, fn := range hiddenFuncs {
		language[name] = Builtin(fn)
	}
	stringMeta = stringMetatable(strings)
	standardLibrary = NewLibrary(nil)
}

// NewLibrary makes a library of the language's names and the host's, which win. Every table in it is read-only from here,
// for the host, too: states read it at the same time.
func NewLibrary(host map[string]glua.LValue) *Library {
	lib := &Library{globals: NewTable(), layer: NewTable(), tables: map[*glua.LTable]struct{}{}}
	for name, v := range language {
		lib.globals.RawSetString(name, v)
	}
	for name, v := range host {
		lib.globals.RawSetString(name, v)
	}
	lib.layer.RawSetString("__index", lib.globals)
	w := walker{frozen: lib.tables, seen: map[*glua.LFunction]struct{}{}, todo: []glua.LValue{stringMeta, lib.layer}}
	w.walk()
	return lib
}

// Builtin makes a function for a library.
func Builtin(fn glua.LGFunction) *glua.LFunction { return &glua.LFunction{IsG: true, GFunction: fn} }

// NewTable makes an empty table for a library. Unlike LState's, it takes no room before it has a key.
func NewTable() *glua.LTable { return &glua.LTable{Metatable: glua.LNil} }

// open gives a state the library. What its files and its host set lies in a table of its own above it.
func (s *State) open() {
	s.L.G.Registry = NewTable() // nobody uses it
	s.L.G.Global = s.L.CreateTable(0, 1)
	s.L.G.Global.Metatable = s.lib.layer
	s.L.Env = s.L.G.Global
	s.L.SetMetatable(glua.LString(""), stringMeta)
}

// share turns the layers of a frozen state round: its table of globals becomes the library's own, where a name is found with
// one look, and what the files set lies below. Nothing can write the library's table through it: scripts have no name for it,
// and no function sets a global. A state in which one does, or whose files gave a name of the library another meaning, stays
// as it is.
func (s *State) share() {
	global, own := s.L.G.Global, s.L.CreateTable(0, 1)
	empty := true
	for k, v := global.Next(glua.LNil); k != glua.LNil; k, v = global.Next(k) {
		if s.lib.globals.RawGet(k) != glua.LNil {
			return
		}
		own.RawSet(k, v)
		empty = false
	}
	*global = *s.lib.globals
	s.own = own
	if !empty {
		below := s.L.CreateTable(0, 1)
		below.RawSetString("__index", own)
		global.Metatable = below
	}
}

// unshare undoes it, so that another file can set globals.
func (s *State) unshare() {
	*s.L.G.Global = *s.own
	s.L.G.Global.Metatable = s.lib.layer
	s.own = nil
}

func newLibrary(funcs map[string]glua.LGFunction) *glua.LTable {
	t := NewTable()
	for name, fn := range funcs {
		t.RawSetString(name, Builtin(fn))
	}
	return t
}
