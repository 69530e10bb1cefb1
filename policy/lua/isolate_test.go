package lua

import (
	"strings"
	"testing"
	"time"

	glua "github.com/yuin/gopher-lua"
)

// TestNothingPassesOn tries every way we know to leave a value for the next call. The load-time checks refuse the plain ones; these hide
// from them behind an alias, a parameter, a metatable or a closure. Each hook is called with two clients' values; either call must fail,
// or the second must see nothing of the first.
func TestNothingPassesOn(t *testing.T) {
	for name, src := range map[string]string{
		"alias":             `local shared = {} return function(x) local t = shared local old = t.x t.x = x return old end`,
		"helper":            `local shared = {} local function put(t, x) local old = t.x t.x = x return old end return function(x) return put(shared, x) end`,
		"nested":            `local shared = {a = {b = {}}} return function(x) local t = shared.a.b local old = t[1] t[1] = x return old end`,
		"insert":            `local shared = {} local f = table.insert return function(x) local t = shared f(t, x) return t[1] ~= x and t[1] or nil end`,
		"rawset":            `local shared = {} return function(x) local t = shared local old = t.x rawset(t, "x", x) return old end`,
		"remove":            `local shared = {1, 2} return function(x) local t = shared return table.remove(t) == 1 and 1 or nil end`,
		"sort":              `local shared = {2, 1} return function(x) local t = shared table.sort(t) return t[1] == 1 and x or nil end`,
		"setmetatable":      `local shared = {} return function(x) local t = shared local m = getmetatable(t) setmetatable(t, {x = x}) return m and m.x end`,
		"metatable's table": `local m = {} local shared = setmetatable({}, m) return function(x) local t = getmetatable(shared) local old = t.x t.x = x return old end`,
		"__newindex table":  `local store = {} local shared = setmetatable({}, {__newindex = store}) return function(x) local t = shared local old = store.x t.x = x return old end`,
		"upvalue table":     `local function make() local t = {} return function(x) local old = t.x t.x = x return old end end return make()`,
		"table as key":      `local k = {} local shared = {[k] = 1} return function(x) for key in pairs(shared) do local old = key.x key.x = x return old end end`,
		"string library":    `return function(x) local s = string local old = s.stash s.stash = x return old end`,
		"string metatable":  `return function(x) local mt = getmetatable("") local old = mt and mt.stash or nil if mt then mt.stash = x end return old end`,
		"through self":      `local obj = {} function obj:put(x) local s = self local old = s.x s.x = x return old end return function(x) return obj:put(x) end`,
		"from pcall":        `local shared = {} return function(x) local t = shared local old = t.x pcall(function() t.x = x end) return old end`,
		"from gsub":         `local shared = {} return function(x) local t = shared local old = t.x (("a"):gsub("a", function() t.x = x end)) return old end`,
		"iterator":          `local next_word = ("a b c"):gmatch("%a") return function(x) local w = next_word() return w ~= "a" and w or nil end`,
		"table in a table":  `local shared = {list = {}} return function(x) local l = shared.list local old = l[1] l[#l + 1] = x return old end`,
	} {
		t.Run(name, func(t *testing.T) {
			chunk, ps := Compile("t.lua", []byte(src), nil)
			if Refuses(ps) {
				t.Fatalf("the checks see it: %s", ps[0].Render())
			}
			s := NewState()
			defer s.Close()
			v, err := s.Call(s.L.NewFunctionFromProto(chunk.Proto), Budget{}, time.Time{}, nil)
			if err != nil {
				t.Fatal(err)
			}
			if ps := s.Freeze(v); len(ps) > 0 {
				return // refused after loading
			}
			for _, client := range []string{"first", "second"} {
				ret, err := s.Call(s.function(v), Budget{}, time.Time{}, nil, glua.LString(client))
				if err != nil {
					if s.Dead() {
						return
					}
					t.Fatal(err)
				}
				if ret != glua.LNil {
					t.Fatalf("the %s call sees %v", client, ret)
				}
			}
		})
	}
}

// TestRemembers finds closures that would count across calls.
func TestRemembers(t *testing.T) {
	for name, src := range map[string]string{
		"counter":        `local function counter() local n = 0 return function() n = n + 1 return n end end return counter()`,
		"inner function": `local function counter() local n = 0 return function() local function up() n = n + 1 end up() return n end end return counter()`,
		"in a table":     `local function new() local n = 0 return {next = function() n = n + 1 return n end} end local c = new() return function() return c.next() end`,
		"memo":           `local function memo(f) local last return function(x) last = last or f(x) return last end end return memo(tostring)`,
	} {
		chunk, ps := Compile("t.lua", []byte(src), nil)
		if Refuses(ps) {
			t.Fatal(ps[0].Render())
		}
		s := NewState()
		v, err := s.Call(s.L.NewFunctionFromProto(chunk.Proto), Budget{}, time.Time{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		ps = s.Freeze(v)
		if len(ps) != 1 || ps[0].File != "t.lua" || ps[0].Line != 1 || !strings.Contains(ps[0].Text, "serves every connection") {
			t.Errorf("%s: %v", name, ps)
		}
		s.Close()
	}
}

// TestLocalsAreFree lets a hook do with its own values what it likes.
func TestLocalsAreFree(t *testing.T) {
	s, fn := load(t, `local limits = {a = 1}
		return function(x)
			local t, n = {}, 0
			local function add(v) n = n + 1 t[n] = v end
			add(x) add(limits.a) table.insert(t, 3) table.sort(t) setmetatable(t, {__index = limits})
			return table.concat(t, " ") .. t.a .. n
		end`)
	for _, x := range []string{"4", "5"} {
		if ret, err := s.Call(fn, Budget{}, time.Time{}, nil, glua.LNumber(x[0]-'0')); err != nil || text(ret) != "1 3 "+x+"12" {
			t.Error(ret, err)
		}
	}
}

// TestOwnGlobals keeps files apart: each means its own check().
func TestOwnGlobals(t *testing.T) {
	s := NewState()
	defer s.Close()
	var fns []*glua.LFunction
	for _, f := range []struct{ file, says string }{{"a.lua", "a"}, {"b.lua", "b"}} {
		chunk, ps := Compile(f.file, []byte(`function check() return "`+f.says+`" end name = "`+f.says+`" return function() return check() .. name end`), nil)
		if Refuses(ps) {
			t.Fatal(ps)
		}
		v, err := s.Call(s.L.NewFunctionFromProto(chunk.Proto), Budget{}, time.Time{}, nil)
		if err != nil {
			t.Fatal(err)
		}
		fns = append(fns, s.function(v))
	}
	for i, want := range []string{"aa", "bb"} {
		if v, err := s.Call(fns[i], Budget{}, time.Time{}, nil); err != nil || text(v) != want {
			t.Error(v, err)
		}
	}
}

func TestRequire(t *testing.T) {
	modules := map[string]string{
		"good":    `local M = {} function M.double(x) return 2 * x end return M`,
		"selfish": `return require("selfish")`, "silent": `local x = 1`, "broken": `error("no")`,
	}
	state := func() *State {
		s := NewState()
		s.Modules = func(name string) (*Chunk, error) {
			c, ps := Compile("lib/"+name+".lua", []byte(modules[name]), nil)
			if Refuses(ps) {
				return nil, ps[0]
			}
			return c, nil
		}
		return s
	}
	for _, c := range []struct{ src, want, err string }{
		{src: `local g = require("good") return g.double(4) == require("good").double(4) and g == require("good")`, want: "true"},
		{src: `return require("silent")`, want: "true"},
		{src: `return require("selfish")`, err: "lib/selfish.lua:1: module 'selfish' requires itself"},
		{src: `return require("broken")`, err: "lib/broken.lua:1: no"},
		{src: `return require("../../etc/passwd")`, err: "t.lua:1: '../../etc/passwd' is no module name: use letters, digits and '_'"},
	} {
		s := state()
		chunk, ps := Compile("t.lua", []byte(c.src), nil)
		if Refuses(ps) {
			t.Fatal(ps)
		}
		s.files["t.lua"] = struct{}{}
		v, err := s.Call(s.L.NewFunctionFromProto(chunk.Proto), Budget{}, time.Time{}, nil)
		if err != nil && err.Error() != c.err || err == nil && (c.err != "" || text(v) != c.want) {
			t.Errorf("%s: %v, %v", c.src, v, err)
		}
		s.Close()
	}
	s := state()
	defer s.Close()
	chunk, _ := Compile("t.lua", []byte(`local g = require("good") return function() local h = g h.x = 1 end`), nil)
	v, err := s.Call(s.L.NewFunctionFromProto(chunk.Proto), Budget{}, time.Time{}, nil)
	if err != nil {
		t.Fatal(err)
	}
	s.Freeze(v)
	if _, err := s.Call(s.function(v), Budget{}, time.Time{}, nil); err == nil {
		t.Error("a module's table was written by a hook")
	}
}
