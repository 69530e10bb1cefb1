package script

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/yuin/gopher-lua/ast"

	"github.com/moongate/moongate/policy"
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

// commandLine is the class of the line that an unknown rule is given: text, too.
var commandLine = &class{name: "line"}

// blank is a pattern that wants one: a Postfix tells a milter the verb of a command that it does not know, and no more.
var blank = regexp.MustCompile(`^(?:[^\[%]|%[^s])*(?: |%s)(?:[^*?-]|$)`)

// wholeLine checks line:find("^GET /") in an unknown rule. line:lower() is the same line.
func (l *looker) wholeLine(x *ast.FuncCallExpr, e env) {
	if len(x.Args) == 0 || !slices.Contains(l.opts.Faces, policy.Milter) || !slices.Contains([]string{"find", "match", "gmatch", "gsub"}, x.Method) {
		return
	}
	of := x.Receiver
	if c, ok := of.(*ast.FuncCallExpr); ok && (c.Method == "lower" || c.Method == "upper") {
		of = c.Receiver
	}
	id, ok := of.(*ast.IdentExpr)
	p, ok2 := x.Args[0].(*ast.StringExpr)
	if ok && ok2 && e[id.Value] == commandLine && blank.MatchString(p.Value) {
		l.told(x.Line(), x.Method, true, "line: a Postfix that asks as a milter tells the first word alone, so this never fits there")
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

// read is where a file reads what is always nil.
type read struct {
	name, text string // of what, and what is told of it
	key        *ast.StringExpr
	of         ast.Expr
}

// unknown notes that a field is read.
func (l *looker) unknown(name string, of *ast.AttrGetExpr, key *ast.StringExpr) {
	if why := l.opts.Unknown[name]; why != "" {
		l.reads = append(l.reads, read{name, name + " is always nil " + why, key, of})
	}
}

// filterRead checks msg.filters.rspamd: a filter that is not in the configuration has said nothing. A name that is nearly another's
// is missed even where the rule goes on without it.
func (l *looker) filterRead(x *ast.AttrGetExpr, e env) {
	m := l.field(x.Object, e)
	key, ok := x.Key.(*ast.StringExpr)
	if m == nil || m.typ != "table<string, Filter>" || !ok || l.opts.Filters == nil || slices.Contains(l.opts.Filters, key.Value) {
		return
	}
	of, meant := ast.Expr(x), didYouMean(key.Value, l.opts.Filters)
	if meant != "" {
		of = nil
	}
	name := "msg.filters." + key.Value
	l.reads = append(l.reads, read{name, fmt.Sprintf("%s is always nil: there is no [[filter]] %q%s", name, key.Value, meant), key, of})
}

// spare notes what a condition reads that may be nil without being missed: then its branch is not taken, or the rest of the condition
// decides. alone is a condition that is met by nil alone: "if not conn.tls then" is meant for some and would be all. What is compared
// with a value is missed.
func (l *looker) spare(x ast.Expr, alone bool) {
	switch x := x.(type) {
	case *ast.AttrGetExpr:
		l.spared[x] = true
	case *ast.LogicalOpExpr:
		alone = alone && x.Operator == "or"
		l.spare(x.Lhs, alone)
		l.spare(x.Rhs, alone)
	case *ast.UnaryNotOpExpr:
		if !alone {
			l.spare(x.Expr, false)
		}
	case *ast.RelationalOpExpr:
		_, left := x.Lhs.(*ast.NilExpr)
		_, right := x.Rhs.(*ast.NilExpr)
		if (left || right) && (x.Operator == "~=" || x.Operator == "==" && !alone) {
			l.spare(x.Lhs, false)
			l.spare(x.Rhs, false)
		}
	}
}

// warnUnknown tells of the reads of what is always nil, once a file: a policy may well be written for a face that is to come, and
// whoever knows does not want to hear it of each rule. Where the rules do without it, it is a note.
func (l *looker) warnUnknown() {
	told := map[string]string{}
	for _, r := range l.reads {
		told[r.name] = r.text
	}
	for _, name := range slices.Sorted(maps.Keys(told)) {
		var missed, spared []*ast.StringExpr
		for _, r := range l.reads {
			switch {
			case r.name != name:
			case l.spared[r.of]:
				spared = append(spared, r.key)
			default:
				missed = append(missed, r.key)
			}
		}
		keys, note := missed, len(missed) == 0
		if note {
			keys = spared
		}
		if len(keys) == 0 {
			continue
		}
		first := keys[0]
		p := l.chunk.At(first.Line(), first.Value, 0, "%s", told[name])
		p.Warning, p.Note = true, note
		var also []string
		for i, k := range keys[1:] {
			if k.Line() != keys[i].Line() {
				also = append(also, strconv.Itoa(k.Line()))
			}
		}
		if n := len(also); n > 0 {
			p.Text += fmt.Sprintf(" (also read in line%s %s)", map[bool]string{true: "s"}[n > 1], strings.Join(also, ", "))
		}
		l.problems = append(l.problems, p)
	}
}
