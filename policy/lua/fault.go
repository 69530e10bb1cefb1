package lua

import (
	"fmt"
	"runtime/debug"
	"strconv"
	"strings"

	glua "github.com/yuin/gopher-lua"
)

// Kind says what ended a script.
type Kind int

const (
	Runtime      Kind = iota // an error raised by the script, the language or a host function
	Instructions             // the instruction budget
	Memory                   // the byte budget
	Deadline                 // the wall deadline
	Cancelled                // the caller's context
	Panic                    // a Go panic in a host function: our bug
)

var kindNames = [...]string{"runtime", "instructions", "memory", "deadline", "cancelled", "panic"}

func (k Kind) String() string {
	if k < 0 || int(k) >= len(kindNames) {
		return "kind(" + strconv.Itoa(int(k)) + ")"
	}
	return kindNames[k]
}

// Error is how a script failed. File and Line are the script's, empty and 0 when no script line was running.
type Error struct {
	File      string
	Line      int
	Text      string // without the position
	Kind      Kind
	Traceback string // a few innermost frames, one a line
}

// Error gives "file:line: text".
func (e *Error) Error() string {
	if e.File == "" {
		return e.Text
	}
	return fmt.Sprintf("%s:%d: %s", e.File, e.Line, e.Text)
}

// raise is the LState's Panic: like gopher-lua's own, but without the traceback that costs a string for each
// tail call ever made. The frames are still there when fault reads them.
func raise(L *glua.LState) {
	panic(&glua.ApiError{Type: glua.ApiErrorRun, Object: L.Get(-1)})
}

// fault turns what was recovered into an Error. The state's frames are as they were when it was raised.
func (s *State) fault(rcv any) *Error {
	e := &Error{}
	e.File, e.Line, e.Traceback = s.frames()
	switch v := rcv.(type) {
	case *glua.ApiError:
		e.Text = errorText(v.Object)
		if v.Type == glua.ApiErrorPanic {
			e.Kind = Panic
		}
	case *goPanic:
		e.Kind, e.Text, e.Traceback = Panic, v.text, v.stack
	default:
		e.Kind, e.Text = Panic, fmt.Sprint(rcv)
		stack := string(debug.Stack())
		if e.Text == overflowPanic && strings.Contains(stack, "registryOverflow") {
			e.Kind, e.Text = Runtime, overflowText
			break
		}
		e.Traceback += "\n" + stack
	}
	if file, line, text, ok := s.splitPosition(e.Text); ok {
		e.File, e.Line, e.Text = file, line, text
	}
	if st := s.Meter.stop; st != nil {
		e.Kind = st.kind
	}
	e.Text = plainly(e.Text)
	if len(e.Text) > maxErrorText {
		e.Text = strings.ToValidUTF8(e.Text[:maxErrorText], "") + "..."
	}
	return e
}

// maxErrorText bounds what error() may put into a log line: its text may well be made of what a stranger sent.
const maxErrorText = 1000

// plainly says what gopher-lua says in words of its own.
func plainly(text string) string {
	if rest, ok := strings.CutPrefix(text, "attempt to index a non-table object("); ok {
		if typ, key, ok := strings.Cut(rest, ") with key "); ok {
			return "attempt to index a " + typ + " value with " + key
		}
	}
	switch text {
	case "attempt to call a non-function object":
		return "attempt to call a value that is not a function"
	case "registry overflow":
		return overflowText
	}
	return text
}

// When the VM's registers run out while a call is being set up, gopher-lua looks for the line of a function that has not
// begun, and panics (state.go: where).
const (
	overflowPanic = "runtime error: index out of range [-1]"
	overflowText  = "too many values at once (registry overflow)"
)

// errorText describes an error value; error{...} raises tables too.
func errorText(v glua.LValue) string {
	switch v := v.(type) {
	case glua.LString:
		return string(v)
	case glua.LNumber:
		return formatNumber(float64(v))
	case *glua.LTable:
		for _, k := range []string{"message", "text", "reason"} {
			if m, ok := v.RawGetString(k).(glua.LString); ok {
				return string(m)
			}
		}
		return "(the error is a table)"
	case nil:
		return "(the error is nil)"
	}
	return "(the error is a " + v.Type().String() + " value)"
}

const maxFrames = 12

// frames names the innermost Lua line and the few frames around it.
func (s *State) frames() (file string, line int, trace string) {
	defer func() { _ = recover() }() // a state broken by a Go panic must not hide the first error
	var b strings.Builder
	for i := 0; i < maxFrames; i++ {
		d, ok := s.L.GetStack(i)
		if !ok {
			break
		}
		if _, err := s.L.GetInfo("Sln", d, glua.LNil); err != nil {
			break
		}
		if d.Source == "" {
			continue
		}
		if file == "" {
			file, line = d.Source, d.CurrentLine
		}
		name := d.Name
		if name == "?" || name == "" {
			name = "function"
		}
		fmt.Fprintf(&b, "%s:%d in %s\n", d.Source, d.CurrentLine, name)
		if d.What == "main" {
			break
		}
	}
	return file, line, strings.TrimSuffix(b.String(), "\n")
}

// splitPosition takes "file:line: text" apart, for the files this state has loaded.
func (s *State) splitPosition(text string) (file string, line int, rest string, ok bool) {
	for f := range s.files {
		after, found := strings.CutPrefix(text, f+":")
		if !found {
			continue
		}
		num, rest, found := strings.Cut(after, ":")
		if !found {
			continue
		}
		if n, err := strconv.Atoi(num); err == nil {
			return f, n, strings.TrimPrefix(rest, " "), true
		}
	}
	return "", 0, "", false
}

// text describes a value that may be a string.
func text(v glua.LValue) string {
	if s, ok := textOf(v); ok {
		return s
	}
	return v.String()
}
