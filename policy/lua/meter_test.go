package lua

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	glua "github.com/yuin/gopher-lua"
)

func loadFails(t *testing.T, src string, b Budget, deadline time.Time, ctx context.Context) *Error {
	t.Helper()
	chunk, ps := Compile("t.lua", []byte(src), &Names{Mutable: true, Known: map[string][]string{"host": nil}})
	if Refuses(ps) {
		t.Fatal(ps[0].Render())
	}
	s := NewState()
	defer s.Close()
	s.L.SetGlobal("host", s.L.NewFunction(func(L *glua.LState) int {
		var none []int
		return none[L.GetTop()] // a bug of ours
	}))
	err := s.Run(chunk, b, deadline, ctx)
	var le *Error
	if !errors.As(err, &le) {
		t.Fatalf("%.80q: error is %v", src, err)
	}
	if !s.Dead() {
		t.Error("the state lives on")
	}
	if _, err := s.Call(s.L.NewFunctionFromProto(chunk.Proto), b, deadline, ctx); err != ErrDead {
		t.Errorf("a dead state gives %v", err)
	}
	return le
}

// TestBudgetIsExact pins what the meter relies on: gopher-lua polls Done once before every instruction.
func TestBudgetIsExact(t *testing.T) {
	defer func(d time.Duration) { dearAfter = d }(dearAfter)
	dearAfter = time.Hour // a machine that takes processor time away from us makes nothing dear here
	for _, n := range []int64{1, 255, 256, 257, 10_000, 99_999} {
		chunk, _ := Compile("t.lua", []byte("while true do end"), nil)
		s := NewState()
		err := s.Run(chunk, Budget{Instructions: n}, time.Time{}, nil)
		if used, _ := s.Meter.Used(); err == nil || used != n {
			t.Errorf("a budget of %d stops at %d: %v", n, used, err)
		}
		s.Close()
	}
	// The same program uses the same number, on each machine and each time.
	var first int64
	for i := range 5 {
		chunk, _ := Compile("t.lua", []byte(`local t = {} for i = 1, 500 do t[i] = ("x"):rep(i):find("y") or i .. "z" end table.sort(t) return table.concat(t)`), nil)
		s := NewState()
		if err := s.Run(chunk, Budget{}, time.Time{}, nil); err != nil {
			t.Fatal(err)
		}
		used, _ := s.Meter.Used()
		if i > 0 && used != first {
			t.Errorf("run %d used %d instructions, the first %d", i, used, first)
		}
		first = used
		s.Close()
	}
}

func TestEndings(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, c := range []struct {
		name, src string
		deadline  time.Time
		ctx       context.Context
		kind      Kind
		want      string
	}{
		{name: "runtime", src: "local x\n\nreturn x.y", kind: Runtime, want: "t.lua:3: attempt to index a nil value with 'y'"},
		{name: "call of nothing", src: "local t = {}\nt.x()", kind: Runtime, want: "t.lua:2: attempt to call a value that is not a function"},
		{name: "error", src: "\nerror('no such luck')", kind: Runtime, want: "t.lua:2: no such luck"},
		{name: "error without place", src: "\nerror('no such luck', 0)", kind: Runtime, want: "t.lua:2: no such luck"},
		{name: "error of the caller", src: "local function f()\nerror('bad use', 2)\nend\n\nf()", kind: Runtime, want: "t.lua:5: bad use"},
		{name: "error with a table", src: "error({message = 'told'})", kind: Runtime, want: "t.lua:1: told"},
		{name: "error in a builtin", src: "\nreturn ('x'):rep({})", kind: Runtime, want: "t.lua:2: bad argument #2 to rep (number expected, got table)"},
		{name: "rethrown", src: "local ok, e = pcall(function()\nerror('x')\nend)\nerror(e, 0)", kind: Runtime, want: "t.lua:2: x"},
		{name: "instructions", src: "\nwhile true do end", kind: Instructions, want: "t.lua:2: script used up its instruction budget"},
		{name: "instructions in pcall", src: "pcall(function()\nwhile true do end end)", kind: Instructions, want: "t.lua:2: script used up its instruction budget"},
		{name: "instructions for pcalls of builtins", src: "\nwhile true do pcall(error) end", kind: Instructions, want: "t.lua:2: script used up its instruction budget"},
		{name: "memory", src: "\n\nreturn ('x'):rep(1e9)", kind: Memory, want: "t.lua:3: script used up its memory budget"},
		{name: "deadline", src: "while true do end", deadline: time.Now().Add(-time.Second), kind: Deadline, want: "t.lua:1: script ran longer than its time allows"},
		{name: "cancelled", src: "while true do end", ctx: gone, kind: Cancelled, want: "t.lua:1: script was cancelled"},
		{name: "panic", src: "\nhost()", kind: Panic, want: "t.lua:2: runtime error: index out of range [0] with length 0"},
		{name: "panic in pcall", src: "\npcall(function()\nhost() end)", kind: Panic, want: "t.lua:2: runtime error: index out of range [0] with length 0"},
		{name: "a long text", src: `error(("x"):rep(5000))`, kind: Runtime, want: "t.lua:1: " + strings.Repeat("x", maxErrorText) + "..."},
		{name: "stack", src: "local function f() return 1 + f() end f()", kind: Runtime, want: "t.lua:1: stack overflow"},
	} {
		e := loadFails(t, c.src, Budget{Instructions: 100_000}, c.deadline, c.ctx)
		if e.Kind != c.kind || e.Error() != c.want {
			t.Errorf("%s: %v %q, want %v %q", c.name, e.Kind, e.Error(), c.kind, c.want)
		}
		if c.kind != Panic && (strings.Count(e.Traceback, "\n") > maxFrames || !strings.Contains(e.Traceback, "t.lua:")) {
			t.Errorf("%s: traceback %q", c.name, e.Traceback)
		}
		if c.kind == Panic && !strings.Contains(e.Traceback, ".go:") {
			t.Errorf("%s: no Go stack in %q", c.name, e.Traceback)
		}
	}
}

// TestHostWaits lets a host function see the caller's context and deadline, never the meter.
func TestHostWaits(t *testing.T) {
	type key struct{}
	ctx := context.WithValue(t.Context(), key{}, "value")
	deadline := time.Now().Add(time.Minute)
	s := NewState()
	defer s.Close()
	s.L.SetGlobal("host", s.L.NewFunction(func(L *glua.LState) int {
		m := MeterOf(L)
		if d, ok := m.Deadline(); !ok || !d.Equal(deadline) || m.Context() != ctx || StateOf(L) != s {
			t.Error("the host function sees another run")
		}
		m.Charge(1000)
		m.Alloc(L, 5000)
		return 0
	}))
	chunk, ps := Compile("t.lua", []byte("host() pcall(host) pcall(function() host() end)"), &Names{Known: map[string][]string{"host": nil}})
	if Refuses(ps) {
		t.Fatal(ps)
	}
	if err := s.Run(chunk, Budget{}, deadline, ctx); err != nil {
		t.Fatal(err)
	}
	if n, b := s.Meter.Used(); n < 3000 || n > 6000 || b < 15_000 || b > 20_000 {
		t.Errorf("used %d instructions and %d octets", n, b)
	}
}

// TestWorkIsInterrupted lets a builtin work for ever: what ends a script ends it, too.
func TestWorkIsInterrupted(t *testing.T) {
	gone, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, c := range []struct {
		name     string
		deadline time.Time
		ctx      context.Context
		kind     Kind
	}{
		{"instructions", time.Time{}, nil, Instructions},
		{"deadline", time.Now().Add(-time.Second), nil, Deadline},
		{"cancelled", time.Time{}, gone, Cancelled},
	} {
		s := NewState()
		steps := int64(0)
		s.L.SetGlobal("host", s.L.NewFunction(func(L *glua.LState) int {
			for ; ; steps++ {
				if steps == 1000 {
					cancel()
				}
				MeterOf(L).Work(L, 1)
			}
		}))
		chunk, _ := Compile("t.lua", []byte("pcall(host) return 1"), &Names{Known: map[string][]string{"host": nil}})
		var le *Error
		if err := s.Run(chunk, Budget{Instructions: 100_000}, c.deadline, c.ctx); !errors.As(err, &le) || le.Kind != c.kind {
			t.Errorf("%s: %v", c.name, err)
		}
		if c.kind != Instructions && steps > 1000+2*slowEvery {
			t.Errorf("%s: ended after %d steps", c.name, steps)
		}
		s.Close()
	}
}
