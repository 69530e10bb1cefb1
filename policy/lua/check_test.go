package lua

import (
	"runtime"
	"strings"
	"testing"
)

var testNames = &Names{
	Known: map[string][]string{
		"on":     {"connect", "helo", "auth", "mail", "rcpt", "data", "headers", "message", "log"},
		"reject": nil, "tempfail": nil, "accept": nil, "log": {"info", "warn", "debug"}, "ratelimit": nil, "quarantine": nil,
	},
	MustReturn: map[string]bool{"reject": true, "tempfail": true, "accept": true},
	Keep:       "conn.data or msg.data",
}

// TestChecks gives a source and the problems it has, "line:col: text".
func TestChecks(t *testing.T) {
	for _, c := range []struct {
		name, src string
		want      []string
	}{
		{"clean", `local limit = 5
local function domain(a) return a:match("@(.*)$") end
on.rcpt(function(msg, rcpt)
	local n = 0
	for i = 1, limit do n = n + i end
	if domain(rcpt.address) == "bad.example" then return reject(550, "5.7.1", "no") end
end)`, nil},
		{"dead code may say what it likes", `local function unused() return 1 + {} end`, nil},
		{"unknown name", `on.rcpt(function() return rejct("no") end)`, []string{"1:27: unknown name 'rejct' (did you mean 'reject'?)"}},
		{"unknown name, a local was meant", "local blocked = {}\non.rcpt(function() if bloked.x then return accept() end end)",
			[]string{"2:23: unknown name 'bloked' (did you mean 'blocked'?)"}},
		{"unknown name twice on a line", `local a, b = foo1(), foo1()`, []string{"1:14: unknown name 'foo1'", "1:22: unknown name 'foo1'"}},
		{"unknown name that is a field beside it", `local t = {} t.bar = bar`, []string{"1:22: unknown name 'bar'"}},
		{"no io", `io.open("/etc/passwd")`, []string{"1:1: unknown name 'io': a policy has no files; use list() or map()"}},
		{"no load and kin", "load('x') loadstring('x') dofile('x') os.exit() debug.traceback() package.path = 'x' coroutine.wrap(1) setfenv(1, {}) _G.x = 1 collectgarbage()",
			[]string{"unknown name 'load'", "unknown name 'loadstring'", "unknown name 'dofile'", "unknown name 'os'", "unknown name 'debug'",
				"unknown name 'package'", "unknown name 'coroutine'", "unknown name 'setfenv'", "unknown name '_G'", "unknown name 'collectgarbage'"}},
		{"used before it is assigned", "local function f() return later end\nlater = 1\nreturn f()", nil},
		{"global in a function", `on.rcpt(function() hits = 1 end)`,
			[]string{"1:20: assignment to global 'hits' inside a function: write 'local hits', or keep it in conn.data or msg.data"}},
		{"global function in a function", "local function f()\n  function g() end\nend",
			[]string{"2:12: assignment to global 'g' inside a function: write 'local g', or keep it in conn.data or msg.data"}},
		{"many calls in a row", strings.Repeat("log.info('a' .. 'b')\n", 3000), nil},
		{"global at the top", "limit = 5\non.rcpt(function() return limit end)", nil},
		{"global at the top, changed in a hook", "hits = 0\non.rcpt(function() hits = hits + 1 end)",
			[]string{"2:20: assignment to global 'hits' inside a function: write 'local hits', or keep it in conn.data or msg.data"}},
		{"local of the file, changed in a hook", "local hits = 0\non.rcpt(function()\n\thits = hits + 1\nend)",
			[]string{"3:2: 'hits' belongs to the file and serves every connection: it cannot change inside a function (use conn.data or msg.data)"}},
		{"local of a block of the file", "do local hits = 0 on.rcpt(function() local x x, hits = 1, 2 end) end",
			[]string{"1:49: 'hits' belongs to the file and serves every connection: it cannot change inside a function (use conn.data or msg.data)"}},
		{"table of the file, written in a hook", "local seen = {}\non.rcpt(function(msg) seen[msg.from] = true end)",
			[]string{"2:23: 'seen' belongs to the file and serves every connection: it cannot be written inside a function (use conn.data or msg.data)"}},
		{"deep in a table of the file", "local seen = {a = {}}\non.rcpt(function(msg) seen.a.b = true end)", []string{"2:23: 'seen' belongs to the file"}},
		{"table of the file, inserted into", "local seen = {}\non.rcpt(function(msg) table.insert(seen, msg.from) rawset(seen, 1, 2) end)",
			[]string{"2:36: 'seen' belongs to the file", "2:59: 'seen' belongs to the file"}},
		{"method of a table of the file", "local seen = {}\nlocal function f() function seen:add() end end", []string{"2:29: 'seen' belongs to the file"}},
		{"parameter of the same name", "local seen = {}\non.rcpt(function(seen) seen.x = 1 seen = nil end)", nil},
		{"written at the top", "local seen = {}\nseen.x = 1\ntable.insert(seen, 2)\nfor i = 1, 3 do seen[i] = i end", nil},
		{"verdict not returned", "on.rcpt(function()\n\treject(550, \"no\")\nend)", []string{"2:2: 'reject' alone does nothing: write 'return reject(...)'"}},
		{"verdict kept", `on.rcpt(function() local v = reject(550, "no") if v then return v end end)`, nil},
		{"a local of a verdict's name", `local function reject() end reject()`, nil},
		{"builtin assigned", `string = nil reject = 1`, []string{"1:1: 'string' is built in and cannot be assigned", "1:14: 'reject' is built in and cannot be assigned"}},
		{"builtin function defined", `function tostring() end`, []string{"1:10: 'tostring' is built in and cannot be assigned"}},
		{"library written", `string.trim = function(s) return s end function table.map() end`,
			[]string{"1:1: 'string' is built in and cannot be changed", "1:49: 'table' is built in and cannot be changed"}},
		{"unknown field", `return string.uper("x"), on.rctp, table.conct`,
			[]string{"1:15: 'string' has no field 'uper' (did you mean 'upper'?)", "1:29: 'on' has no field 'rctp' (did you mean 'rcpt'?)",
				"1:41: 'table' has no field 'conct' (did you mean 'concat'?)"}},
		{"unknown method of a literal", `return ("x"):trimm()`, []string{"1:14: 'string' has no field 'trimm'"}},
		{"unknown field of a local of the same name", `local string = {} return string.uper`, nil},
		{"escapes", `local a, b, c = '\x41', "\065\n\\\"", '%d+\.' return a, b, c`,
			[]string{`1:18: Lua 5.1 has no escape '\x': write the character's number in decimal, '\065'`,
				`1:43: Lua 5.1 has no escape '\.' (in a Lua pattern write '%.', in a re(...) write '\\.')`}},
		{"escape too large", `return '\300'`, []string{`1:9: escape '\300' is too large: a character has at most 255`}},
		{"escapes in long strings are text", "return [[\\x41 \\q]] -- '\\x'\n--[==[ '\\x' ]] ]==]", nil},
		{"number and string", `return 5 == "5", #"x" < "3", 1 ~= "1"`,
			[]string{"1:10: a number is compared with a string: '==' is never true (see tonumber and tostring)",
				"1:23: a number is compared with a string: '<' is an error (see tonumber and tostring)",
				"1:32: a number is compared with a string: '~=' is always true (see tonumber and tostring)"}},
		{"a numeral in quotes", `on.mail(function(msg) return msg.size > "1000", msg.user == "5", "x" < msg.id end)`,
			[]string{"1:39: '>' compares text here: write 1000 without quotes to compare numbers"}},
		{"strings with strings", `return "a" < "b", 1 < 2, "a" .. 1 == "a1"`, nil},
		{"malformed number", `return 1e`, []string{"1:8: malformed number '1e'"}},
		{"several at once, in order", "foo()\nlocal x = '\\q'\nbar()", []string{"1:1: unknown name 'foo'", `2:12: Lua 5.1 has no escape '\q'`, "3:1: unknown name 'bar'"}},

		{"syntax: stray =", "local x = = 1", []string{"1:11: unexpected '='"}},
		{"syntax: a comparison", "if x = 1 then end", []string{"1:6: unexpected '=' (to compare, write '==')"}},
		{"syntax: not equal", "local x = 1 != 2", []string{"1:13: invalid token (write '~=' for 'is not equal')"}},
		{"syntax: other languages", "local x = 1 && 2", []string{"1:13: invalid token (write 'and')"}},
		{"syntax: increment", "local x = 1 x += 1", []string{"1:15: unexpected '+' (write x = x + 1)"}},
		{"syntax: comment", "// a comment", []string{"1:1: unexpected '/' (a comment begins with '--')"}},
		{"syntax: braces", "if true { }", []string{"1:9: unexpected '{' (write 'then' or 'do', and 'end')"}},
		{"syntax: quotes of a word processor", "local x = \u201cabc\u201d", []string{"1:11: invalid token (a typographic quote: write \")"}},
		{"syntax: UTF-16", "\xff\xfeo\x00n\x00", []string{"1:1: invalid token (the file is UTF-16: save it as UTF-8)"}},
		{"syntax: open table", "local t = {1, 2\non.mail(f)", []string{"2:1: unexpected 'on' ('{' of line 1 is still open)"}},
		{"syntax: open call", "on.mail(function(msg) return reject(\"x\" end)", []string{"1:41: unexpected 'end' ('(' of line 1 is still open)"}},
		{"syntax: word", "on.rcpt(function(msg)\n  if x thn\n  end\nend)", []string{"2:8: unexpected 'thn'"}},
		{"syntax: no then", "on.rcpt(function(msg)\n  if msg.from == \"x\"\n    return 5\n  end\nend)", []string{"3:5: unexpected 'return' (is 'then' missing in line 2?)"}},
		{"syntax: no do", "for _, a in ipairs({}) -- each\n  x()\nend", []string{"2:3: unexpected 'x' (is 'do' missing in line 1?)"}},
		{"syntax: a condition of two lines", "if x and\n  y = 1 then\nend", []string{"2:5: unexpected '='"}},
		{"syntax: no comma", "on.rcpt(\"a\" function(msg) end)", []string{"1:13: unexpected 'function' (is ',' missing before it?)"}},
		{"syntax: no comma between texts", "local t = { 'a' \"b\" }", []string{"1:17: unexpected 'b' (is ',' missing before it?)"}},
		{"syntax: not joined", "reject(\"from \" msg.from)", []string{"1:16: unexpected 'msg' (is ',' or '..' missing before it?)"}},
		{"syntax: else if", "on.rcpt(function(x)\n  if x then\n  else if y then\n  end\nend)", []string{"5:4: unexpected ')' ('function' of line 1 is still open; 'else if' of line 3 wants an 'end' of its own: write 'elseif')"}},
		{"syntax: elif", "if x then\nelif y then\nend", []string{"2:6: unexpected 'y' (write 'elseif')"}},
		{"syntax: a keyword misspelt", "on.rcpt(function(x)\n  retrun reject('x')\nend)", []string{"2:10: unexpected 'reject' (is 'retrun' to be 'return'?)"}},
		{"syntax: string", "local x = \"abc\nlocal y", []string{"1:11: unterminated string"}},
		{"syntax: it's", "local x = 'it's'", []string{"1:16: unterminated string"}},
		{"syntax: long string", "\nlocal x = [==[abc\nlocal y", []string{"2:11: unterminated string or comment: '[==[' is never closed"}},
		{"syntax: long comment", "--[[ abc\nlocal y", []string{"1:3: unterminated string or comment: '[[' is never closed"}},
		{"syntax: end of file", "on.rcpt(function(msg)\n  if msg then\nend)\n", []string{"3:4: unexpected ')' ('function' of line 1 is still open)"}},
		{"syntax: unclosed", "on.rcpt(function(msg)\n  if msg then\n", []string{"2:14: unexpected end of file ('if' of line 2 is still open)"}},
		{"syntax: statement", "x + 1", []string{"1:3: unexpected '+'"}},
		{"syntax: alone", "local x\nx", []string{"unexpected"}},
		{"syntax: no integers", "local x = 1 & 2", []string{"1:13: invalid token (Lua 5.1 has no operators on bits)"}},
		{"syntax: goto nowhere", "\ngoto away\n\n", []string{"2:1: no visible label 'away' for <goto>"}},
		{"a table called", "log('x')", []string{"1:1: 'log' is a table of functions and cannot be called: write log.info(...)"}},
		{"a table called behind a misspelt field", "log.inof('x')\nlog('x')", []string{"1:5: 'log' has no field 'inof' (did you mean 'info'?)", "2:1: 'log' is a table of functions and cannot be called: write log.info(...)"}},
		{"a pattern", "return string.find('x', '[a'), string.find('x', '[a', 1, true), string.match('x', '(%d')", []string{"1:15: malformed pattern (missing ']')", "1:72: unfinished capture"}},
		{"names of elsewhere", "local x = null\nprint(True)\nreturn os.time()", []string{"1:11: unknown name 'null': write nil", "2:1: unknown name 'print': write log.info(...)",
			"2:7: unknown name 'True': write true", "3:8: unknown name 'os': a policy has no operating system; the clock is time.now()"}},
		{"a field among few", "log.error('x')", []string{"1:5: 'log' has no field 'error': it has debug, info, warn"}},
		{"syntax: break outside", "break", []string{"no loop to break"}},
		{"syntax: dots outside", "local function f() return ... end", []string{"cannot use '...' outside a vararg function"}},
		{"a BOM and a first line for the shell", "\xef\xbb\xbf#!/usr/bin/lua\nfoo()", []string{"2:1: unknown name 'foo'"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			chunk, ps := Compile("t.lua", []byte(c.src), testNames)
			if (chunk == nil) != Refuses(ps) {
				t.Errorf("chunk %v beside %v", chunk, ps)
			}
			for i, p := range ps {
				got := p.Error()
				if i >= len(c.want) || !strings.Contains(strings.TrimPrefix(got, "t.lua:"), c.want[i]) {
					t.Errorf("unexpected: %s", p.Render())
				}
			}
			for _, w := range c.want[min(len(ps), len(c.want)):] {
				t.Errorf("missing: %s", w)
			}
		})
	}
}

func TestRender(t *testing.T) {
	_, ps := Compile("a.lua", []byte("\tlocal é = 1\n\tlocal \"é\", x = = 2"), nil)
	if len(ps) != 1 {
		t.Fatal(ps)
	}
	p := Problem{File: "a.lua", Line: 2, Col: 14, Text: "unexpected '='", Source: "\tlocal \"é\", x = = 2"}
	want := "a.lua:2:14: unexpected '='\n    \tlocal \"é\", x = = 2\n    \t           ^"
	if got := p.Render(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

// TestManyProblems tells the first and how many more there are.
func TestManyProblems(t *testing.T) {
	_, ps := Compile("t.lua", []byte(strings.Repeat("x()\n", 5000)), nil)
	if len(ps) != maxProblems+1 || ps[maxProblems].Error() != "t.lua:50:1: 4950 more problems in this file" {
		t.Errorf("%d problems, the last %v", len(ps), ps[len(ps)-1])
	}
}

// TestMutable lets a test file keep what it likes.
func TestMutable(t *testing.T) {
	names := *testNames
	names.Mutable = true
	src := "local n, t = 0, {} local function f() n = n + 1 t.x = n total = n end f() f() return total .. t.x"
	if _, ps := Compile("t.lua", []byte(src), &names); len(ps) > 0 {
		t.Fatal(ps)
	}
	if got, err := run(t, src); got != "22" || err != nil {
		t.Error(got, err)
	}
}

// TestDeepSource bounds what the parser and compilers would recurse on.
func TestDeepSource(t *testing.T) {
	calls := 300_000
	if raceEnabled { // it takes seconds for each
		calls = 50_000
	}
	for name, src := range map[string]string{
		"parentheses":   "return " + strings.Repeat("(", 400_000),
		"closed":        "return " + strings.Repeat("(", 100_000) + "1" + strings.Repeat(")", 100_000),
		"braces":        "return " + strings.Repeat("{", 400_000),
		"blocks":        strings.Repeat("do ", 300_000),
		"functions":     "return " + strings.Repeat("function() return ", 50_000),
		"not":           "return " + strings.Repeat("not ", 200_000) + "1",
		"minus":         "return " + strings.Repeat("- ", 400_000) + "1",
		"concat":        "return a" + strings.Repeat("..a", 300_000),
		"power":         "return 1" + strings.Repeat("^1", 300_000),
		"plus":          "return 1" + strings.Repeat("+1", 300_000),
		"fields":        "return a" + strings.Repeat(".a", 300_000),
		"calls":         "a" + strings.Repeat("()", 300_000),
		"table calls":   "a" + strings.Repeat("{}", calls),
		"string calls":  "a" + strings.Repeat("''", calls),
		"elseif":        "if a then " + strings.Repeat("elseif a then ", 60_000) + "end",
		"long function": "local a\n" + strings.Repeat("a=1\n", maxCode+1),
		"long loop":     "local a while true do\n" + strings.Repeat("a=1\n", maxCode+1) + "end",
		"many locals":   strings.Repeat("local a\n", 300),
		"many upvalues": manyUpvalues(),
		"long list":     "return {" + strings.Repeat("1,", 60_000) + "}",
		"many names":    "local " + strings.Repeat("a,", 5000) + "a",
		"many params":   "local function f(" + strings.Repeat("a,", 5000) + "a) end",
		"many args":     "f(" + strings.Repeat("a,", 5000) + "a)",
		"too large":     strings.Repeat(" ", MaxSource+1),
		"zeros":         strings.Repeat("\x00", 1000),
		"open string":   "return '" + strings.Repeat("x", 500_000),
		"open long":     "return [==[" + strings.Repeat("x", 500_000),
		"open comment":  "--[[" + strings.Repeat("x", 500_000),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		chunk, ps := Compile("t.lua", []byte(src), &Names{Mutable: true, Known: map[string][]string{"a": nil, "f": nil}})
		if chunk != nil {
			t.Errorf("%s: compiled", name)
			continue
		}
		if text := ps[0].Error(); len(text) > 300 || strings.Contains(text, "compiler failed") {
			t.Errorf("%s: %.300s", name, text)
		}
		runtime.ReadMemStats(&after)
		if used := (after.TotalAlloc - before.TotalAlloc) >> 20; used > 400 {
			t.Errorf("%s: took %d MB", name, used)
		} else {
			t.Logf("%s: %d MB, %s", name, used, ps[0].Error())
		}
	}
}

func manyUpvalues() string {
	var b strings.Builder
	b.WriteString("local function f()\n")
	for i := range 190 {
		b.WriteString("local a" + itoa(i) + "\n")
	}
	b.WriteString("return function()\n")
	for i := range 100 {
		b.WriteString("local b" + itoa(i) + "\n")
	}
	b.WriteString("return function() return 0")
	for i := range 190 {
		b.WriteString("+a" + itoa(i))
	}
	for i := range 100 {
		b.WriteString("+b" + itoa(i))
	}
	return b.String() + " end end end"
}
