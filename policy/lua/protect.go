package lua

import (
	"errors"
	"runtime/debug"
	"strings"
	"sync"

	glua "github.com/yuin/gopher-lua"
)

const (
	// maxProtect bounds pcalls within each other: each has a VM of its own, and a Go stack frame.
	maxProtect = 32
	// protectCost is what a pcall is worth in instructions: it makes a small VM.
	protectCost = 300
	// applyName is the file that errors without a line of the script seem to come from.
	applyName = "(pcall)"
)

// goPanic carries a Go panic out of the VM, past every pcall: it is our bug and no script may hide it.
type goPanic struct{ text, stack string }

// protect calls fn with args on a thread of its own. gopher-lua's own pcall closes the upvalues of frames that are
// still running (issue #448) and catches spent budgets; a thread has its own upvalues, and a stopped meter is raised again.
func protect(L *glua.LState, fn glua.LValue, args []glua.LValue) (ok bool, vals []glua.LValue) {
	m := MeterOf(L)
	if m.nest >= maxProtect {
		L.RaiseError("pcall within pcall more than %d levels deep", maxProtect)
	}
	m.Charge(protectCost)
	opts := L.Options
	L.Options.RegistryGrowStep = 1024 // it lives as long as the pcall
	th, cancel := L.NewThread()
	L.Options = opts
	if cancel != nil {
		cancel() // of the derived context, which would escape the meter
	}
	th.SetContext(m)
	m.nest++
	m.raised = false
	state, err, vals := L.Resume(th, L.NewFunctionFromProto(applyProto()), append([]glua.LValue{enterFunc, fn}, args...)...)
	raised := m.raised
	m.nest--
	m.raised = false
	if state != glua.ResumeError {
		return true, vals[1:]
	}
	var obj glua.LValue = glua.LString(err.Error())
	var api *glua.ApiError
	if errors.As(err, &api) {
		obj = api.Object
	}
	if s, ok := obj.(glua.LString); ok { // pcall(error, "x"): no line of the script raised it
		obj = glua.LString(strings.TrimPrefix(string(s), applyName+":1: "))
	}
	switch {
	case m.stop != nil && obj == glua.LString(m.stop.text): // even before enter
	case !raised && obj == glua.LString(overflowPanic):
		obj = glua.LString(overflowText)
	case !raised:
		panic(&goPanic{text: text(obj), stack: string(debug.Stack())})
	}
	if m.stop != nil {
		L.Error(obj, 0)
	}
	return false, []glua.LValue{obj}
}

var enterFunc = Builtin(enter)

// enter is the first thing a thread does: Resume gave it a Panic of its own, which does not tell a Lua error from a Go panic.
func enter(L *glua.LState) int {
	L.Panic = func(L *glua.LState) {
		MeterOf(L).raised = true
		raise(L)
	}
	return 0
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

// callee gives what can be called in argument 1, or nil, and the arguments from 2 to n.
func callee(L *glua.LState, n int) (glua.LValue, []glua.LValue) {
	fn := L.Get(1)
	if fn.Type() != glua.LTFunction && L.GetMetaField(fn, "__call") == glua.LNil {
		return nil, nil
	}
	args := make([]glua.LValue, 0, n)
	for i := 2; i <= n; i++ {
		args = append(args, L.Get(i))
	}
	return fn, args
}

func pushResults(L *glua.LState, ok bool, vals []glua.LValue) int {
	L.Push(glua.LBool(ok))
	for _, v := range vals {
		L.Push(v)
	}
	return 1 + len(vals)
}

// applyProto is what a thread runs: it has to begin with a Lua function. The true before the values is for Resume, which makes a
// nil of no value at all. It is made once the package's settings of gopher-lua stand.
var applyProto = sync.OnceValue(func() *glua.FunctionProto {
	chunk, problems := Compile(applyName, []byte("return function(enter, f, ...) enter() return true, f(...) end"), nil)
	if Refuses(problems) {
		panic(problems[0].Error())
	}
	return chunk.Proto.FunctionPrototypes[0]
})
