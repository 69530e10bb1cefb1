package script

import (
	"slices"
	"strings"

	"github.com/yuin/gopher-lua/ast"
)

// class is what an expression is for sure, nil if that cannot be said.
func (l *looker) class(x ast.Expr, e env) *class {
	switch x := x.(type) {
	case *ast.IdentExpr:
		if c := e[x.Value]; c != beyond && c != text && c != commandLine {
			return c
		}
	case *ast.AttrGetExpr:
		if m := l.field(x, e); m != nil {
			return classOf(m.typ)
		}
	case *ast.FuncCallExpr: // local l = ratelimit(...)
		if id, ok := x.Func.(*ast.IdentExpr); ok && !l.known[id.Value] {
			for _, f := range language.functions {
				if f.name == id.Value && f.top && len(f.returns) == 1 {
					return classOf(f.returns[0].typ)
				}
			}
		}
	}
	return nil
}

// classOf is the class that a type in the table names; one that may be nil
// counts, too: where it is nil, reading it fails anyway.
func classOf(typ string) *class {
	for _, c := range language.classes {
		if c.typ == strings.TrimSuffix(typ, "?") {
			return c
		}
	}
	return nil
}

// field is the member that conn.ip or its like reads, nil if that cannot be
// said.
func (l *looker) field(x ast.Expr, e env) *member {
	a, ok := x.(*ast.AttrGetExpr)
	if !ok {
		return nil
	}
	key, ok := a.Key.(*ast.StringExpr)
	if c := l.class(a.Object, e); ok && c != nil {
		if m := c.index[key.Value]; m != nil && m.get != nil {
			return m
		}
	}
	return nil
}

// compare checks msg.size > "100": it is an error when it runs, or never true.
func (l *looker) compare(x *ast.RelationalOpExpr, e env) {
	for _, side := range [][2]ast.Expr{{x.Lhs, x.Rhs}, {x.Rhs, x.Lhs}} {
		l.iterator(side[0], e)
		m := l.field(side[0], e)
		if m == nil {
			continue
		}
		is, with := map[string]string{"integer": "a number", "string": "text", "boolean": "true or false", "string[]": "a table"}[strings.TrimSuffix(m.typ, "?")], ""
		switch side[1].(type) {
		case *ast.NumberExpr:
			with = "a number"
		case *ast.StringExpr:
			with = "text"
		case *ast.TrueExpr, *ast.FalseExpr:
			with = "true or false"
		}
		if is != "" && with != "" && is != with {
			l.note(side[0].Line(), m.name, "%s is %s and is compared with %s", m.name, is, with)
		}
	}
}

// read checks conn.ip and its like.
func (l *looker) read(x *ast.AttrGetExpr, e env) {
	key, ok := x.Key.(*ast.StringExpr)
	if ok {
		l.tells(x.Object, key.Value)
	}
	l.filterRead(x, e)
	c := l.class(x.Object, e)
	if c == nil || !ok {
		return
	}
	l.unknown(c.name+"."+key.Value, x, key)
	m := l.member(c, key.Value, x.Line())
	if m != nil && m.do != nil {
		l.note(x.Line(), key.Value, "%s.%s is a method: call it as %s:%s(...)", c.name, m.name, c.name, m.name)
	}
}

// member finds a member, or notes why there is none.
func (l *looker) member(c *class, name string, line int) *member {
	m := c.index[name]
	switch {
	case m == nil:
		l.note(line, name, "%s has no field '%s'%s", c.name, name, l.elsewhere(c, name))
		return nil
	case m.planned != "":
		l.note(line, name, "%s.%s is not supported yet (%s)", c.name, name, m.planned)
		return nil
	}
	return m
}

func (l *looker) written(x *ast.AttrGetExpr, e env) {
	key, ok := x.Key.(*ast.StringExpr)
	c := l.class(x.Object, e)
	if c == nil || !ok {
		return
	}
	if m := l.member(c, key.Value, x.Line()); m != nil && m.set == nil {
		l.note(x.Line(), key.Value, "%s.%s cannot be written%s", c.name, m.name, c.instead(m.name))
	}
}

// method checks msg:header(...) and its like.
func (l *looker) method(x *ast.FuncCallExpr, e env) {
	if (x.Method == "take" || x.Method == "peek") && len(x.Args) > 0 {
		if a, ok := x.Args[0].(*ast.AttrGetExpr); ok && l.class(a.Object, e) == msgClass {
			if key, ok := a.Key.(*ast.StringExpr); ok && key.Value == "from" {
				p := l.chunk.At(x.Line(), "from", 0, "msg.from is \"\" for bounces, and a limit refuses that as a key: use msg.sender_key")
				p.Warning = true
				l.problems = append(l.problems, p)
			}
		}
	}
	c := l.class(x.Receiver, e)
	if c == nil {
		l.iterator(x.Receiver, e)
		l.tells(x.Receiver, x.Method)
		l.textMethod(x, e)
		l.wholeLine(x, e)
		l.needs(x.Receiver, e)
		return
	}
	m := l.member(c, x.Method, x.Line())
	if m != nil && m.do != nil {
		l.args(x, m.name, x.Method, m.params, e)
	}
	if c == msgClass {
		l.skipped(x)
		l.addresses(x)
		l.fieldNames(x)
	}
	switch {
	case m == nil:
	case m.do == nil:
		l.note(x.Line(), x.Method, "%s.%s is a field, no method: write %s.%s", c.name, m.name, c.name, m.name)
	case l.inHook && m.only && l.hook != m.from:
		l.note(x.Line(), x.Method, "%s:%s is not possible at '%s', only at %s", c.name, m.name, stageName(l.hook), m.from)
	case l.inHook && l.hook < m.from:
		l.note(x.Line(), x.Method, "%s:%s is there from '%s' on, and this is '%s'", c.name, m.name, m.from, stageName(l.hook))
	}
}

// skipped checks the name that skip_filter is given. That of no filter leaves
// none out, and says nothing when it is asked: where the same policy serves an
// MTA there are no filters.
func (l *looker) skipped(x *ast.FuncCallExpr) {
	if x.Method != "skip_filter" || l.opts.Filters == nil || len(x.Args) == 0 {
		return
	}
	name, ok := x.Args[0].(*ast.StringExpr)
	if !ok || slices.Contains(l.opts.Filters, name.Value) {
		return
	}
	p := l.chunk.At(x.Line(), x.Method, 0, "there is no [[filter]] %q to leave out", name.Value)
	p.Warning = true
	l.problems = append(l.problems, p)
}
