package lua

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// hostile are scripts that hang or kill stock gopher-lua, or make it eat memory, and how each must end. Each runs
// in a process of its own, at load and in a call.
var hostile = []struct {
	name, src string
	kinds     []Kind // how it may end; none: it ends well
}{
	{"endless loop", `while true do end`, []Kind{Instructions}},
	{"endless repeat", `repeat local x = 1 until false`, []Kind{Instructions}},
	{"endless goto", `::a:: goto a`, []Kind{Instructions}},
	{"endless for", `for i = 1, math.huge do end`, []Kind{Instructions}},
	{"for of step zero", `for i = 1, 2, 0 do end`, nil},
	{"endless iterator", `for x in function() return 1 end do end`, []Kind{Instructions}},
	{"endless loop around pcall", `while true do pcall(function() while true do end end) end`, []Kind{Instructions}},
	{"endless loop in pcall", `pcall(function() while true do end end) return 1`, []Kind{Instructions}},
	{"pcall in pcall", `local function f() return pcall(f) end f() f() error("x")`, []Kind{Runtime, Instructions}},
	{"xpcall whose handler loops", `xpcall(error, function() while true do end end)`, []Kind{Instructions}},
	{"pcalls without end", `while true do pcall(error, "x") end`, []Kind{Instructions, Memory}},
	{"endless metamethod", `local t = setmetatable({}, {__index = function(t, k) while true do end end}) return t.x`, []Kind{Instructions}},
	{"__index recursion", `local t = setmetatable({}, {__index = function(t, k) return t[k] end}) return t.x`, []Kind{Runtime}},
	{"__index cycle", `local t = {} setmetatable(t, {__index = t}) return t.x`, []Kind{Runtime}},
	{"__newindex cycle", `local t = {} setmetatable(t, {__newindex = t}) t.x = 1`, []Kind{Runtime}},
	{"__tostring recursion", `local t = setmetatable({}, {__tostring = function(t) return tostring(t) end}) return tostring(t)`, []Kind{Runtime}},
	{"__concat recursion", `local t t = setmetatable({}, {__concat = function(a, b) return a .. b end}) return t .. "x"`, []Kind{Runtime}},
	{"__eq recursion", `local mt = {} mt.__eq = function(a, b) return a == b end local a, b = setmetatable({}, mt), setmetatable({}, mt) return a == b`, []Kind{Runtime}},
	{"__call chain", `local t = {} for i = 1, 1000 do t = setmetatable({}, {__call = t}) end t()`, []Kind{Runtime}},
	{"endless recursion", `local function f() return 1 + f() end return f()`, []Kind{Runtime}},
	{"endless tail recursion", `local function f() return f() end return f()`, []Kind{Instructions}},
	{"tail recursion, then an error", `local function f(n) if n == 0 then error("x") end return f(n - 1) end return f(150000)`, []Kind{Runtime}},
	{"tail recursion in each of many frames", `local function g(n, d) if n > 0 then return g(n - 1, d) end if d == 0 then error("x") end return 1 + g(1500, d - 1) end return g(1500, 90)`, []Kind{Runtime}},
	{"mutual recursion", `local f, g function f() return 1 + g() end function g() return 1 + f() end return f()`, []Kind{Runtime}},
	{"rep of a gigabyte", `return ("x"):rep(1e9)`, []Kind{Memory}},
	{"rep beyond all memory", `return ("x"):rep(1e13)`, []Kind{Memory}},
	{"rep of infinity", `return ("x"):rep(math.huge)`, []Kind{Memory}},
	{"rep of rep", `return ("x"):rep(1e6):rep(1e6)`, []Kind{Memory}},
	{"rep in pcall", `return pcall(string.rep, "x", 1e13)`, []Kind{Memory}},
	{"doubling", `local s = "x" for i = 1, 60 do s = s .. s end`, []Kind{Memory}},
	{"growing by one", `local s = "" for i = 1, 1e9 do s = s .. "xxxxxxxxxxxxxxxx" end`, []Kind{Memory, Instructions}},
	{"growing through a table", `local t = {} for i = 1, 20 do t[i] = ("x"):rep(2^i) end for i = 1, 60 do t[#t + 1] = table.concat(t) end`, []Kind{Memory}},
	{"growing through gsub", `local s = "xxxx" for i = 1, 40 do s = s:gsub("x", "xx") end`, []Kind{Memory, Instructions}},
	{"growing through format", `local s = "x" for i = 1, 60 do s = string.format("%s%s", s, s) end`, []Kind{Memory}},
	{"growing through upper", `local s = ("x"):rep(1e6) for i = 1, 1e6 do s:upper() end`, []Kind{Memory, Instructions}},
	{"pattern of optional items", `return ("a"):rep(40):find(("a?"):rep(40) .. ("a"):rep(40))`, []Kind{Runtime}},
	{"pattern of lazy items", `return ("a"):rep(3000):find(".-.-.-.-b")`, []Kind{Runtime}},
	{"pattern of greedy items", `return ("a"):rep(3000):find(".*.*.*.*b")`, []Kind{Runtime}},
	{"patterns without end", `while true do pcall(string.find, ("a"):rep(3000), ".-.-.-.-b") end`, []Kind{Instructions}},
	{"long text, short pattern", `return ("x"):rep(1e6):find(".*b")`, []Kind{Runtime}},
	{"pattern of parentheses", `return ("x"):find(("("):rep(2e6))`, []Kind{Runtime}},
	{"pattern with a long set", `return ("x"):rep(1e5):find("[" .. ("a"):rep(1e5) .. "]")`, []Kind{Runtime}},
	{"pattern with many sets", `return ("x"):rep(1e5):gsub("[" .. ("a"):rep(1e4) .. "]*", "")`, []Kind{Runtime, Instructions}},
	{"back reference", `return (("a"):rep(1e4)):find("(.*)%1b")`, []Kind{Runtime}},
	{"balance", `return ("("):rep(1e5):find("%b()x")`, []Kind{Runtime}},
	{"gsub of a megabyte", `return #("x"):rep(1e6):gsub("x", "y")`, []Kind{Instructions, Memory}},
	{"gmatch of a megabyte", `for x in ("x"):rep(1e6):gmatch("x") do end`, []Kind{Instructions, Memory}},
	{"plain find over and over", `local s = ("x"):rep(4e6) while true do s:find("y", 1, true) end`, []Kind{Instructions}},
	{"compare long strings", `local a, b = ("x"):rep(3e6) .. "a", ("x"):rep(3e6) .. "b" while true do if a < b then end end`, []Kind{Instructions}},
	{"equal long strings", `local a, b = ("x"):rep(3e6) .. "a", ("x"):rep(3e6) .. "a" while true do if a == b then end end`, []Kind{Instructions}},
	{"long keys", `local t, k = {}, ("x"):rep(5e6) while true do t[k] = 1 end`, []Kind{Instructions, Memory}},
	{"long numerals", `local s = ("1"):rep(5e6) while true do local x = tonumber(s) end`, []Kind{Instructions}},
	{"long numerals in arithmetic", `local s = ("1"):rep(5e6) while true do local x = s + 1 end`, []Kind{Instructions}},
	{"long keys that are read", `local s = ("x"):rep(4e6) local t = {} t[s] = 1 while true do local v = t[s] end`, []Kind{Instructions}},
	{"long keys of constructors", `local s = ("x"):rep(4e6) while true do local t = {[s] = 1} end`, []Kind{Instructions, Memory}},
	{"long names", `local s = ("x"):rep(4e6) while true do rawequal(s, s .. "") end`, []Kind{Instructions, Memory}},
	{"rawequal of long strings", `local a, b = ("x"):rep(4e6), ("x"):rep(4e6) while true do rawequal(a, b) end`, []Kind{Instructions}},
	{"hexadecimal without end", `local s = ("1"):rep(4e6) while true do tonumber(s, 16) end`, []Kind{Instructions}},
	{"length of a gap", `local t = {} t[262142] = 1 t[262142] = nil while true do local n = #t end`, []Kind{Instructions}},
	{"append behind a gap", `local t = {} t[262142] = 1 t[262142] = nil while true do t[#t + 1] = nil end`, []Kind{Instructions}},
	{"pairs over a gap", `local t = {} t[262142] = 1 while true do for k in pairs(t) do end end`, []Kind{Instructions}},
	{"table gap", `local t = {} t[67108863] = 1 t[2^31] = 1 t[2^53] = 1 t[-1] = 1`, nil},
	{"table gaps", `local ts = {} for i = 1, 1e6 do local t = {} t[262000] = 1 ts[i] = t end`, []Kind{Memory}},
	{"table gap by insert", `local ts = {} for i = 1, 1e6 do local t = {} table.insert(t, 262000, 1) ts[i] = t end`, []Kind{Memory}},
	{"table gap by rawset", `local ts = {} for i = 1, 1e6 do local t = {} rawset(t, 262000, 1) ts[i] = t end`, []Kind{Memory}},
	{"table gap behind __newindex", `local ts = {} for i = 1, 1e6 do local u = {} local t = setmetatable({}, {__newindex = u}) t[262000] = 1 ts[i] = u end`, []Kind{Memory}},
	{"numbers without end", `local t = {} for i = 1, 1e9 do t[i] = i end`, []Kind{Memory, Instructions}},
	{"numbers backwards", `local t = {} for i = 260000, 1, -1 do t[i] = i end`, []Kind{Memory, Instructions}},
	{"keys without end", `local t = {} for i = 1, 1e9 do t["k" .. i] = i end`, []Kind{Memory, Instructions}},
	{"keys put and taken", `local t = {} for i = 1, 1e9 do t["k" .. i] = i t["k" .. i] = nil end`, []Kind{Memory, Instructions}},
	{"tables without end", `local t = {} for i = 1, 1e9 do t[i] = {} end`, []Kind{Memory, Instructions}},
	{"tables with a field", `local t = {} for i = 1, 1e9 do local u = {} u.x = 1 t[i] = u end`, []Kind{Memory}},
	{"tables with an item", `local t = {} for i = 1, 1e9 do t[i] = {1} end`, []Kind{Memory, Instructions}},
	{"tables within tables", `local t = {} while true do t = {t} end`, []Kind{Memory, Instructions}},
	{"tables of many fields", `local t = {} for i = 1, 1e9 do t[i] = {a = 1, b = 2, c = 3, d = 4, e = 5, f = 6, g = 7, h = 8, i = 9, j = 10} end`, []Kind{Memory}},
	{"closures without end", `local f while true do local g = f f = function() return g end end`, []Kind{Memory}},
	{"tables of all arguments", `local t = {} for i = 1, 1000 do t[i] = i end local u = {} for i = 1, 1e9 do u[i] = {unpack(t)} end`, []Kind{Memory, Instructions}},
	{"next of an emptied table", `local t = {} for i = 1, 30000 do t["k" .. i] = 1 end while next(t) do t[next(t)] = nil end`, []Kind{Memory, Instructions}},
	{"unpack a hundred million", `return unpack({}, 1, 1e8)`, []Kind{Runtime}},
	{"unpack the wide integers", `return unpack({}, -2^31, 2^31)`, []Kind{Runtime}},
	{"bytes of ten million", `return ("x"):rep(1e7):byte(1, -1)`, []Kind{Runtime}},
	{"arguments without end", `local function f(...) return f(1, ...) end return f()`, []Kind{Runtime, Instructions}},
	{"arguments without end, caught", `local function f(...) return f(1, ...) end local ok, e = pcall(f) error(e, 0)`, []Kind{Runtime, Instructions}},
	{"concat of the wide integers", `return table.concat(setmetatable({}, {__index = function() return "x" end}), "", 1, 2^31)`, []Kind{Runtime, Memory, Instructions}},
	{"a comparator that lies", `local t = {} for i = 1, 10000 do t[i] = i end table.sort(t, function() return true end)`, []Kind{well, Instructions}},
	{"a comparator that flips", `local t, x = {}, false for i = 1, 5000 do t[i] = i end table.sort(t, function() x = not x return x end) error("sorted")`, []Kind{Runtime, Instructions}},
	{"a comparator that empties the table", `local t = {} for i = 1, 1000 do t[i] = i end table.sort(t, function(a, b) for i = #t, 1, -1 do t[i] = nil end return a < b end) error("sorted")`, []Kind{Runtime, Instructions}},
	{"a comparator that errs", `local t = {3, 2, 1} table.sort(t, function() error("x") end)`, []Kind{Runtime}},
	{"sorts without end", `local t = {} for i = 1, 20000 do t[i] = -i end while true do table.sort(t) t[1] = -t[1] end`, []Kind{Instructions, Memory}},
	{"random of nothing", `return math.random(0)`, []Kind{Runtime}},
	{"random of the wide interval", `return math.random(-1e300, 1e300)`, []Kind{Runtime}},
	{"find beyond the end", `if ("abc"):find("b", 10, true) == nil then error("right") end`, []Kind{Runtime}},
	{"format of a table", `return string.format("%d", {})`, []Kind{Runtime}},
	{"format without arguments", `return string.format("%s %s", "x")`, []Kind{Runtime}},
	{"format with a wide width", `return string.format("%99999999d", 1)`, []Kind{Runtime}},
	{"metatable of strings", `setmetatable("", {})`, []Kind{Runtime}},
	{"metatable of strings, got", `getmetatable("").__index = nil`, []Kind{Runtime}},
	{"string library", `string.len = nil`, []Kind{Runtime}},
	{"string library by rawset", `rawset(string, "len", nil)`, []Kind{Runtime}},
	{"string library by insert", `table.insert(table, 1)`, []Kind{Runtime}},
	{"gsub whose function loops", `("x"):gsub("x", function() while true do end end)`, []Kind{Instructions}},
	{"gsub in gsub", `local function f() return (("x"):gsub("x", f)) end return f()`, []Kind{Runtime}},
	{"sort in sort", `local function f() table.sort({3, 2, 1}, f) end f()`, []Kind{Runtime}},
	{"error of a table", `error({})`, []Kind{Runtime}},
	{"error of nil", `error(nil)`, []Kind{Runtime}},
	{"error of an error", `error(setmetatable({}, {__tostring = function() error("y") end}))`, []Kind{Runtime}},
}

// well is how a script ends that has nothing wrong with it.
const well Kind = -1

const hostilePeak = 128 << 20 // what a child with the test binary itself may hold at its worst

type ending struct {
	Kinds []Kind // at load, in a call
	Texts []string
	Ms    []int64
	Heap  uint64 // after a collection
	Peak  uint64 // the most this process ever held, in octets
}

// TestHostile runs each script in a child, whose address space is limited: memory beyond it kills the child.
func TestHostile(t *testing.T) {
	if name := os.Getenv("LUA_HOSTILE"); name != "" {
		hostileChild(name)
		return
	}
	for i, h := range hostile {
		if (raceEnabled || testing.Short()) && i%8 != 0 { // one goroutine each: nothing to race
			continue
		}
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), 9*time.Minute)
			defer cancel()
			cmd := exec.CommandContext(ctx, os.Args[0], "-test.run=^TestHostile$")
			cmd.Env = append(os.Environ(), "LUA_HOSTILE="+h.name, "GORACE=atexit_sleep_ms=20")
			out, err := cmd.Output()
			if err != nil {
				t.Fatalf("the child died: %v\n%.2000s", err, out)
			}
			line, _, _ := strings.Cut(string(out), "\n")
			var e ending
			if err := json.Unmarshal([]byte(line), &e); err != nil {
				t.Fatalf("%v: %s", err, out)
			}
			for i, k := range e.Kinds {
				if h.kinds == nil && k != well || h.kinds != nil && !slices.Contains(h.kinds, k) {
					t.Errorf("%s: ends with %v (%s), want one of %v", [...]string{"load", "call"}[i], k, e.Texts[i], h.kinds)
				}
			}
			use := cmd.ProcessState
			if cpu := use.UserTime() + use.SystemTime(); !raceEnabled && cpu > 6*time.Second {
				t.Errorf("takes %v of processor time", cpu)
			}
			if !raceEnabled && e.Peak > hostilePeak {
				t.Errorf("held %d MB", e.Peak>>20)
			}
			if e.Heap > 30<<20 {
				t.Errorf("keeps %d MB", e.Heap>>20)
			}
			t.Logf("%v ms, %d MB, %q", e.Ms, e.Peak>>20, e.Texts)
		})
	}
}

func hostileChild(name string) {
	if !raceEnabled {
		limit := syscall.Rlimit{Cur: 4 << 30, Max: 4 << 30}
		if err := syscall.Setrlimit(syscall.RLIMIT_AS, &limit); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	var e ending
	for _, h := range hostile {
		if h.name != name {
			continue
		}
		for _, src := range []string{h.src, "return function() " + h.src + " end"} {
			// The clock decides only where it may: a busy machine must not change how the others end.
			wall := 4 * time.Minute
			if slices.Contains(h.kinds, Deadline) {
				wall = time.Second
			}
			k, text, took := hostileRun(src, wall)
			e.Kinds, e.Texts, e.Ms = append(e.Kinds, k), append(e.Texts, text), append(e.Ms, took.Milliseconds())
		}
	}
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	e.Heap, e.Peak = m.HeapAlloc, peak()
	b, _ := json.Marshal(e)
	fmt.Println(string(b))
	os.Exit(0)
}

// hostileRun runs the top level, and the function it returned if it returned one.
func hostileRun(src string, wall time.Duration) (kind Kind, text string, took time.Duration) {
	start := time.Now()
	proto, err := compileAnyway(src)
	if err != nil {
		return Panic, err.Error(), 0
	}
	s := NewState()
	defer s.Close()
	s.files["p"] = struct{}{}
	deadline := start.Add(wall)
	v, err := s.Call(s.L.NewFunctionFromProto(proto), Budget{}, deadline, context.Background())
	if fn := s.function(v); err == nil && fn != nil {
		s.Freeze(fn)
		_, err = s.Call(fn, Budget{}, deadline, context.Background())
	}
	took = time.Since(start)
	if err == nil {
		return well, "", took
	}
	le := err.(*Error)
	return le.Kind, le.Error() + " | " + le.Traceback, took
}

// peak reads the high-water mark of this process; rusage would include the parent's from before exec.
func peak() uint64 {
	status, _ := os.ReadFile("/proc/self/status")
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	var kb uint64
	fmt.Sscan(rest, &kb)
	return kb << 10
}
