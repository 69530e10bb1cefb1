// Package lua is the language: gopher-lua made correct and safe. It knows nothing of mail.
//
// gopher-lua v1.1.2 compiles ordinary Lua wrongly (and fails open: "ok = ok and f(false) and f(true)" is true), cannot be
// stopped inside a builtin, and can be made to end the process by one line. Nothing of it is forked; three things
// are put around it:
//
// A pass over the syntax tree between parse and compile (rewrite.go) writes what is miscompiled in another way, and routes
// all that makes memory through metered functions (hidden.go): "..", table constructors and writes, closures.
//
// A Meter is the state's context. The VM polls it before each instruction, so it counts them: a budget ends at the same
// instruction on every machine. Builtins charge their work in the same coin. No wall clock is taken for work; where an
// instruction takes microseconds, the thread's own clock is (dear.go). The wall deadline and the caller's context are looked
// at every 256 instructions. A stopped meter stays stopped, so no pcall outlives it.
//
// The libraries are our own: base without load and its kin, string with a matcher that counts its steps, table, math.
// There is no io, os, debug, package or coroutine. Calls nest 100 deep, the host's counted; tail calls do not nest.
//
// # Use
//
//	chunk, problems := lua.Compile("10-gate.lua", text, names)  // once a file; chunks are shared by all states
//	lib := lua.NewLibrary(names)                                // once a process: the host's names, shared by all states
//	s := lib.NewState()                                         // a dozen kilobytes; or lua.NewState() and SetGlobal before Run
//	err := s.Run(chunk, budget, deadline, ctx)                  // its top level
//	s.Freeze(hooks...)                                          // what is loaded is read-only from here
//	ret, err := s.Call(hook, budget, deadline, ctx, args...)    // many times; 0 allocations for an empty function
//
// A state belongs to one goroutine at a time and is dead after its first error. Host functions of a library are shared by all
// states: they find theirs by StateOf(L).Host. They reach the meter by MeterOf(L): Alloc before they make something large, Charge for work, Context and Deadline for what waits. They call
// back into Lua with L.Call. They must return expected failures as nil, err and raise only for mistakes of the author.
//
// # Nothing passes from one call to the next
//
// Globals and locals of a file are refused as targets inside functions when the file is compiled. Freeze makes each table
// that is reachable from the loaded files read-only, whatever alias leads to it, and reports closures that would count
// across calls. So states of one policy are interchangeable and two clients never see each other's values. What a host
// stores between calls must be plain data: it asks Frozen before it keeps a table that a script gave it.
//
// # When gopher-lua is upgraded
//
// Run the tests. TestCorpus compares 10,000 random programs with LuaJIT's results, TestStockIsWrong tells which of the known bugs
// are gone, TestBudgetIsExact pins the poll before each instruction, TestHostile runs what hangs or kills the stock VM.
// "go test -run TestCorpus -update" asks LuaJIT anew after a change of the generator.
package lua
