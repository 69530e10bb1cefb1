package script

import (
	"slices"
	"strings"

	"github.com/yuin/gopher-lua/ast"

	"github.com/moongate/moongate/policy/lua"
)

// text is the class of a name that is text: the line of a vrfy rule, a local made of text.
var text = &class{name: "text"}

// isText reports whether an expression is text, or nil where there is none.
func (l *looker) isText(x ast.Expr, e env) bool {
	switch x := x.(type) {
	case *ast.IdentExpr:
		return e[x.Value] == text || e[x.Value] == commandLine
	case *ast.AttrGetExpr:
		m := l.field(x, e)
		return m != nil && strings.TrimSuffix(m.typ, "?") == "string"
	case *ast.FuncCallExpr:
		m := l.called(x, e)
		return m != nil && len(m.returns) > 0 && strings.TrimSuffix(m.returns[0].typ, "?") == "string"
	}
	return l.typeOf(x, e) == "text"
}

// textMethod checks msg.from:mtach("x") and the pattern of msg.from:match("[a-z").
func (l *looker) textMethod(x *ast.FuncCallExpr, e env) {
	if !l.isText(x.Receiver, e) {
		return
	}
	if id, ok := x.Receiver.(*ast.IdentExpr); ok {
		from := len(l.problems)
		defer func() {
			l.locals = append(l.locals, textUse{id.Value, slices.Clone(l.problems[from:])})
			l.problems = l.problems[:from]
		}()
	}
	known := lua.TextMethods()
	if !slices.Contains(known, x.Method) {
		l.note(x.Line(), x.Method, "text has no method '%s'%s", x.Method, didYouMean(x.Method, known))
		return
	}
	if len(x.Args) == 0 || x.Method == "find" && len(x.Args) > 2 || !slices.Contains([]string{"find", "match", "gmatch", "gsub"}, x.Method) {
		return
	}
	if l.patternOf(x, e) {
		return
	}
	if p, ok := x.Args[0].(*ast.StringExpr); ok {
		if why := lua.PatternFault(p.Value); why != "" {
			l.note(x.Line(), x.Method, "%s: %s", x.Method, why)
		}
	}
}

// textUse is what is wrong with a method of a name that was made of text.
type textUse struct {
	name     string
	problems []lua.Problem
}

// noteLocals gives what is wrong with methods of such names, but for those that get another value anywhere: that may be no text.
func (l *looker) noteLocals() {
	for _, u := range l.locals {
		if !l.assigned[u.name] {
			l.problems = append(l.problems, u.problems...)
		}
	}
}
