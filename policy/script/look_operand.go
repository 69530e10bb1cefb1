package script

import (
	"slices"
	"strings"

	"github.com/yuin/gopher-lua/ast"

	"github.com/moongate/moongate/policy"
)

// Operands that their operator never takes, and arguments that the language's own functions never take: each is an error of every
// message that comes there.

// value is what an expression is, an object among them; "" if that cannot be seen.
func (l *looker) value(x ast.Expr, e env) string {
	if c := l.class(x, e); c != nil {
		return "an object"
	}
	return l.typeOf(x, e)
}

// operand notes an expression of which an operator knows nothing to do: msg.rcpts > 5, "to " .. msg.rcpts, #msg.size.
func (l *looker) operand(x ast.Expr, e env, cannot, hint string, but ...string) {
	is := l.value(x, e)
	if is == "" || is == "text" || is == "a number" || slices.Contains(but, is) {
		return
	}
	if is != "a table" || wordOf(x) == "" {
		hint = ""
	}
	what := wordOf(x)
	if what == "" {
		what = "this"
	}
	l.note(x.Line(), wordOf(x), "%s is %s and cannot be %s%s", what, is, cannot, strings.ReplaceAll(hint, "$", what))
}

// ordered checks a < b and its kin.
func (l *looker) ordered(x *ast.RelationalOpExpr, e env) {
	if x.Operator == "==" || x.Operator == "~=" {
		return
	}
	for i, side := range []ast.Expr{x.Lhs, x.Rhs} {
		other := []ast.Expr{x.Rhs, x.Lhs}[i]
		is := l.value(other, e)
		if is == "text" || is == "a number" { // tables may know how they compare
			l.operand(side, e, "compared with '"+x.Operator+"'", ": #$ is how many it has", "an object")
		}
		if is == "a number" {
			l.sized(side, e)
		}
	}
}

func (l *looker) joined(x *ast.StringConcatOpExpr, e env) {
	l.operand(x.Lhs, e, "joined with text", `: write table.concat($, ", ")`, "an object")
	l.operand(x.Rhs, e, "joined with text", `: write table.concat($, ", ")`, "an object")
}

func (l *looker) calculated(x *ast.ArithmeticOpExpr, e env) {
	l.operand(x.Lhs, e, "calculated with", ": #$ is how many it has")
	l.operand(x.Rhs, e, "calculated with", ": #$ is how many it has")
	l.added(x)
}

// measured checks #x.
func (l *looker) measured(x *ast.UnaryLenOpExpr, e env) {
	switch is := l.value(x.Expr, e); is {
	case "an object", "a number", "true or false", "a function", "nil":
		l.note(x.Line(), wordOf(x.Expr), "'#' gives the length of text and of tables, and this is %s", is)
	}
}

// builtin checks string.find(rcpt, "x"), table.concat(msg.from) and pairs(msg.from).
func (l *looker) builtin(x *ast.FuncCallExpr, e env) {
	name, word, want := "", "", ""
	switch f := x.Func.(type) {
	case *ast.IdentExpr:
		if name, word = f.Value, f.Value; name == "pairs" || name == "ipairs" {
			want = "a table"
		}
	case *ast.AttrGetExpr:
		of, _ := f.Object.(*ast.IdentExpr)
		key, _ := f.Key.(*ast.StringExpr)
		if of == nil || key == nil || l.known[of.Value] {
			return
		}
		name, word = of.Value+"."+key.Value, of.Value
		switch {
		case of.Value == "table":
			want = "a table"
		case of.Value == "string" && key.Value != "char":
			want = "text"
		}
	}
	if want == "" || l.known[name] || len(x.Args) == 0 || len(x.Args) == 1 && spreads(x.Args[0]) {
		return
	}
	is := l.value(x.Args[0], e)
	switch {
	case is == "", is == want, want == "text" && is == "a number", is == "a function", is == "nil",
		is == "an object" && want == "a table": // over and the run tell of those
		return
	}
	hint := ""
	if c := l.class(x.Args[0], e); c != nil {
		is, hint = "the object "+c.name, c.mainField()
	}
	l.note(x.Line(), word, "%s: argument 1 is %s, and here it is %s%s", name, want, is, hint)
}

// beyond is the class of a parameter that a stage does not give.
var beyond = &class{name: "nothing"}

// indexed checks rcpt.user in on.mail(function(msg, rcpt) ... end).
func (l *looker) indexed(x ast.Expr, e env) {
	if id, ok := x.(*ast.IdentExpr); ok && e[id.Value] == beyond {
		l.note(x.Line(), id.Value, "%s is nil here: a rule of '%s' gets (%s)", id.Value, stageName(l.hook), handlerArgs(l.hook))
	}
}

// parameters is how many arguments a stage gives.
func parameters(h policy.Hook) int { return 1 + strings.Count(handlerArgs(h), ",") }
