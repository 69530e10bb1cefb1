package lua

import (
	"errors"
	"strings"
	"sync"

	glua "github.com/yuin/gopher-lua"
)

const (
	// maxProtect bounds pcalls within each other: each has a VM of its own, and a Go stack frame.
	maxProtect = 32
	// protectCost is what a pcall is worth in instructions: it makes a small VM.
	protectCost = 300
	// goPanicText begins what gopher-lua makes of a Go panic in a host function.
	goPanicText = "runtime error: "
	applyName   = "(pcall)"
)

// goPanic carries a Go panic out of the VM, past every pcall: it is our bug and no script may hide it.
type goPanic struct{ text, stack string }

// protect calls fn with args on a thread of its own. gopher-lua's own pcall closes the upvalues of frames that are
// still running (issue #448) and catches spent budgets; a thread has its own upvalues, and a stopped meter is raised again.
func protect(L *glua.LState, fn *glua.LFunction, args []glua.LValue) (ok bool, vals []glua.LValue) {
	m := MeterOf(L)
	if m.nest >= maxProtect {
		L.RaiseError("pcall within pcall more than %d levels deep", maxProtect)
	}
	m.Charge(protectCost)
	opts := L.Options
	L.Options.RegistrySize, L.Options.CallStackSize = 128, 160
	th, cancel := L.NewThread()
	L.Options = opts
	if cancel != nil {
		cancel() // of the derived context, which would escape the meter
	}
	th.SetContext(m)
	m.nest++
	state, err, vals := L.Resume(th, fn, args...)
	m.nest--
	if state != glua.ResumeError {
		return true, vals
	}
	var obj glua.LValue = glua.LString(err.Error())
	var api *glua.ApiError
	if errors.As(err, &api) {
		obj = api.Object
	}
	if s, isText := obj.(glua.LString); isText {
		if s == overflowPanic {
			return false, []glua.LValue{glua.LString(overflowText)}
		}
		if strings.HasPrefix(string(s), goPanicText) {
			panic(&goPanic{text: string(s), stack: StateOf(L).trace()})
		}
		obj = glua.LString(strings.TrimPrefix(string(s), applyName+":1: ")) // pcall(error, "x"): no line raised it
	}
	if m.stop != nil {
		L.Error(obj, 0)
	}
	return false, []glua.LValue{obj}
}

func basePCall(L *glua.LState) int {
	L.CheckAny(1)
	n := L.GetTop()
	fn, args := callee(L, n)
	if fn == nil {
		L.Push(glua.LFalse)
		L.Push(glua.LString("attempt to call a " + L.Get(1).Type().String() + " value"))
		return 2
	}
	ok, vals := protect(L, fn, args)
	return pushResults(L, ok, vals)
}

// baseXPCall hands the error to a handler, after the frames that raised it are gone.
func baseXPCall(L *glua.LState) int {
	L.CheckAny(1)
	handler := L.CheckFunction(2)
	fn, _ := callee(L, 1)
	if fn == nil {
		L.TypeError(1, glua.LTFunction)
	}
	ok, vals := protect(L, fn, nil)
	if !ok {
		L.Push(handler)
		L.Push(vals[0])
		L.Call(1, 1)
		vals = []glua.LValue{L.Get(-1)}
		L.Pop(1)
	}
	return pushResults(L, ok, vals)
}

// callee gives what argument 1 calls and the arguments from 2 to n. Builtins and callable tables go through a Lua function, for
// a thread has to begin with one.
func callee(L *glua.LState, n int) (*glua.LFunction, []glua.LValue) {
	args := make([]glua.LValue, 0, n)
	for i := 1; i <= n; i++ {
		args = append(args, L.Get(i))
	}
	fn, ok := args[0].(*glua.LFunction)
	if ok && !fn.IsG {
		return fn, args[1:]
	}
	if !ok && L.GetMetaField(args[0], "__call") == glua.LNil {
		return nil, nil
	}
	return L.NewFunctionFromProto(applyProto()), args
}

func pushResults(L *glua.LState, ok bool, vals []glua.LValue) int {
	L.Push(glua.LBool(ok))
	for _, v := range vals {
		L.Push(v)
	}
	return 1 + len(vals)
}

// applyProto is function(f, ...) return f(...) end, made once the package's settings of gopher-lua stand.
var applyProto = sync.OnceValue(func() *glua.FunctionProto {
	chunk, problems := Compile(applyName, []byte("return function(f, ...) return f(...) end"), nil)
	if Refuses(problems) {
		panic(problems[0].Error())
	}
	return chunk.Proto.FunctionPrototypes[0]
})
