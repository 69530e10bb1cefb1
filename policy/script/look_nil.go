package script

import (
	"strings"

	"github.com/yuin/gopher-lua/ast"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/lua"
)

// What may be nil and is used as text fails for the first message that lacks it, long after its author has tried the rule: the
// message without a Subject, the client without a PTR. It is worth a warning, unless the same thing is tested anywhere in the file.

// key names what an expression reads, "msg.subject" or "msg:header(subject)", "" if it is nothing that may be nil.
func (l *looker) key(x ast.Expr, e env) string {
	switch x := x.(type) {
	case *ast.AttrGetExpr:
		m := l.field(x, e)
		if m == nil || m.typ != "string?" {
			return ""
		}
		c := l.class(x.Object, e)
		switch {
		case c == connClass && (m.name == "ip" || m.name == "net"), // nil on a unix socket only
			c == connClass && m.name == "helo" && l.greeted():
			return ""
		}
		return c.name + "." + m.name
	case *ast.FuncCallExpr:
		m := l.called(x, e)
		if m == nil || len(m.returns) == 0 || m.returns[0].typ != "string?" {
			return ""
		}
		key := l.class(x.Receiver, e).name + ":" + m.name
		if len(x.Args) > 0 {
			s, ok := x.Args[0].(*ast.StringExpr)
			if !ok {
				return ""
			}
			key += "(\"" + s.Value + "\")"
		}
		return key
	}
	return ""
}

// greeted reports a stage at which a client has said EHLO, or is as if he had.
func (l *looker) greeted() bool {
	return l.hook != policy.Connect && l.hook != policy.Unknown && l.hook != policy.Vrfy
}

// needs notes that an expression is used as text.
func (l *looker) needs(x ast.Expr, e env) {
	if key := l.key(x, e); key != "" {
		l.nils = append(l.nils, nilUse{key, l.chunk.At(x.Line(), wordOf(x), 0,
			"%s may be nil, and this would be an error then: write (%s or \"\")", key, key)})
	}
}

type nilUse struct {
	key     string
	problem lua.Problem
}

// tests notes that an expression is looked at for being nil.
func (l *looker) tests(x ast.Expr, e env) {
	switch x := x.(type) {
	case *ast.LogicalOpExpr:
		l.tests(x.Lhs, e)
		l.tests(x.Rhs, e)
	case *ast.RelationalOpExpr:
		size := l.tested["msg.size"]
		l.tests(x.Lhs, e)
		l.tests(x.Rhs, e)
		if x.Operator != "==" && x.Operator != "~=" {
			l.tested["msg.size"] = size // nil is no operand of '<'
		}
	case *ast.UnaryNotOpExpr:
		l.tests(x.Expr, e)
	default:
		if id, ok := x.(*ast.IdentExpr); ok && len(l.logRule.names) > 1 && id.Value == l.logRule.names[1] {
			l.logRule.guarded = true
		}
		key := l.key(x, e)
		if key == "" {
			key = l.paramKey(x, e)
		}
		if m := l.field(x, e); m != nil && m.name == "size" {
			key = "msg.size"
		}
		if key != "" {
			l.tested[strings.ToLower(key)] = true
		}
	}
}

// warnNil gives the uses that nothing guards.
func (l *looker) warnNil() {
	for _, u := range l.nils {
		key := strings.ToLower(u.key)
		if !l.tested[key] && !l.tested[strings.TrimSuffix(key, "_domain")] && !l.tested[key+"_domain"] { // an address has both
			u.problem.Warning = true
			l.problems = append(l.problems, u.problem)
		}
	}
}
