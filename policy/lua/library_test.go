package lua

import (
	"strings"
	"testing"
)

// TestLibrary tells what the libraries give where C's or Go's would give something else; the corpus compares the rest.
func TestLibrary(t *testing.T) {
	for _, c := range []struct{ src, want string }{
		{`return tostring(1e15) .. " " .. tostring(2^53) .. " " .. tostring(123456789012345)`, "1e+15 9.007199254741e+15 1.2345678901234e+14"},
		{`return tostring(1/0) .. tostring(-1/0) .. tostring(1e300) .. tostring(0.1)`, "inf-inf1e+3000.1"},
		{`return tonumber("0x") == nil and tonumber("1_000") == nil and tonumber("inf") == nil and tonumber("nan") == nil and tonumber("0b1") == nil`, "true"},
		{`return tonumber(" 12 ") .. " " .. tonumber("0x1F") .. " " .. tonumber("ff", 16) .. " " .. tonumber("777", 8) .. " " .. tostring(tonumber("9", 8)) .. " " .. tonumber("z", 36)`,
			"12 31 255 511 nil 35"},
		{`return "0x10" + 1 .. " " .. "010" * "2" .. " " .. -"3"`, "17 20 -3"},
		{`return tostring(pcall(function() return "1_0" + 1 end))`, "false"},
		{`return ("x"):rep(0) .. ("x"):rep(-5) .. ("ab"):rep(2.9)`, "abab"},
		{`return ("héllo"):upper() .. ("\200A"):lower()`, "HéLLO\xc8a"},
		{`return select("#", ("a,b"):gsub(",", "%%")) .. (("a,b"):gsub(",", "%%"))`, "2a%b"},
		{`return (("abc"):gsub("", "-"))`, "-a-b-c-"},
		{`return (("hello world"):gsub("o", "0", 1))`, "hell0 world"},
		{`return (("abc"):gsub("%w", {a = 1, b = false}))`, "1bc"},
		{`return (("abc"):gsub("(b)()", "%2%1"))`, "a3bc"},
		{`return (("THE (quick) fox"):find("%((%a+)%)"))`, "5"},
		{`return (("THE (quick) fox"):gsub("%f[%a]%a+", string.lower))`, "the (quick) fox"},
		{`return ("key = value"):match("^(%w+)%s*=%s*(%w+)$")`, "key"},
		{`return tostring(("abc"):find("b", 10)) .. tostring(("abc"):find("", 10)) .. tostring(("abc"):find("c", -1))`, "nil43"},
		{`return ("a.b"):find(".", 1, true)`, "2"},
		{`return string.format("%5.1f|%-5d|%05d|%x|%c|%s|%q|%%", 3.14159, 42, 42, 255, 65, true, 'a"b\n')`, "  3.1|42   |00042|ff|A|true|\"a\\\"b\\\n\"|%"},
		{`return string.format("%g %g %g %.3g %e", 100000, 1e20, 0.1, 1234.5, 12345.678)`, "100000 1e+20 0.1 1.23e+03 1.234568e+04"},
		{`return string.format("%5s|%.2s|%5.1s|", "é", "abc", "xyz")`, "   é|ab|    x|"},
		{`return string.format("%d %d", 3.7, "12") .. string.format("%i", -3.7)`, "3 12-3"},
		{`return string.format("%g|%5g|%G", 1/0, -1/0, 1/0)`, "inf| -inf|INF"},
		{`return string.format("%x", -1)`, "ffffffffffffffff"},
		{`return #string.format("%99d", 1)`, "99"},
		{`return tostring(pcall(string.format, "%100d", 1)) .. tostring(pcall(string.format, "%y", 1)) .. tostring(pcall(string.format, "%", 1)) .. tostring(pcall(string.format, "%d"))`,
			"falsefalsefalsefalse"},
		{`return table.concat({1, 2.5, "x"}, ", ") .. table.concat({}, "x") .. table.concat({1, 2, 3}, "-", 2, 3)`, "1, 2.5, x2-3"},
		{`local t = {1, 2, 3} table.insert(t, 1, 0) table.insert(t, 5, 4) return table.concat(t, " ") .. table.remove(t, 1) .. table.remove(t) .. #t`, "0 1 2 3 4043"},
		{`local t = {} return tostring((table.remove(t))) .. tostring((table.remove({1}, 5))) .. select("#", table.remove(t))`, "nilnil0"},
		{`local t = {5, 3, 9} table.sort(t, function(a, b) return a > b end) return table.concat(t, " ")`, "9 5 3"},
		{`return tostring(pcall(table.sort, {1, "x"})) .. tostring(pcall(table.sort, {{}, {}}))`, "falsefalse"},
		{`return table.maxn({1, 2, [10] = 3}) .. table.getn({1, 2}) .. #{1, 2, nil, 4}`, "1024"},
		{`return math.huge .. math.floor(-0.5) .. math.modf(-3.7) .. math.fmod(-7, 3) .. math.max(1, 3, 2) .. math.log(8, 2)`, "inf-1-3-133"},
		{`local n = math.random(5) return tostring(n >= 1 and n <= 5 and n == math.floor(n)) .. tostring(math.random() < 1) .. math.random(7, 7)`, "truetrue7"},
		{`return select(-1, 1, 2, 3) .. select("#") .. select("#", nil, nil) .. tostring((select(5, 1)))`, "302nil"},
		{`return tostring(pcall(select, 0, 1)) .. tostring(pcall(select, -5, 1))`, "falsefalse"},
		{`return type(next) .. type(nil) .. tostring(next({})) .. tostring(rawequal("a", "a")) .. tostring(rawget({x = 1}, "x"))`, "functionnilniltrue1"},
		{`return tostring(pcall(setmetatable, "x", {})) .. tostring(getmetatable("x")) .. tostring(pcall(setmetatable, {}))`, "falsefalsefalse"},
		{`local t = setmetatable({}, {__metatable = "no"}) return tostring(getmetatable(t)) .. tostring(pcall(setmetatable, t, {}))`, "nofalse"},
		{`return select(2, pcall(error)) == nil and tostring(select(2, pcall(error, nil)))`, "nil"},
		{`local ok, e = pcall(error, {code = 5}) return e.code`, "5"},
		{`return select("#", pcall(function() end)) .. select("#", pcall(unpack, {})) .. select("#", pcall(unpack, {1, 2}, 1, 3)) .. select("#", xpcall(function() return nil end, error))`, "1142"},
		{`return tonumber("+10", 2) .. tonumber(" -11 ", 2) .. tostring(tonumber("+-1", 2)) .. tostring(tonumber("+", 8))`, "2-3nilnil"},
		{`local ok, e = xpcall(function() error("x", 0) end, function(m) return m .. "!" end) return e`, "x!"},
		{`return tostring(select(2, pcall(assert, false))) .. tostring(select(2, pcall(assert, nil, "told"))) .. assert(1, 2)`, "assertion failed!told1"},
		{`local n = 0 for k, v in pairs({1, 2, a = 3}) do n = n + v end for i, v in ipairs({1, 2, nil, 4}) do n = n + v end return n`, "9"},
		{`local t = {} for i = 1, 600 do t["k" .. i] = i end local n = 0 for k in pairs(t) do t[k] = nil n = n + 1 end return n .. tostring(next(t))`, "600nil"},
		{`return #unpack({("x"):rep(3)}) .. table.unpack({7})`, "37"},
		{`return ("%d"):format(3) .. ("x"):len() .. #"x" .. ("abc"):byte(-1) .. string.char(104, 105) .. ("abc"):reverse() .. ("abc"):sub(-2)`, "31199hicbabc"},
	} {
		if got, err := run(t, c.src); err != nil || got != c.want {
			t.Errorf("%.300s\ngives %q, %v, want %q", c.src, got, err, c.want)
		}
	}
}

// TestManyConstants has more constants, fields and operands than an instruction can name directly.
func TestManyConstants(t *testing.T) {
	var b strings.Builder
	b.WriteString("local t = {}\n")
	for i := range 700 {
		b.WriteString("t.f" + itoa(i) + " = '" + itoa(i) + "'\n")
	}
	b.WriteString("local s = 0\n")
	for i := range 700 {
		b.WriteString("s = s + t.f" + itoa(i) + "\n")
	}
	b.WriteString("return s .. ''")
	for i := range 300 {
		b.WriteString(" .. t.f" + itoa(i))
	}
	want := itoa(700 * 699 / 2)
	for i := range 300 {
		want += itoa(i)
	}
	if got, err := run(t, b.String()); err != nil || got != want {
		t.Errorf("%.60q, %v, want %.60q", got, err, want)
	}
}

// TestLongList fills a table beyond one constructor's flush, up to the bound.
func TestLongList(t *testing.T) {
	src := "local t = {" + strings.Repeat("1,", maxList-1) + "7} return #t .. t[1] .. t[" + itoa(maxList) + "]"
	if got, err := run(t, src); err != nil || got != itoa(maxList)+"17" {
		t.Errorf("%q, %v", got, err)
	}
}
