package lua

import (
	"fmt"
	"strings"
)

func (g *generator) stmt() {
	simple := []func(){g.local, g.local, g.assign, g.assign, g.multi, g.localTwo, g.logs}
	nested := []func(){g.ifStmt, g.ifStmt, g.numericFor, g.genericFor, g.while, g.repeat, g.localFunc, g.protected, g.doBlock, g.closure,
		g.continued, g.method, g.floatFor, g.counters, g.varargs, g.constructor, g.meta, g.class, g.sorted, g.gmatch, g.swap, g.loopClosures,
		g.nestedPcall, g.chain, g.shadow, g.recursion, g.logs}
	k := g.r.IntN(len(simple) + len(nested))
	if g.depth > 3 || k < len(simple) {
		simple[k%len(simple)]()
		return
	}
	nested[k-len(simple)]()
}

func (g *generator) logs() { g.p("log(%s)\n", g.expr(3)) }

func (g *generator) local() {
	n := g.name("v")
	g.p("local %s = %s\n", n, g.expr(3))
	g.vars = append(g.vars, n)
}

func (g *generator) localTwo() {
	a, b := g.name("v"), g.name("w")
	g.p("local %s, %s = %s, two(%s, %s)\n", a, b, g.expr(1), g.expr(1), g.expr(1))
	g.vars = append(g.vars, a, b)
}

func (g *generator) assign() { g.p("%s = %s\n", g.lhs(), g.expr(3)) }

// multi avoids two targets in one table: the order of assignment is open.
func (g *generator) multi() {
	a, b := g.lhs(), g.lhs()
	if a == b || strings.HasPrefix(a, "tb") && strings.HasPrefix(b, "tb") {
		g.assign()
		return
	}
	g.p("%s, %s = %s, %s\n", a, b, g.expr(2), g.expr(2))
}

func (g *generator) swap() {
	a, b := g.v(), g.v()
	if a == b {
		b = "tb.k2"
	}
	g.p("%s, %s = %s, %s\nlog(%s)\n", a, b, b, a, a)
}

func (g *generator) ifStmt() {
	g.p("if %s then\n", g.expr(3))
	g.some()
	if g.r.IntN(3) == 0 {
		g.p("elseif %s then\n", g.expr(2))
		g.block(1)
	}
	if g.r.IntN(2) == 0 {
		g.p("else\n")
		g.block(1)
	}
	g.p("end\n")
}

func (g *generator) numericFor() {
	i := g.name("i")
	g.p("for %s = 1, %d do\n", i, 1+g.r.IntN(3))
	g.with(func() {
		g.some()
		if g.r.IntN(3) == 0 {
			g.p("if %s then break end\n", g.expr(2))
		}
	}, i)
	g.p("end\n")
}

func (g *generator) floatFor() {
	i, n := g.name("i"), g.name("n")
	g.p("local %s = 0\nfor %s = %s do\n%s = %s + 1\nlog(%s)\n", n, i,
		g.pick("0.5, 2, 0.5", "3, 1, -1", "1, 0", "2, 1.5, -0.25", "-1, 1, 0.75", "1, 3.9", "#str(b), 0, -1", "1, num(a) > 3 and 3 or 2"), n, n, i)
	g.with(func() { g.block(1) }, i)
	g.p("if %s > 5 then break end\nend\nlog(%s)\n", n, n)
}

func (g *generator) genericFor() {
	x := g.name("x")
	g.p("for "+g.pick("_, %s in ipairs({1, 2})", "%s in it2()", "%s in it1", "%s in pairs({q = 1})", "_, %s in ipairs({id(3), 4})", "_, %s in next, {5}",
		"_, %s in pairs({two(8, 9)})")+" do\n", x)
	g.with(g.some, x)
	if g.r.IntN(4) == 0 {
		g.p("if %s then break end\n", g.expr(1))
	}
	g.p("end\n")
}

func (g *generator) while() {
	c := g.name("c")
	g.p("local %s = 0\nwhile %s < 2 and (%s) ~= 99 do\n%s = %s + 1\n", c, c, g.expr(2), c, c)
	g.block(1)
	g.p("end\n")
}

func (g *generator) repeat() {
	c := g.name("c")
	g.p("local %s = 0\nrepeat\n%s = %s + 1\nlocal z%s = %s\nuntil %s > 2 or z%s\n", c, c, c, c, g.expr(2), c, c)
}

func (g *generator) localFunc() {
	f := g.name("f")
	g.p("local function %s(p, ...)\n", f)
	g.with(func() {
		g.some()
		if g.r.IntN(3) == 0 {
			g.p("if %s then return %s end\n", g.expr(2), g.expr(1))
		}
		g.p("return %s\n", g.expr(3))
	}, "p")
	g.p("end\n%s = %s(%s, 1)\n", g.v(), f, g.expr(1))
}

func (g *generator) protected() {
	g.p("pc(function()\n")
	g.block(1)
	if g.r.IntN(2) == 0 {
		g.p("error(%s)\n", g.pick("'e'", "{}", "nil", "'e', 2", "'e', 0"))
	}
	g.p("end)\n")
}

func (g *generator) nestedPcall() {
	x := g.v()
	g.p("do local ok, e = pcall(function(...)\n%s = %s\nlocal ok2, e2 = pcall(error, %s)\nlog(ok2) log(e2)\n", x, g.expr(1), g.pick("5", "'x'", "nil", "false"))
	g.block(1)
	g.p("if %s then error('y') end\nreturn ...\nend, %s)\nlog(ok) if ok then log(e) end\n", g.expr(1), g.expr(1))
	g.p("log(select('#', pcall(two, %s, %s))) log((xpcall(function() return #nil end, function(m) log(type(m)) return 3 end))) end\n", g.expr(1), g.atom())
}

func (g *generator) doBlock() {
	g.p("do\n")
	g.some()
	g.p("end\n")
}

func (g *generator) closure() {
	f, x := g.name("cl"), g.v()
	g.p("local %s = function() return %s end\n%s = %s\nlog(%s())\n", f, g.expr(2), x, g.expr(1), f)
}

func (g *generator) shadow() {
	x := g.v()
	if strings.Contains(x, ".") {
		return
	}
	g.p("do\nlocal %s = %s\nlog(%s)\n", x, g.expr(2), x)
	g.block(1)
	g.p("%s = %s\nlog(%s)\nend\nlog(%s)\n", x, g.expr(2), x, x)
}

// counters nests closures three deep over shared variables.
func (g *generator) counters() {
	m := g.name("mk")
	g.p("local function %s(n)\nlocal step = %s\nreturn function(d)\nn = n + d * step\nreturn function() n = n + 1 return n, %s end\nend\nend\n", m, g.digit(), g.expr(1))
	g.p("do local k = %s(%s) local l = k(2) log(l()) log((l())) k(1) log(l()) end\n", m, g.digit())
}

func (g *generator) loopClosures() {
	t, i := g.name("fs"), g.name("i")
	g.p("local %s = {}\nfor %s = 1, 3 do\nlocal y = %s\n%s[%s] = function() y = str(y) .. %s return y end\n", t, i, g.expr(1), t, i, i)
	if g.r.IntN(2) == 0 {
		g.p("if %s then break end\n", g.expr(1))
	}
	g.p("end\nfor _, f in ipairs(%s) do log(f()) log(f()) end\n", t)
}

func (g *generator) varargs() {
	f := g.name("va")
	g.p("local function %s(x, ...)\nlocal p, q, r = ...\nlocal t = {x, ...}\nlog(select('#', ...)) log(p) log(r)\nif select('#', ...) > 1 then return ... end\nreturn %s(x, x, ...)\nend\n", f, f)
	g.p("log((%s(%s, %s)))\nlog(select('#', %s(%s, %s)))\n", f, g.expr(1), g.expr(1), f, g.atom(), g.atom())
	g.p("log(unpack({%s, two(%s, 2)}, %d))\n", g.digit(), g.atom(), 1+g.r.IntN(2))
}

func (g *generator) constructor() {
	t := g.name("t")
	g.p("local %s = {num(%s), id(num(%s)), k = %s, [%s] = {%s, {%s}}, two(num(%s), %s)}\n", t, g.expr(1), g.expr(1), g.expr(2), g.pick("'x'", "-1", "'a b'", "0.5"), g.digit(), g.digit(), g.expr(1), g.digit())
	g.p("log(#%s) log(%s.k) log(%s[3]) log(%s[4])\n", t, t, t, t)
	g.p("%s[#%s + 1] = %s\ntable.insert(%s, %d, %s) log(table.remove(%s, %d)) log(table.remove(%s)) log(#%s)\n", t, t, g.digit(), t, 1+g.r.IntN(3), g.digit(), t, 1+g.r.IntN(4), t, t)
}

func (g *generator) continued() {
	i := g.name("i")
	g.p("for %s = 1, 3 do\nif %s then goto continue end\ndo\n", i, g.expr(2))
	g.with(func() { g.block(1) }, i)
	g.p("end\n::continue::\nend\n")
}

func (g *generator) method() {
	m := g.name("m")
	g.p("local %s = {q = %s}\nfunction %s:get(x, ...)\n", m, g.expr(1), m)
	g.with(func() {
		g.some()
		g.p("x = %s\nreturn self.q, %s, ...\n", g.expr(2), g.expr(2))
	}, "x")
	g.p("end\nlocal r%s = {%s:get(%s, 3)}\nlog(r%s[1]) log(r%s[2])\n", m, m, g.expr(1), m, m)
}

func (g *generator) meta() {
	m := g.name("o")
	g.p(`local mt%s = {__index = function(t, k) return %s end, __call = function(self, x, ...) return x, %s, ... end,
__add = function(x, y) return "add" end, __concat = function(x, y) return (type(x) == "table" and "T" or x) .. "+" .. (type(y) == "table" and "T" or y) end,
__eq = function(x, y) return %s end, __lt = function(x, y) return %s end, __le = function(x, y) return false end, __unm = function(x) return %s end,
__newindex = function(t, k, v) rawset(t, k, v == nil and 1 or v) log(k) end, __tostring = function() return "obj" end}
local %s, %sb = setmetatable({}, mt%s), setmetatable({}, mt%s)
`, m, g.expr(1), g.expr(1), g.expr(1), g.expr(1), g.expr(1), m, m, m, m)
	ops := []string{"o.x", "o(1, 2)", "o + 1", "'3' + o", "o .. 's'", "'s' .. o .. 't'", "1 .. o", "o == ob", "o ~= ob", "o < ob", "o > ob", "o <= ob", "-o", "tostring(o)", "not o", "rawequal(o, ob)", "o == 1"}
	for range 3 + g.r.IntN(4) {
		op := ops[g.r.IntN(len(ops))]
		g.p("log(%s)\n", replaceWord(op, m))
	}
	g.p("%s.%s = %s log(%s.y) log(rawget(%s, 'y'))\n", m, g.pick("y", "z"), g.expr(1), m, m)
}

// replaceWord puts the object's name for "o" and its fellow's for "ob".
func replaceWord(op, name string) string {
	var b strings.Builder
	for i := 0; i < len(op); i++ {
		word := op[i] == 'o' && (i == 0 || !isAlpha(op[i-1])) && (i+1 == len(op) || !isAlpha(op[i+1]) || op[i+1] == 'b' && (i+2 == len(op) || !isAlpha(op[i+2])))
		if word {
			b.WriteString(name)
			continue
		}
		b.WriteByte(op[i])
	}
	return b.String()
}

func (g *generator) class() {
	c := g.name("C")
	g.p("local %s = {} %s.__index = %s\nfunction %s.new(x) return setmetatable({x = x}, %s) end\nfunction %s:get() return self.x, %s end\n", c, c, c, c, c, c, g.expr(1))
	g.p("local %sd = setmetatable({}, {__index = %s}) %sd.__index = %sd\nfunction %sd:more() return self:get() end\n", c, c, c, c, c)
	g.p("do local o = setmetatable({x = %s}, %sd) log(o:get()) log((o:more())) log(%s.new(%s):get()) log(o.none) end\n", g.expr(1), c, c, g.expr(1))
}

func (g *generator) sorted() {
	t := g.name("l")
	g.p("local %s = list(%s, %s, 4, %s, 1)\ntable.sort(%s%s)\nlog(table.concat(%s, ' '))\n", t, g.num(2), g.expr(1), g.num(1), t,
		g.pick("", ", function(x, y) return x > y end", ", function(x, y) return x < y end"), t)
}

func (g *generator) gmatch() {
	x, y := g.name("x"), g.name("y")
	pat := corpusPatterns[g.r.IntN(len(corpusPatterns))]
	if strings.HasPrefix(pat, "^") {
		pat = "%a"
	}
	g.p("for %s, %s in (str(%s) .. ' pq1'):gmatch(%q) do log(%s) log(%s) end\n", x, y, g.expr(2), pat, x, y)
}

// chain is the and/or ladder that policies are made of.
func (g *generator) chain() {
	x := g.v()
	parts := make([]string, 2+g.r.IntN(4))
	for i := range parts {
		parts[i] = g.sub(1 + g.r.IntN(2))
	}
	s := parts[0]
	for _, p := range parts[1:] {
		s += g.pick(" and ", " or ", " and not ", " or not ") + p
	}
	switch g.r.IntN(3) {
	case 0:
		g.p("%s = %s\n", x, s)
	case 1:
		g.p("if %s then log(1) else log(0) end\n", s)
	default:
		g.p("%s = %s and (%s)\nlog(%s)\n", x, x, s, x)
	}
}

func (g *generator) recursion() {
	f := g.name("r")
	g.p("local function %s(n, acc)\nif n <= 0 then return acc, %s end\nreturn %s\nend\nlog(%s(%s, %s))\n", f, g.expr(1),
		g.pick(fmt.Sprintf("%s(n - 1, acc)", f), fmt.Sprintf("%s(n - 1, str(acc) .. n)", f), fmt.Sprintf("(%s(n - 1, acc))", f)), f, g.digit(), g.expr(1))
}
