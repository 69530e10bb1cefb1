package lua

import (
	"math"
	"math/rand/v2"

	glua "github.com/yuin/gopher-lua"
)

// mathLibrary is the language's math without randomseed, which would seed the whole process.
func mathLibrary() *glua.LTable {
	lib := newLibrary(mathFuncs)
	for name, f := range mathUnary {
		lib.RawSetString(name, Builtin(func(L *glua.LState) int {
			L.Push(glua.LNumber(f(checkNumber(L, 1))))
			return 1
		}))
	}
	for name, f := range mathBinary {
		lib.RawSetString(name, Builtin(func(L *glua.LState) int {
			L.Push(glua.LNumber(f(checkNumber(L, 1), checkNumber(L, 2))))
			return 1
		}))
	}
	lib.RawSetString("pi", glua.LNumber(math.Pi))
	lib.RawSetString("huge", glua.LNumber(math.Inf(1)))
	return lib
}

var mathUnary = map[string]func(float64) float64{
	"abs": math.Abs, "acos": math.Acos, "asin": math.Asin, "atan": math.Atan, "ceil": math.Ceil, "cos": math.Cos,
	"cosh": math.Cosh, "exp": math.Exp, "floor": math.Floor, "log10": math.Log10, "sin": math.Sin, "sinh": math.Sinh,
	"sqrt": math.Sqrt, "tan": math.Tan, "tanh": math.Tanh,
	"deg": func(x float64) float64 { return x * (180 / math.Pi) },
	"rad": func(x float64) float64 { return x * (math.Pi / 180) },
}

var mathBinary = map[string]func(a, b float64) float64{
	"atan2": math.Atan2, "fmod": math.Mod, "mod": math.Mod, "pow": math.Pow,
	"ldexp": func(m, e float64) float64 { return math.Ldexp(m, clampInt(e)) },
}

var mathFuncs = map[string]glua.LGFunction{
	"frexp":  mathFrexp,
	"log":    mathLog,
	"max":    func(L *glua.LState) int { return extreme(L, func(a, b float64) bool { return a > b }) },
	"min":    func(L *glua.LState) int { return extreme(L, func(a, b float64) bool { return a < b }) },
	"modf":   mathModf,
	"random": mathRandom,
}

func mathFrexp(L *glua.LState) int {
	m, e := math.Frexp(checkNumber(L, 1))
	L.Push(glua.LNumber(m))
	L.Push(glua.LNumber(e))
	return 2
}

func mathLog(L *glua.LState) int {
	x := math.Log(checkNumber(L, 1))
	if L.Get(2) != glua.LNil {
		x /= math.Log(checkNumber(L, 2))
	}
	L.Push(glua.LNumber(x))
	return 1
}

func mathModf(L *glua.LState) int {
	x := checkNumber(L, 1)
	whole, frac := math.Trunc(x), 0.0
	if !math.IsInf(x, 0) {
		frac = x - whole
	}
	L.Push(glua.LNumber(whole))
	L.Push(glua.LNumber(frac))
	return 2
}

func extreme(L *glua.LState, better func(a, b float64) bool) int {
	best := checkNumber(L, 1)
	for i := 2; i <= L.GetTop(); i++ {
		if x := checkNumber(L, i); better(x, best) {
			best = x
		}
	}
	L.Push(glua.LNumber(best))
	return 1
}

func mathRandom(L *glua.LState) int {
	lo, hi := 1.0, 0.0
	switch L.GetTop() {
	case 0:
		L.Push(glua.LNumber(rand.Float64()))
		return 1
	case 1:
		hi = math.Floor(checkNumber(L, 1))
	default:
		lo, hi = math.Ceil(checkNumber(L, 1)), math.Floor(checkNumber(L, 2))
	}
	if !(lo <= hi) || hi-lo >= 1<<53 {
		L.ArgError(L.GetTop(), "interval is empty or too wide")
	}
	L.Push(glua.LNumber(lo + float64(rand.Int64N(int64(hi-lo)+1))))
	return 1
}
