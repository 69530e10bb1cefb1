package lua

import (
	"fmt"
	"runtime"
	"sync"
	"testing"
	"time"

	glua "github.com/yuin/gopher-lua"
)

// retained says what one of 500 states holds on to, in octets and objects.
func retained(t *testing.T, fresh func() *State) (bytes, objects int64) {
	t.Helper()
	if raceEnabled {
		t.Skip("the race detector makes objects larger")
	}
	states := make([]*State, 500)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for i := range states {
		states[i] = fresh()
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	for _, s := range states {
		s.Close()
	}
	n := int64(len(states))
	return int64(after.HeapAlloc-before.HeapAlloc) / n, int64(after.HeapObjects-before.HeapObjects) / n
}

// TestStateIsSmall bounds what a state costs: a thousand of them wait when a resolver is dead.
func TestStateIsSmall(t *testing.T) {
	host := map[string]glua.LValue{}
	for i := range 100 {
		host[fmt.Sprintf("host%d", i)] = Builtin(func(L *glua.LState) int { return 0 })
	}
	lib := NewLibrary(host)
	chunk, ps := Compile("t.lua", []byte(`local known = {a = 1, b = 2}
host1(function(m) return known[m] end)`), &Names{Known: map[string][]string{"host1": nil}})
	if Refuses(ps) {
		t.Fatal(ps)
	}
	for _, c := range []struct {
		name           string
		fresh          func() *State
		bytes, objects int64
	}{
		{"bare", NewState, 16 << 10, 30},
		{"library", lib.NewState, 16 << 10, 30},
		{"loaded", func() *State {
			s := lib.NewState()
			if err := s.Run(chunk, Budget{}, time.Time{}, nil); err != nil {
				t.Fatal(err)
			}
			s.Freeze()
			return s
		}, 18 << 10, 45},
	} {
		t.Run(c.name, func(t *testing.T) {
			bytes, objects := retained(t, c.fresh)
			t.Logf("%d octets, %d objects", bytes, objects)
			if bytes > c.bytes || objects > c.objects {
				t.Errorf("a state retains %d octets and %d objects, at most %d and %d are meant", bytes, objects, c.bytes, c.objects)
			}
		})
	}
}

// TestGlobals looks at what the files' own names become when a state is frozen, and that no state changes another's.
func TestGlobals(t *testing.T) {
	lib := NewLibrary(map[string]glua.LValue{"host": glua.LString("library")})
	for _, c := range []struct {
		name, src, want string
		set             string // a global that the host sets
		shared          bool
	}{
		{"none", `return function() return host .. tostring(set) end`, "librarynil", "", true},
		{"own", `function mine() return host end return function() return mine() .. type(mine) .. tostring(set) end`, "libraryfunctionnil", "", true},
		{"of the host", `return function() return host .. set end`, "libraryx", "set", true},
		{"of another meaning", `return function() return host end`, "x", "host", false},
		{"set in a function", `mine = "a" return function() mine = mine .. host return mine end`, "alibrary", "", false},
		{"set in an inner function", `mine = "a" return function() local f = function() local g = function() mine = "b" end g() end f() return mine end`, "b", "", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			chunk, ps := Compile("t.lua", []byte(c.src), &Names{Mutable: true, Known: map[string][]string{"set": nil, "host": nil}})
			if Refuses(ps) {
				t.Fatal(ps)
			}
			s := lib.NewState()
			defer s.Close()
			if c.set != "" {
				s.L.SetGlobal(c.set, glua.LString("x"))
			}
			hook, err := s.Call(s.L.NewFunctionFromProto(chunk.Proto), Budget{}, time.Time{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // the second time unshares first
				s.Freeze(hook)
			}
			if shared := s.own != nil; shared != c.shared {
				t.Errorf("shared: %v", shared)
			}
			got, err := s.Call(hook.(*glua.LFunction), Budget{}, time.Time{}, nil)
			if err != nil || got != glua.LString(c.want) {
				t.Errorf("gave %v, %v, want %q", got, err, c.want)
			}
			if v := lib.globals.RawGetString("host"); v != glua.LString("library") || lib.globals.RawGetString("(t.lua)mine") != glua.LNil {
				t.Errorf("it wrote the library: host is %v", v)
			}
		})
	}
}

// TestRunAfterFreeze runs a file that sets globals in a state whose table of globals is the library's.
func TestRunAfterFreeze(t *testing.T) {
	s := NewState()
	defer s.Close()
	s.Freeze()
	if s.own == nil {
		t.Fatal("an empty state does not share the library")
	}
	chunk, _ := Compile("t.lua", []byte(`late = 1`), nil)
	if err := s.Run(chunk, Budget{}, time.Time{}, nil); err != nil {
		t.Fatal(err)
	}
	const late = "(t.lua)late"
	if v := standardLibrary.globals.RawGetString(late); v != glua.LNil || s.L.GetGlobal(late) != glua.LNumber(1) {
		t.Errorf("the library has %v, the state %v", v, s.L.GetGlobal(late))
	}
}

// TestLibraryIsReadAtOnce has states read, walk and try to write their library at the same time; the race detector looks on.
func TestLibraryIsReadAtOnce(t *testing.T) {
	inner := NewTable()
	inner.RawSetString("x", glua.LNumber(1))
	tab := NewTable()
	tab.RawSetString("inner", inner)
	tab.RawSetString("me", Builtin(func(L *glua.LState) int {
		L.Push(glua.LString(StateOf(L).Host.(string)))
		return 1
	}))
	lib := NewLibrary(map[string]glua.LValue{"tab": tab})
	chunk, ps := Compile("t.lua", []byte(`
function each(t) local n = 0 for k, v in pairs(t) do n = n + 1 end return n + #t end
return function()
	local alias = tab.inner
	if pcall(function() alias.x = 2 end) or pcall(rawset, tab, "y", 1) or pcall(setmetatable, tab, {}) or pcall(table.insert, alias, 1) then
		return "written"
	end
	return tab.me() .. each(tab) .. each(string) .. alias.x .. ("x"):upper() .. tostring(next(alias))
end`), &Names{Known: map[string][]string{"tab": nil}})
	if Refuses(ps) {
		t.Fatal(ps)
	}
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			me := fmt.Sprint("s", i)
			for range 10 {
				s := lib.NewState()
				s.Host = me
				hook, err := s.Call(s.L.NewFunctionFromProto(chunk.Proto), Budget{}, time.Time{}, nil)
				if err != nil {
					t.Error(err)
					return
				}
				s.Freeze(hook)
				got, err := s.Call(hook.(*glua.LFunction), Budget{}, time.Time{}, nil)
				if want := me + "2131Xx"; err != nil || got != glua.LString(want) {
					t.Errorf("gave %v, %v, want %s", got, err, want)
				}
				s.Close()
			}
		})
	}
	wg.Wait()
}
