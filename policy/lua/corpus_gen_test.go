package lua

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
)

// generator writes random programs that are dense in what compilers get wrong: and/or trees, multiple assignment, closures in
// loops, varargs, metatables, pcall. It keeps away from what the language leaves open (the order of pairs, # of a list
// with holes, the text of errors), so LuaJIT and we must agree.
type generator struct {
	r     *rand.Rand
	b     strings.Builder
	vars  []string
	n     int // of names made
	depth int
}

// program is the n-th program of the corpus. The sequence of PCG is specified, so it is the same for ever.
func program(n int) string {
	g := &generator{r: rand.New(rand.NewPCG(uint64(n), 0x6d6f6f6e)), vars: []string{"a", "b", "c"}}
	g.p("local a, b, c = %s, %s, %s\nlocal tb = {k0 = 1, k1 = false}\n", g.constant(), g.constant(), g.constant())
	for range 3 + g.r.IntN(4) {
		g.stmt()
	}
	g.p("log(a) log(b) log(c) log(tb.k0) log(tb.k1) log(tb.k2)\n")
	return corpusPrelude + g.b.String() + "return table.concat(out, ' ')\n"
}

const corpusPrelude = `local out = {}
local function log(v)
  if v ~= v then v = "nan" elseif v == 0 then v = 0 end -- the sign of zero and of nan is the machine's
  out[#out+1] = type(v) == "table" and "T" or type(v) == "function" and "F" or tostring(v)
end
local function id(x) return x end
local function two(x, y) return x, y end
local function num(x) return type(x) == "number" and x == x and x > -1e6 and x < 1e6 and (x == 0 and 0 or x) or 7 end
local function str(x) return type(x) == "string" and #x < 40 and x or (type(x) == "table" or type(x) == "function") and "obj" or tostring(x == 0 and 0 or x):sub(1, 20) end
local function it1(s, c) if c == nil then return 1 elseif type(c) == "number" and c < 2 then return c + 1 end end
local function va(...) local n = select('#', ...) local a, b = ... return n, a, b end
local function it2() return it1 end
local function pc(f) local ok, e = pcall(f) log(ok) return ok end
local function list(...) local t = {} for i = 1, select('#', ...) do t[i] = num((select(i, ...))) end return t end
`

func (g *generator) p(f string, a ...any) { fmt.Fprintf(&g.b, f, a...) }
func (g *generator) v() string            { return g.vars[g.r.IntN(len(g.vars))] }
func (g *generator) name(prefix string) string {
	g.n++
	return prefix + strconv.Itoa(g.n)
}
func (g *generator) pick(s ...string) string { return s[g.r.IntN(len(s))] }
func (g *generator) digit() string           { return strconv.Itoa(g.r.IntN(6)) }
func (g *generator) letter() string {
	return strconv.Quote(g.pick("p", "q", "r", "pq", "p q", "q1.r2", ""))
}
func (g *generator) constant() string {
	return g.pick("true", "false", "nil", "1", "2", `"s"`, "0.5", `"10"`)
}

// with runs f with extra variables in scope.
func (g *generator) with(f func(), names ...string) {
	save := len(g.vars)
	g.vars = append(g.vars, names...)
	f()
	g.vars = g.vars[:save]
}

func (g *generator) block(n int) {
	save := len(g.vars)
	g.depth++
	for range n {
		g.stmt()
	}
	g.depth--
	g.vars = g.vars[:save]
}

func (g *generator) some() { g.block(1 + g.r.IntN(2)) }

func (g *generator) atom() string {
	switch g.r.IntN(9) {
	case 0:
		return g.constant()
	case 1:
		return g.digit()
	case 2:
		return g.letter()
	case 3:
		return "tb.k" + strconv.Itoa(g.r.IntN(3))
	default:
		return g.v()
	}
}

// num gives an expression that is a number.
func (g *generator) num(d int) string {
	if d <= 0 {
		return g.pick(g.digit(), "0.25", "1e3", "0x1F", "010", "-3", "(-2)")
	}
	switch g.r.IntN(10) {
	case 0, 1:
		return fmt.Sprintf("(%s %s %s)", g.num(d-1), g.pick("+", "-", "*"), g.num(d-1))
	case 2: // never by zero: the compiler keeps one constant for both zeros
		return fmt.Sprintf("(%s / %s)", g.num(d-1), g.pick("2", "0.5", "-4", "3"))
	case 3:
		return fmt.Sprintf("(%s %% %s)", g.num(d-1), g.pick("2", "3", "-4", "2.5", "7"))
	case 4:
		return fmt.Sprintf("num(%s)", g.expr(d-1))
	case 5:
		return fmt.Sprintf("#str(%s)", g.expr(d-1))
	case 6:
		return fmt.Sprintf("(- %s)", g.num(d-1))
	case 7:
		return fmt.Sprintf("math.%s(%s)", g.pick("floor", "ceil", "abs"), g.num(d-1))
	case 8:
		return fmt.Sprintf("math.%s(%s, %s)", g.pick("max", "min", "fmod"), g.num(d-1), g.pick("3", "0.5", "2"))
	default:
		return fmt.Sprintf("(tonumber(%s) or %s)", g.pick(`"12"`, `" 0x10 "`, `"1e2"`, `"z"`, `"08"`, `""`, `"1 2"`), g.num(d-1))
	}
}

// sub gives an expression that may stand beside an operator.
func (g *generator) sub(d int) string {
	e := g.expr(d)
	if strings.Contains(e, " ") {
		return "(" + e + ")"
	}
	return e
}

func (g *generator) expr(d int) string {
	if d <= 0 {
		return g.atom()
	}
	switch g.r.IntN(26) {
	case 0, 1, 2:
		return g.sub(d-1) + " and " + g.sub(d-1)
	case 3, 4, 5:
		return g.sub(d-1) + " or " + g.sub(d-1)
	case 6:
		return "not " + g.sub(d-1)
	case 7:
		return fmt.Sprintf("%s %s %s", g.num(d-1), g.pick("<", "<=", ">", ">=", "==", "~="), g.num(d-1))
	case 8:
		return fmt.Sprintf("%s %s %s", g.sub(d-1), g.pick("==", "~="), g.sub(d-1))
	case 9:
		return fmt.Sprintf("str(%s) %s str(%s)", g.expr(d-1), g.pick("<", "<=", ">", ">="), g.expr(d-1))
	case 10, 11:
		return fmt.Sprintf("id(%s)", g.expr(d-1))
	case 12:
		return fmt.Sprintf("two(%s, %s)", g.expr(d-1), g.expr(d-1))
	case 13:
		return fmt.Sprintf("str(%s) .. str(%s)", g.expr(d-1), g.expr(d-1))
	case 14:
		return fmt.Sprintf("(0 + %s) .. str(%s) .. %s", g.num(1), g.expr(d-1), g.letter())
	case 15, 16:
		return g.num(d)
	case 17:
		return fmt.Sprintf("(function() return %s end)()", g.expr(d-1))
	case 18:
		return fmt.Sprintf("(function(...) return %s, ... end)(%s, %s)", g.expr(d-1), g.expr(d-1), g.atom())
	case 19:
		return fmt.Sprintf("(two(%s, %s))", g.expr(d-1), g.expr(d-1))
	case 20:
		return fmt.Sprintf("({n = %s, %s, [3] = %s})[%d]", g.expr(d-1), g.expr(d-1), g.atom(), 1+g.r.IntN(3))
	case 21:
		return fmt.Sprintf("va(%s, two(%s, %s))", g.expr(d-1), g.expr(d-1), g.expr(d-1))
	case 22:
		return fmt.Sprintf("select(%d, %s, va(%s))", 1+g.r.IntN(3), g.expr(d-1), g.expr(d-1))
	case 23, 24:
		return g.text(d)
	default:
		return g.atom()
	}
}

var corpusPatterns = []string{"p", "q?", "%a+", "(%a)(%d*)", "[^pq]", "^%s*(.-)%s*$", ".-", "%w*$", "(.)%1", "%b()", "[%a_]+", "()q", "%.", "[a-q]+",
	"^p", "q$", "%S+", "(p?)(q*)", "[]]", "%f[%a]%a+", "x*"}

// text gives an expression of the string library.
func (g *generator) text(d int) string {
	s := fmt.Sprintf("str(%s)", g.expr(d-1))
	pat := strconv.Quote(corpusPatterns[g.r.IntN(len(corpusPatterns))])
	switch g.r.IntN(12) {
	case 0:
		return fmt.Sprintf("(%s:gsub(%s, %s))", s, pat, g.pick(`"z"`, `"<%0>"`, `"%1%1"`, `"%%"`, `{p = "P", q = 5}`, `function(x) return x and #tostring(x) > 1 and "L" end`))
	case 1:
		return fmt.Sprintf("select(2, %s:gsub(%s, ''))", s, pat)
	case 2:
		return fmt.Sprintf("%s:match(%s)", s, pat)
	case 3:
		return fmt.Sprintf("%s:find(%s, %d)", s, pat, g.r.IntN(6)-2)
	case 4:
		return fmt.Sprintf("%s:find(%s, 1, true)", s, pat)
	case 5:
		return fmt.Sprintf("%s:sub(%d, %d)", s, g.r.IntN(7)-3, g.r.IntN(7)-3)
	case 6:
		return fmt.Sprintf("%s:%s()", s, g.pick("upper", "lower", "reverse", "len"))
	case 7:
		return fmt.Sprintf("%s:rep(%d)", s, g.r.IntN(4)-1)
	case 8:
		return fmt.Sprintf("%s:byte(%d)", s, g.r.IntN(5)-2)
	case 9:
		return fmt.Sprintf("string.char(%d, %s)", 65+g.r.IntN(20), g.pick("66", `"67"`, "68.0"))
	case 10:
		f, arg := g.format()
		return fmt.Sprintf("string.format(%q, %s)", f, arg)
	default:
		return fmt.Sprintf("table.concat(list(%s, %s, 3), %s)", g.expr(d-1), g.expr(d-1), g.pick("', '", "''", "1"))
	}
}

func (g *generator) format() (string, string) {
	switch g.r.IntN(6) {
	case 0:
		return g.pick("%d", "%5d|", "%-5d|", "%05d", "%+d", "% d", "%.3d", "%x", "%X", "%#x", "%o", "%u"), "math.abs(math.floor(num(" + g.num(1) + ")))"
	case 1:
		return g.pick("%.2f", "%8.3f", "%-8.1f|", "%+.0f", "%e", "%.3e", "%g", "%.3g", "%G", "%08.2f"), "0 + " + g.num(2)
	case 2:
		return g.pick("%s", "%5s|", "%-6s|", "%.2s", "%5.1s|"), g.atomText()
	case 3:
		return g.pick("%q", "<%q>"), g.letter()
	case 4:
		return "%c%%", strconv.Itoa(65 + g.r.IntN(20))
	default:
		return "%s and %s", g.letter() + ", 0 + " + g.num(1)
	}
}

func (g *generator) atomText() string { return fmt.Sprintf("str(%s)", g.atom()) }

func (g *generator) lhs() string {
	switch g.r.IntN(5) {
	case 0:
		return "tb.k" + strconv.Itoa(g.r.IntN(3))
	case 1:
		return fmt.Sprintf("tb[str(%s)]", g.v())
	}
	return g.v()
}
