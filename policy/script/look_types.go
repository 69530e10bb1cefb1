package script

import (
	"fmt"
	"slices"
	"strings"

	"github.com/yuin/gopher-lua/ast"
)

// What type an expression has, where that can be seen: "text", "a number", "true or false", "a table", "a function", "nil".
// "" means that it cannot.
func (l *looker) typeOf(x ast.Expr, e env) string {
	switch x := x.(type) {
	case *ast.StringExpr, *ast.StringConcatOpExpr:
		return "text"
	case *ast.NumberExpr, *ast.UnaryLenOpExpr:
		return "a number"
	case *ast.TrueExpr, *ast.FalseExpr, *ast.RelationalOpExpr, *ast.UnaryNotOpExpr:
		return "true or false"
	case *ast.TableExpr:
		return "a table"
	case *ast.FunctionExpr:
		return "a function"
	case *ast.NilExpr:
		return "nil"
	case *ast.AttrGetExpr:
		if m := l.field(x, e); m != nil {
			return typeWord(m.typ)
		}
	case *ast.FuncCallExpr:
		if m := l.called(x, e); m != nil && len(m.returns) > 0 {
			return typeWord(m.returns[0].typ)
		}
	}
	return ""
}

// typeWord is a type of the API's table in the author's words, "" if it is none of the plain ones or may be nil.
func typeWord(typ string) string {
	switch {
	case typ == "string":
		return "text"
	case typ == "integer" || typ == "number":
		return "a number"
	case typ == "boolean":
		return "true or false"
	case strings.HasSuffix(typ, "[]"), strings.HasPrefix(typ, "{") && strings.HasSuffix(typ, "}"), strings.HasPrefix(typ, "table"):
		return "a table"
	case strings.HasPrefix(typ, "fun("):
		return "a function"
	}
	return ""
}

// called is the method that a call calls, nil if that cannot be said.
func (l *looker) called(x *ast.FuncCallExpr, e env) *member {
	if x.Method == "" {
		return nil
	}
	if c := l.class(x.Receiver, e); c != nil {
		if m := c.index[x.Method]; m != nil && m.do != nil {
			return m
		}
	}
	return nil
}

// alternatives are the types that a parameter may have, "string|string[]", and whether it may be left out.
func alternatives(typ string) (words []string, optional bool) {
	typ, optional = strings.CutSuffix(typ, "?")
	depth, from := 0, 0
	split := []string{}
	for i := range len(typ) {
		switch typ[i] {
		case '{', '(', '<':
			depth++
		case '}', ')', '>':
			depth--
		case '|':
			if depth == 0 {
				split, from = append(split, typ[from:i]), i+1
			}
		}
	}
	if strings.HasPrefix(typ, "fun(") { // its result is no alternative
		split, from = nil, 0
	}
	for _, t := range append(split, typ[from:]) {
		switch {
		case t == "nil":
			optional = true
		case t == "any":
			return nil, true
		case classOf(t) != nil:
			words = append(words, classOf(t).name)
		default:
			words = append(words, typeWord(t))
		}
	}
	return words, optional
}

// args checks the arguments of a call of the API against its table.
func (l *looker) args(x *ast.FuncCallExpr, what, word string, params []param, e env) {
	many := len(x.Args) > 0 && spreads(x.Args[len(x.Args)-1])
	for i, p := range params {
		words, optional := alternatives(p.typ)
		if p.name == "..." {
			for _, a := range x.Args[min(i, len(x.Args)):] {
				l.arg(x, what, word, i+1, p, words, true, a, e)
			}
			return
		}
		if i >= len(x.Args) {
			if !optional && !many {
				l.note(x.Line(), word, "%s: argument %d (%s) is missing", what, i+1, p.name)
			}
			return
		}
		if many && i == len(x.Args)-1 {
			return
		}
		l.arg(x, what, word, i+1, p, words, optional, x.Args[i], e)
	}
	if n := len(params); len(x.Args) > n && !(many && len(x.Args) == n+1) {
		l.note(x.Line(), word, "%s takes %s, and here are %d", what, count(n), len(x.Args))
	}
}

func count(n int) string {
	switch n {
	case 0:
		return "no arguments"
	case 1:
		return "1 argument"
	}
	return fmt.Sprintf("%d arguments", n)
}

// spreads reports whether an expression may stand for many arguments.
func spreads(x ast.Expr) bool {
	switch x := x.(type) {
	case *ast.FuncCallExpr:
		return !x.AdjustRet
	case *ast.Comma3Expr:
		return true
	}
	return false
}

func (l *looker) arg(x *ast.FuncCallExpr, what, word string, n int, p param, words []string, optional bool, a ast.Expr, e env) {
	if len(words) == 0 {
		return
	}
	is := l.typeOf(a, e)
	if c := l.class(a, e); c != nil {
		is = c.name
	}
	switch {
	case is == "", slices.Contains(words, is), is == "nil" && optional, slices.Contains(words, ""):
		return
	case is == "a number" && slices.Contains(words, "text"): // a number has a text
		return
	}
	here := is
	if c := l.class(a, e); c != nil {
		here = "the object " + c.name + c.mainField()
	}
	name := ""
	if p.name != "..." {
		name = " (" + p.name + ")"
	}
	l.note(x.Line(), word, "%s: argument %d%s is %s, and here it is %s", what, n, name, strings.Join(words, " or "), here)
}

// mainField is a hint at the field that an author means who takes the object for text.
func (c *class) mainField() string {
	for _, f := range []string{"address", "ip", "version", "value", "action"} {
		if c.index[f] != nil && c.index[f].get != nil {
			return ": write " + c.name + "." + f
		}
	}
	return ""
}
