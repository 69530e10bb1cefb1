package script

import (
	"slices"
	"strings"

	"github.com/yuin/gopher-lua/ast"

	"github.com/moongate/moongate/policy"
)

// Objects taken for text or tables, tables for iterators, and what a rule returns that is no verdict: each would be an error
// of every message, or a comparison that is never true.

// mixed checks rcpt == "bob@example.org" and "to " .. rcpt.
func (l *looker) mixed(what string, e env, sides ...ast.Expr) {
	for i, side := range sides {
		c := l.class(side, e)
		if c == nil {
			continue
		}
		if what == "joined" {
			l.note(side.Line(), wordOf(side), "%s is an object and cannot be joined with text%s", c.name, c.mainField())
			continue
		}
		if is := l.typeOf(sides[1-i], e); is != "" && is != "nil" {
			l.note(side.Line(), wordOf(side), "%s is an object and is never %s%s", c.name, is, c.mainField())
		}
	}
}

// wordOf is where the caret stands.
func wordOf(x ast.Expr) string {
	switch x := x.(type) {
	case *ast.IdentExpr:
		return x.Value
	case *ast.AttrGetExpr:
		if k, ok := x.Key.(*ast.StringExpr); ok {
			return k.Value
		}
	case *ast.FuncCallExpr:
		return x.Method
	}
	return ""
}

// deep checks msg.from.domain, msg.from[1] and friends[conn.ip].
func (l *looker) deep(x *ast.AttrGetExpr, e env) {
	if c := l.class(x.Object, e); c != nil {
		_, named := x.Key.(*ast.StringExpr)
		fields := slices.ContainsFunc(c.members, func(m *member) bool { return m.get != nil })
		if !named && !fields { // msg[name] reads a field
			l.note(x.Line(), wordOf(x.Object), "%s is an object, no table: write %s", c.name, c.example())
		}
		return
	}
	m := l.field(x.Object, e)
	if m == nil || typeWord(m.typ) == "a table" || typeWord(strings.TrimSuffix(m.typ, "?")) == "" {
		return
	}
	key := wordOf(x)
	hint := ""
	if owner := l.class(x.Object.(*ast.AttrGetExpr).Object, e); owner.index[m.name+"_"+key] != nil {
		hint = ": write " + owner.name + "." + m.name + "_" + key
	}
	l.note(x.Line(), key, "%s is %s and has no fields%s", m.name, typeWord(strings.TrimSuffix(m.typ, "?")), hint)
}

// example is how an object is used.
func (c *class) example() string {
	for _, m := range c.members {
		if m.do != nil && m.planned == "" {
			return c.name + ":" + m.name + "(...)"
		}
	}
	return c.name + "." + c.members[0].name
}

// objectCalled checks friends(conn.ip), and "a" .. msg.from "b".
func (l *looker) objectCalled(x *ast.FuncCallExpr, e env) {
	if m := l.field(x.Func, e); m != nil && classOf(m.typ) == nil {
		l.note(x.Line(), m.name, "%s is %s and cannot be called", m.name, strings.Trim(typeWord(strings.TrimSuffix(m.typ, "?")), " "))
		return
	}
	if c := l.class(x.Func, e); c != nil {
		l.note(x.Line(), wordOf(x.Func), "%s is an object and cannot be called: write %s", c.name, c.example())
	}
}

// over checks what a loop goes over: a list wants ipairs, msg:headers() none.
func (l *looker) over(exprs []ast.Expr, e env) {
	if len(exprs) != 1 {
		return
	}
	if l.typeOf(exprs[0], e) == "a table" {
		l.note(exprs[0].Line(), wordOf(exprs[0]), "this is a table: write 'for _, x in ipairs(...) do'")
	}
	call, ok := exprs[0].(*ast.FuncCallExpr)
	if !ok || len(call.Args) != 1 {
		return
	}
	f, _ := call.Func.(*ast.IdentExpr)
	if f == nil || f.Value != "ipairs" && f.Value != "pairs" || l.known[f.Value] {
		return
	}
	if inner, ok := call.Args[0].(*ast.FuncCallExpr); ok {
		if m := l.called(inner, e); m != nil && len(m.returns) > 0 && typeWord(m.returns[0].typ) == "a function" {
			l.note(call.Line(), f.Value, "%s is an iterator itself: write 'for h in msg:%s(...) do'", m.name, m.name)
		}
	}
	if c := l.class(call.Args[0], e); c != nil {
		l.note(call.Line(), f.Value, "%s is an object, no table", c.name)
	}
}

// returned checks what a rule returns.
func (l *looker) returned(s *ast.ReturnStmt, e env) {
	if !l.inBody || l.hook == policy.Done || len(s.Exprs) == 0 {
		return
	}
	x := s.Exprs[0]
	const want = "a rule returns a verdict or nothing"
	switch is := l.typeOf(x, e); {
	case is == "nil":
	case is != "":
		l.note(s.Line(), "return", "%s, and this returns %s", want, is)
	case l.class(x, e) != nil:
		l.note(s.Line(), "return", "%s, and this returns the object %s", want, l.class(x, e).name)
	}
	switch x := x.(type) {
	case *ast.IdentExpr:
		if isVerdict(x.Value) && !l.known[x.Value] {
			l.note(x.Line(), x.Value, "%s is not called: write 'return %s(...)'", x.Value, x.Value)
		}
	case *ast.LogicalOpExpr:
		if x.Operator == "and" && l.typeOf(x.Lhs, e) == "true or false" {
			l.note(s.Line(), "return", "%s, and this returns false where the condition is not met: write 'if ... then return ... end'", want)
		}
	}
}

func isVerdict(name string) bool {
	return slices.ContainsFunc(verdictFunctions, func(f *function) bool { return f.name == name })
}
