package script

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/yuin/gopher-lua/ast"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/lua"
)

// What a face cannot do although its table has the verdict: docs/faces.md, "Differences". It is no mistake of the language and
// shows only on that face, where its author may never have tried the rule.

// onFaces checks a verdict for the faces that the policy is loaded for.
func (l *looker) onFaces(x *ast.FuncCallExpr, name string) {
	switch name {
	case "quarantine":
		if l.opts.NoDrawer {
			// In a function that no rule may ever call it is only likely to be wrong.
			l.told(x.Line(), name, !l.inHook, "quarantine needs a [quarantine] path: without it the SMTP door can only ask for each such message again (451)")
		}
	case "disconnect":
		if n, ok := constant(x); ok && n != 421 && slices.Contains(l.opts.Faces, policy.Milter) {
			l.told(x.Line(), name, true, "disconnect: in a milter the client is not disconnected with code %g: the MTA closes with 421 only, which is the default", n)
		}
	case "delay":
		n, ok := constant(x)
		if !ok || len(l.opts.Faces) == 0 {
			return
		}
		least := slices.MinFunc(l.opts.Faces, func(a, b *policy.Face) int { return int(a.MaxDelay - b.MaxDelay) })
		if most := least.MaxDelay / time.Second; n > float64(most) {
			l.told(x.Line(), name, true, "delay: %s %d s is the most, and %g s is cut to that", where(least), most, n)
		}
	}
}

// constant is the number that a call is given first, if that shows.
func constant(x *ast.FuncCallExpr) (float64, bool) {
	if len(x.Args) == 0 {
		return 0, false
	}
	s, ok := x.Args[0].(*ast.NumberExpr)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseFloat(s.Value, 64)
	return n, err == nil
}

func where(f *policy.Face) string {
	if f == policy.Milter {
		return "in a milter"
	}
	return "at " + faceName(f)
}

// told is note for what may be a warning.
func (l *looker) told(line int, word string, warning bool, format string, args ...any) {
	l.note(line, word, format, args...)
	l.problems[len(l.problems)-1].Warning = warning
}

// read is where a file reads a field that is never known.
type read struct {
	problem lua.Problem // at the first place
	also    []string    // lines behind it
	last    int
}

// unknown notes that a field is read. It is told once a file: a policy may well be written for a face that is to come, and whoever
// knows does not want to hear it of each rule.
func (l *looker) unknown(name string, key *ast.StringExpr) {
	why, ok := l.opts.Unknown[name]
	if !ok {
		return
	}
	r := l.reads[name]
	switch {
	case r == nil:
		l.reads[name] = &read{problem: l.chunk.At(key.Line(), key.Value, 0, "%s is always nil here: %s", name, why), last: key.Line()}
	case r.last != key.Line():
		r.also, r.last = append(r.also, strconv.Itoa(key.Line())), key.Line()
	}
}

// warnUnknown gives the reads of what is never known.
func (l *looker) warnUnknown() {
	for _, r := range l.reads {
		p := r.problem
		p.Warning = true
		if n := len(r.also); n > 0 {
			p.Text += fmt.Sprintf(" (also read in line%s %s)", map[bool]string{true: "s"}[n > 1], strings.Join(r.also, ", "))
		}
		l.problems = append(l.problems, p)
	}
}
