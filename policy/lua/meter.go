package lua

import (
	"context"
	"time"

	glua "github.com/yuin/gopher-lua"
)

// Budget is what one run may use. Zero fields mean the defaults.
type Budget struct {
	Instructions int64 // VM instructions; builtins charge their work in the same coin. Default 1e6
	Bytes        int64 // octets of strings and tables made, whether kept or not. Default 16 MiB
}

// DefaultBudget is what a hook gets unless its author asked for something else.
var DefaultBudget = Budget{Instructions: 1_000_000, Bytes: 16 << 20}

const (
	// slowEvery is how many instructions pass between two looks at the clock and at the caller's context.
	slowEvery = 256
	// heavyEvery is the same once a script holds large strings: a single comparison of them takes a
	// millisecond, so 256 of them would overshoot the deadline.
	heavyEvery = 16
	heavyBytes = 1 << 20
)

var closed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

// Meter counts what a script uses. It is the LState's context.Context: gopher-lua polls Done before every
// instruction, so Done is an instruction counter. One goroutine owns it, and it must never be handed to
// code that waits (each poll would cost an instruction): that code takes Context and Deadline.
type Meter struct {
	left, next int64 // instructions left; at next the slow path is due
	every      int64
	bytes      int64 // octets left
	budget     Budget
	deadline   time.Time
	ctx        context.Context
	stop       *stop
	nest       int  // pcalls within pcalls
	raised     bool // what ended the innermost pcall was a Lua error, not a Go panic
	state      *State
	watch      watch
}

// stop is why a run ended before its time.
type stop struct {
	kind Kind
	text string
}

func (s *stop) Error() string { return s.text }

var (
	stopInstructions = &stop{Instructions, "script used up its instruction budget"}
	stopMemory       = &stop{Memory, "script used up its memory budget"}
	stopDeadline     = &stop{Deadline, "script ran longer than its time allows"}
	stopCancelled    = &stop{Cancelled, "script was cancelled"}
)

var _ context.Context = (*Meter)(nil)

// MeterOf gives the meter of a running script; host functions charge through it.
func MeterOf(L *glua.LState) *Meter {
	m, _ := L.Context().(*Meter)
	return m
}

// StateOf gives the State that runs L, also inside a pcall.
func StateOf(L *glua.LState) *State {
	if m := MeterOf(L); m != nil {
		return m.state
	}
	return nil
}

// Reset fills the meter. A zero deadline means none; a nil context is never cancelled.
func (m *Meter) Reset(b Budget, deadline time.Time, ctx context.Context) {
	if b.Instructions <= 0 {
		b.Instructions = DefaultBudget.Instructions
	}
	if b.Bytes <= 0 {
		b.Bytes = DefaultBudget.Bytes
	}
	m.budget, m.left, m.bytes = b, b.Instructions, b.Bytes
	m.every = slowEvery
	m.next = max(m.left-m.every, 0)
	m.deadline, m.ctx = deadline, ctx
	m.stop, m.nest, m.raised = nil, 0, false
	m.Rest()
}

// Context is the caller's own context, for code that waits. It is never nil.
func (m *Meter) Context() context.Context {
	if m.ctx == nil {
		return context.Background()
	}
	return m.ctx
}

// Used says how many instructions and octets were used since Reset.
func (m *Meter) Used() (instructions, bytes int64) {
	return m.budget.Instructions - m.left, m.budget.Bytes - m.bytes
}

// Left says how many instructions may still be used; a builtin that loops takes it as its bound.
func (m *Meter) Left() int64 { return max(m.left, 0) }

// Charge takes n instructions for work that is done at once, outside the VM. A spent budget ends the script at its next
// instruction; a builtin that loops calls Work instead.
func (m *Meter) Charge(n int64) { m.left -= n }

// Work is Charge, but raises at once when the budget is spent, the time is over or the caller is gone: a builtin whose
// loop a stranger's text drives calls it all along, as the VM looks at none of these before the builtin returns.
func (m *Meter) Work(L *glua.LState, n int64) {
	m.left -= n
	if m.left <= 0 {
		m.halt(stopInstructions)
	} else if m.left > m.next || m.slow() == nil {
		return
	}
	L.RaiseError("%s", m.stop.text)
}

// Alloc takes n octets, and the instructions that filling them is worth. It is called before the memory is
// asked for and raises a Lua error when a budget is spent.
func (m *Meter) Alloc(L *glua.LState, n int64) {
	m.bytes -= n
	if m.bytes < 0 {
		m.halt(stopMemory)
		L.RaiseError("%s", m.stop.text)
	}
	if m.every == slowEvery && m.budget.Bytes-m.bytes > heavyBytes {
		m.every = heavyEvery
		m.next = max(m.next, m.left-m.every)
	}
	m.Work(L, n>>5)
}

// halt ends the script for good: each further instruction fails, so no pcall outlives it.
func (m *Meter) halt(s *stop) {
	if m.stop == nil {
		m.stop = s
	}
	m.next = 1 << 62
}

// Done is polled by the VM before each instruction.
func (m *Meter) Done() <-chan struct{} {
	m.left--
	if m.left > m.next {
		return nil
	}
	return m.slow()
}

func (m *Meter) slow() <-chan struct{} {
	if m.stop != nil {
		return closed
	}
	now := time.Now()
	m.look(now)
	switch {
	case m.left <= 0:
		m.halt(stopInstructions)
	case !m.deadline.IsZero() && now.After(m.deadline):
		m.halt(stopDeadline)
	case m.ctx != nil && m.ctx.Err() != nil:
		m.halt(stopCancelled)
	default:
		m.next = max(m.left-m.every, 0)
		return nil
	}
	return closed
}

// Err is the text gopher-lua raises once Done is closed.
func (m *Meter) Err() error {
	if m.stop == nil {
		return nil
	}
	return m.stop
}

// Deadline is the wall time at which the run must be over; code that waits ends before it.
func (m *Meter) Deadline() (time.Time, bool) { return m.deadline, !m.deadline.IsZero() }

// Value completes context.Context; the meter carries none.
func (m *Meter) Value(any) any { return nil }
