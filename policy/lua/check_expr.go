package lua

import (
	"fmt"
	"slices"
	"strings"

	"github.com/yuin/gopher-lua/ast"
)

func (c *checker) exprs(es []ast.Expr) {
	for _, e := range es {
		c.expr(e)
	}
}

func (c *checker) expr(e ast.Expr) {
	c.deeper(e)
	defer func() { c.tree-- }()
	switch x := e.(type) {
	case *ast.IdentExpr:
		if c.resolve(x.Value) == nil {
			u := use{id: x, depth: c.depth}
			if !c.names.known(x.Value) {
				u.near = c.visible()
			}
			c.uses = append(c.uses, u)
		}
	case *ast.AttrGetExpr:
		c.field(x.Object, x.Key)
		c.expr(x.Object)
		c.expr(x.Key)
	case *ast.TableExpr:
		c.table(x)
	case *ast.FuncCallExpr:
		c.call(x)
	case *ast.LogicalOpExpr:
		c.expr(x.Lhs)
		c.expr(x.Rhs)
	case *ast.RelationalOpExpr:
		c.compare(x)
		c.expr(x.Lhs)
		c.expr(x.Rhs)
	case *ast.ArithmeticOpExpr:
		c.expr(x.Lhs)
		c.expr(x.Rhs)
	case *ast.StringConcatOpExpr:
		c.expr(x.Lhs)
		c.expr(x.Rhs)
	case *ast.UnaryMinusOpExpr:
		c.expr(x.Expr)
	case *ast.UnaryNotOpExpr:
		c.expr(x.Expr)
	case *ast.UnaryLenOpExpr:
		c.expr(x.Expr)
	case *ast.FunctionExpr:
		c.function(x)
	}
}

func (c *checker) table(x *ast.TableExpr) {
	items := 0
	for _, f := range x.Fields {
		if f.Key != nil {
			c.expr(f.Key)
		} else {
			items++
		}
		c.expr(f.Value)
	}
	if items > maxList {
		c.report(x.Line(), "{", "a list of more than %d items is too long for a script: keep it in a file", maxList)
	}
}

// field checks string.trimm, on.rctp and ("x"):trimm().
func (c *checker) field(obj, key ast.Expr) {
	k, ok := key.(*ast.StringExpr)
	if !ok {
		return
	}
	owner := ""
	switch o := obj.(type) {
	case *ast.IdentExpr:
		if c.resolve(o.Value) == nil {
			owner = o.Value
		}
	case *ast.StringExpr:
		owner = "string"
	}
	fields := c.names.fields(owner)
	if owner == "" || len(fields) == 0 || slices.Contains(fields, k.Value) {
		return
	}
	text := fmt.Sprintf("'%s' has no field '%s'", owner, k.Value)
	if s := closest(k.Value, fields); s != "" {
		text += fmt.Sprintf(" (did you mean '%s'?)", s)
	} else if len(fields) <= 14 {
		text += ": it has " + strings.Join(slices.Sorted(slices.Values(fields)), ", ")
	}
	line := k.Line()
	if line == 0 {
		line = obj.Line()
	}
	c.report(line, k.Value, "%s", text)
}

// writers are the functions that change their first argument.
var writers = map[string]bool{"table.insert": true, "table.remove": true, "table.sort": true, "rawset": true, "setmetatable": true}

func (c *checker) call(x *ast.FuncCallExpr) {
	if x.Func != nil {
		name := c.globalName(x.Func)
		if writers[name] && len(x.Args) > 0 {
			c.changes(x.Args[0], "")
		}
		if fields := c.names.fields(name); len(fields) > 0 {
			c.report(x.Line(), name, "'%s' is a table of functions and cannot be called: write %s.%s(...)", name, name, fields[0])
		}
		if matchers[name] && len(x.Args) > 1 {
			c.pattern(x.Line(), name, x.Args[1:])
		}
		c.expr(x.Func)
	} else {
		key := &ast.StringExpr{Value: x.Method}
		c.field(x.Receiver, place(key, x))
		c.expr(x.Receiver)
	}
	c.exprs(x.Args)
}

// matchers are the functions whose second argument is a pattern.
var matchers = map[string]bool{"string.find": true, "string.match": true, "string.gmatch": true, "string.gsub": true}

// pattern checks a pattern that is written down: args begin with it.
func (c *checker) pattern(line int, function string, args []ast.Expr) {
	p, ok := args[0].(*ast.StringExpr)
	if !ok || function == "string.find" && len(args) > 2 { // a plain find has no pattern
		return
	}
	if why := PatternFault(p.Value); why != "" {
		c.report(line, strings.TrimPrefix(function, "string."), "%s", why)
	}
}

// compare finds numbers compared with text: never equal, and an error for < and its kin.
func (c *checker) compare(x *ast.RelationalOpExpr) {
	l, r := c.typeOf(x.Lhs), c.typeOf(x.Rhs)
	if l == "" || r == "" || l == r {
		c.order(x)
		return
	}
	what := "is never true"
	switch x.Operator {
	case "~=":
		what = "is always true"
	case "<", ">", "<=", ">=":
		what = "is an error"
	}
	c.report(x.Line(), x.Operator, "a %s is compared with a %s: '%s' %s (see tonumber and tostring)", l, r, x.Operator, what)
}

// order warns of size > "1000": with a number it is an error when it runs, with text "9" is more than "10".
func (c *checker) order(x *ast.RelationalOpExpr) {
	if x.Operator == "==" || x.Operator == "~=" {
		return
	}
	for _, e := range []ast.Expr{x.Lhs, x.Rhs} {
		if s, ok := e.(*ast.StringExpr); ok {
			if _, numeric := parseNumber(s.Value); numeric {
				c.report(x.Line(), x.Operator, "'%s' compares text here: write %s without quotes to compare numbers", x.Operator, s.Value)
				c.out[len(c.out)-1].Warning = true
				return
			}
		}
	}
}

// typeOf tells the type of an expression where it shows.
func (c *checker) typeOf(e ast.Expr) string {
	switch x := e.(type) {
	case *ast.NumberExpr, *ast.UnaryLenOpExpr:
		return "number"
	case *ast.StringExpr, *ast.StringConcatOpExpr:
		return "string"
	case *ast.UnaryMinusOpExpr:
		if c.typeOf(x.Expr) == "number" {
			return "number"
		}
	case *ast.FuncCallExpr:
		if x.Func != nil && c.names.known("tostring") && c.globalName(x.Func) == "tostring" {
			return "string"
		}
	}
	return ""
}
