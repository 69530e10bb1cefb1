package lua

import (
	"context"
	"errors"
	"time"

	glua "github.com/yuin/gopher-lua"
)

func init() {
	// t[67108863] = 1 would fill a gigabyte in one instruction; beyond this index keys live in the hash part.
	glua.MaxArrayIndex = maxArrayIndex
	// A vararg function that never says "..." would get a table for each call, unmetered.
	glua.CompatVarArg = false
}

const maxArrayIndex = 1 << 18

// stateOptions keep a state small; most of it is the call stack. MinimizeStackMemory must stay off: its overflow is a Go panic.
var stateOptions = glua.Options{
	SkipOpenLibs:     true,
	CallStackSize:    maxCalls,
	RegistrySize:     128, // the least that gopher-lua takes
	RegistryMaxSize:  16384,
	RegistryGrowStep: 256, // the registry never shrinks
}

// maxCalls bounds calls within calls, the host's functions counted: 107 frames of 88 octets fill what Go allocates for 100.
const maxCalls = 107

// State runs compiled chunks and calls their functions, one goroutine at a time. A state that returned an
// error is dead: its VM stopped in the middle, and every later call says so.
type State struct {
	L     *glua.LState
	Meter *Meter

	// Modules finds the module that require names: already compiled, from the host's own snapshot. It is called
	// once a name and state; an error is raised at the author's require. Nil: there are no modules.
	Modules func(name string) (*Chunk, error)

	// Host is the host's own: functions of a library find it by StateOf(L).Host.
	Host any

	lib     *Library
	own     *glua.LTable // the files' globals, when the table of globals is the library's
	files   map[string]struct{}
	modules map[string]glua.LValue // what require returned; nil while it loads
	frozen  map[*glua.LTable]struct{}
	sealed  bool
	dead    bool
	run     uint64 // counts runs, so that iterators of an earlier one can be told
}

// ErrDead is returned by a state that has already failed.
var ErrDead = errors.New("lua: this state has failed before and must be dropped")

// NewState makes a state with the language's own names (builtins) open; the host adds its globals to L, then runs
// the chunks, then calls Freeze.
func NewState() *State { return standardLibrary.NewState() }

// NewState makes a state that shares the library.
func (lib *Library) NewState() *State {
	s := &State{lib: lib, L: glua.NewState(stateOptions), Meter: &Meter{}, files: map[string]struct{}{}}
	s.Meter.state = s
	s.Meter.Reset(Budget{}, time.Time{}, nil)
	s.L.Panic = raise
	s.L.SetContext(s.Meter)
	s.open()
	return s
}

// Dead reports whether the state has failed and must be dropped.
func (s *State) Dead() bool { return s.dead }

// Close ends the state's use.
func (s *State) Close() {
	if !s.L.IsClosed() {
		s.L.Close()
	}
	s.dead = true
}

// Run runs the top level of a chunk.
func (s *State) Run(c *Chunk, b Budget, deadline time.Time, ctx context.Context) error {
	if s.own != nil { // it was frozen
		s.unshare()
	}
	s.files[c.File] = struct{}{}
	_, err := s.Call(s.L.NewFunctionFromProto(c.Proto), b, deadline, ctx)
	return err
}

// Call calls fn and gives its first result (nil if it has none). The error is an *Error, or ErrDead. A host function
// that calls back into Lua uses L.Call, never this.
func (s *State) Call(fn *glua.LFunction, b Budget, deadline time.Time, ctx context.Context, args ...glua.LValue) (ret glua.LValue, err error) {
	if s.dead {
		return glua.LNil, ErrDead
	}
	s.Meter.Reset(b, deadline, ctx)
	s.run++
	defer func() {
		s.Meter.Rest()
		if r := recover(); r != nil {
			s.dead = true
			ret, err = glua.LNil, s.fault(r)
		}
	}()
	L := s.L
	L.Push(fn)
	for _, a := range args {
		L.Push(a)
	}
	L.Call(len(args), 1)
	ret = L.Get(-1)
	L.SetTop(0)
	return ret, nil
}
