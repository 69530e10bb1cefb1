package lua

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	glua "github.com/yuin/gopher-lua"
)

// hookSource is a realistic rcpt rule: six checks, one match, two field reads.
const hookSource = `
local blocked = { ["bad.example"] = true, ["worse.example"] = true }
return function(s, rcpt)
  local d = rcpt:match("@([^@]+)$")
  if not d then return 501 end
  if #d > 200 then return 501 end
  if blocked[d] then return 550 end
  local ip, helo = s.ip, s.helo
  if helo == ip then return 554 end
  if not helo or helo == "localhost" then return 554 end
  if ip == "192.0.2.9" then return 550 end
  return nil
end`

// load runs a chunk that returns a function.
func load(t testing.TB, src string) (*State, *glua.LFunction) {
	t.Helper()
	chunk, ps := Compile("hook.lua", []byte(src), &Names{Known: map[string][]string{"host": nil}})
	if Refuses(ps) {
		t.Fatal(ps[0].Render())
	}
	s := NewState()
	s.files[chunk.File] = struct{}{}
	v, err := s.Call(s.L.NewFunctionFromProto(chunk.Proto), Budget{}, time.Time{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range s.Freeze(v) {
		t.Fatal(p)
	}
	t.Cleanup(s.Close)
	return s, s.function(v)
}

// session is a host object with two fields.
func session(s *State) glua.LValue {
	fields := map[string]glua.LValue{"ip": glua.LString("192.0.2.1"), "helo": glua.LString("mx.example.org")}
	mt := s.L.NewTable()
	mt.RawSetString("__index", s.L.NewFunction(func(L *glua.LState) int {
		L.Push(fields[string(L.Get(2).(glua.LString))])
		return 1
	}))
	ud := s.L.NewUserData()
	ud.Metatable = mt
	return ud
}

func BenchmarkCallEmpty(b *testing.B) {
	s, fn := load(b, "return function() end")
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Call(fn, DefaultBudget, time.Time{}, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkCallHook(b *testing.B) {
	s, fn := load(b, hookSource)
	conn, rcpt := session(s), glua.LValue(glua.LString("bob@ok.example"))
	deadline := time.Now().Add(time.Hour)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Call(fn, DefaultBudget, deadline, b.Context(), conn, rcpt); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkNewState(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		NewState().Close()
	}
}

func BenchmarkPcall(b *testing.B) {
	s, fn := load(b, `local function f() end return function() pcall(f) end`)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Call(fn, DefaultBudget, time.Time{}, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkStatement(b *testing.B) {
	for name, body := range map[string]string{
		"match": `return s:match("@([^@]+)$")`, "concat": `return s .. "@" .. s .. ".x"`, "table": `return {a = 1, b = s}`, "empty table": "return {}",
		"set": "local t = {} t.x = 1 t.y = 2 t.z = 3 return t", "append": "local t = {} for i = 1, 20 do t[#t+1] = i end return t",
		"format": `return string.format("%s: %d", s, 5)`, "gsub": `return (s:gsub("%a", "x"))`,
	} {
		b.Run(name, func(b *testing.B) {
			fn := "return function(s) " + body + " end"
			s, f := load(b, fn)
			arg := glua.LValue(glua.LString("bob@ok.example"))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := s.Call(f, DefaultBudget, time.Time{}, nil, arg); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// policyFile is a file of about 300 lines.
func policyFile(n int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "-- rule %d\nlocal blocked = {}\n", n)
	for i := range 24 {
		fmt.Fprintf(&b, `
-- a rule as people write them
local function check%d(msg, rcpt)
  local domain = rcpt.address:match("@([^@]+)$")
  if not domain then return reject(501, "5.1.3", "bad address " .. rcpt.address) end
  if blocked[domain:lower()] and not msg.user then
    return reject(550, "5.7.1", "refused: " .. domain .. " is blocked")
  end
  for i, name in ipairs({"postmaster", "abuse"}) do
    if rcpt.user == name then return accept() end
  end
end
on.rcpt("rule %d", check%d)`, i, i, i)
	}
	return b.String()
}

func BenchmarkCompile50Files(b *testing.B) {
	files := make([][]byte, 50)
	for i := range files {
		files[i] = []byte(policyFile(i))
	}
	b.ReportAllocs()
	for b.Loop() {
		for i, f := range files {
			if _, ps := Compile(fmt.Sprint(i, ".lua"), f, testNames); len(ps) > 0 {
				b.Fatal(ps[0].Render())
			}
		}
	}
}

// TestCallAllocates holds the cost of a call: an empty one allocates nothing, the realistic hook six times at most.
func TestCallAllocates(t *testing.T) {
	if raceEnabled {
		t.Skip("the race detector allocates")
	}
	s, empty := load(t, "return function() end")
	if n := testing.AllocsPerRun(100, func() { s.Call(empty, DefaultBudget, time.Time{}, nil) }); n > 0 {
		t.Errorf("an empty call allocates %v times", n)
	}
	s, hook := load(t, hookSource)
	conn, rcpt := session(s), glua.LValue(glua.LString("bob@ok.example"))
	if n := testing.AllocsPerRun(100, func() { s.Call(hook, DefaultBudget, time.Time{}, nil, conn, rcpt) }); n > 6 {
		t.Errorf("a hook allocates %v times", n)
	}
}

// TestBusyMachine runs 300 honest hooks of a third of the budget at once: no clock takes the others' time for theirs.
func TestBusyMachine(t *testing.T) {
	src := `return function() local n = 0 for i = 1, 160000 do n = n + i end return n end`
	chunk, _ := Compile("busy.lua", []byte(src), nil)
	start := time.Now()
	hooks := 300
	if raceEnabled {
		hooks = 30
	}
	var wg sync.WaitGroup
	for range hooks {
		wg.Go(func() {
			s := NewState()
			defer s.Close()
			v, err := s.Call(s.L.NewFunctionFromProto(chunk.Proto), Budget{}, time.Time{}, nil)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err = s.Call(s.function(v), Budget{}, start.Add(time.Hour), t.Context()); err != nil {
				t.Error(err)
			}
			most := DefaultBudget.Instructions * 4 / 10
			if raceEnabled { // and one that others have taken the processor from: the budget must do, as for anybody
				most = DefaultBudget.Instructions
			}
			if used, _ := s.Meter.Used(); used < DefaultBudget.Instructions*3/10 || used > most {
				t.Errorf("the hook used %d instructions, not a third", used)
			}
		})
	}
	wg.Wait()
}
