package script

import (
	"slices"
	"strings"

	"github.com/yuin/gopher-lua/ast"
)

// replyArgs checks the form ([code,] [status,] text) as far as it shows. It reports false if the rest is not worth a look.
func (l *looker) replyArgs(x *ast.FuncCallExpr, name string, e env) bool {
	const form = "([code,] [status,] text)"
	args := x.Args
	if n := len(args); n > 0 && spreads(args[n-1]) {
		return true // a text, or as many as there are
	}
	if len(args) > 1 {
		if s, ok := args[0].(*ast.StringExpr); ok && isCode(s.Value) {
			l.note(x.Line(), name, "%s: the code is a number: write %s without quotes", name, s.Value)
			return false
		}
	}
	if len(args) > 2 && l.typeOf(args[0], e) == "a number" && l.typeOf(args[1], e) == "a number" {
		l.note(x.Line(), name, "%s: the status is text, \"5.7.1\": %s%s", name, name, form)
		return false
	}
	if len(args) > 1 && l.typeOf(args[0], e) == "text" && l.typeOf(args[1], e) == "a number" {
		l.note(x.Line(), name, "%s: the code comes first: %s%s", name, name, form)
		return false
	}
	if len(args) > 0 && l.typeOf(args[0], e) == "a number" {
		args = args[1:]
	}
	status := len(args) > 1 && l.typeOf(args[0], e) == "text"
	if status {
		args = args[1:]
	}
	switch {
	case len(args) == 0:
		l.note(x.Line(), name, "%s: the text is missing: %s%s", name, name, form)
		return false
	case len(args) > 1 && (status || len(args) > 3):
		l.note(x.Line(), name, "%s: too many arguments: %s%s", name, name, form)
		return false
	case len(args) > 1: // a code or a status that does not show
		return true
	}
	return l.replyText(x, args[0], name, form, status, e)
}

// replyText checks the text of a reply.
func (l *looker) replyText(x *ast.FuncCallExpr, arg ast.Expr, name, form string, status bool, e env) bool {
	if s, ok := arg.(*ast.StringExpr); ok {
		first, _, more := strings.Cut(s.Value, " ")
		switch {
		case strings.TrimSpace(s.Value) == "":
			l.note(x.Line(), name, "%s: the text is empty, and it is all that the sender learns", name)
			return false
		case isStatus(s.Value) && !status:
			l.note(x.Line(), name, "%s: the text is missing behind the status %q", name, s.Value)
			return false
		case more && (isStatus(first) || isCode(first)):
			p := l.chunk.At(x.Line(), name, 0, "the text begins with %s: code and status are arguments of their own, %s%s", first, name, form)
			p.Warning = true
			l.problems = append(l.problems, p)
		}
		return true
	}
	if t, ok := arg.(*ast.TableExpr); ok {
		if !slices.ContainsFunc(t.Fields, says) {
			l.note(x.Line(), name, "%s: the text is empty, and it is all that the sender learns", name)
			return false
		}
		for _, f := range t.Fields {
			if f.Key != nil {
				l.note(x.Line(), name, "%s: a list of lines has no names: %s%s", name, name, form)
				return false
			}
			if _, ok := f.Value.(*ast.NumberExpr); ok {
				l.note(x.Line(), name, "%s: a list is of lines of text, and code and status stand before it: %s%s", name, name, form)
				return false
			}
		}
		return true
	}
	is := l.typeOf(arg, e)
	if c := l.class(arg, e); c != nil {
		is = "the object " + c.name + c.mainField()
	}
	if is != "" && is != "text" && is != "a table" {
		l.note(x.Line(), name, "%s: the text is text or a list of lines, and here it is %s", name, is)
		return false
	}
	return true
}

// says reports a line of a reply that is not seen to be empty.
func says(f *ast.Field) bool {
	s, ok := f.Value.(*ast.StringExpr)
	return !ok || strings.TrimSpace(s.Value) != ""
}

// isCode reports whether a word looks like a reply code that refuses.
func isCode(s string) bool {
	return len(s) == 3 && (s[0] == '4' || s[0] == '5') && strings.Trim(s, "0123456789") == ""
}
