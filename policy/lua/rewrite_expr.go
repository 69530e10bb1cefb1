package lua

import (
	"math"
	"strconv"

	"github.com/yuin/gopher-lua/ast"
)

func (p *pass) exprs(es []ast.Expr) []ast.Expr {
	out := make([]ast.Expr, len(es))
	for i, e := range es {
		out[i] = p.expr(e)
	}
	return out
}

func (p *pass) expr(e ast.Expr) ast.Expr {
	switch x := e.(type) {
	case *ast.NumberExpr:
		return place(&ast.NumberExpr{Value: canonicalNumber(x.Value)}, x)
	case *ast.IdentExpr:
		if name, ok := p.own[x]; ok {
			return ident(name, x)
		}
	case *ast.AttrGetExpr:
		return place(&ast.AttrGetExpr{Object: p.expr(x.Object), Key: p.expr(x.Key)}, x)
	case *ast.TableExpr:
		t := &ast.TableExpr{Fields: make([]*ast.Field, len(x.Fields))}
		for i, f := range x.Fields {
			nf := &ast.Field{Value: p.expr(f.Value)}
			if f.Key != nil {
				nf.Key = p.expr(f.Key)
			}
			t.Fields[i] = nf
		}
		return hidden(hiddenTable, x, place(t, x))
	case *ast.FuncCallExpr:
		c := &ast.FuncCallExpr{Method: x.Method, Args: p.exprs(x.Args), AdjustRet: x.AdjustRet}
		if x.Func != nil {
			c.Func = p.expr(x.Func)
		}
		if x.Receiver != nil {
			c.Receiver = p.expr(x.Receiver)
		}
		return place(c, x)
	case *ast.LogicalOpExpr:
		return fold(place(&ast.LogicalOpExpr{Operator: x.Operator, Lhs: p.expr(x.Lhs), Rhs: p.expr(x.Rhs)}, x))
	case *ast.RelationalOpExpr:
		return place(&ast.RelationalOpExpr{Operator: x.Operator, Lhs: p.expr(x.Lhs), Rhs: p.expr(x.Rhs)}, x)
	case *ast.ArithmeticOpExpr:
		return place(&ast.ArithmeticOpExpr{Operator: x.Operator, Lhs: p.expr(x.Lhs), Rhs: p.expr(x.Rhs)}, x)
	case *ast.UnaryMinusOpExpr:
		return place(&ast.UnaryMinusOpExpr{Expr: p.expr(x.Expr)}, x)
	case *ast.UnaryNotOpExpr:
		inner := p.expr(x.Expr)
		if v, ok := literal(inner); ok {
			if v {
				return place(&ast.FalseExpr{}, x)
			}
			return place(&ast.TrueExpr{}, x)
		}
		return place(&ast.UnaryNotOpExpr{Expr: inner}, x)
	case *ast.UnaryLenOpExpr:
		return place(&ast.UnaryLenOpExpr{Expr: p.expr(x.Expr)}, x)
	case *ast.StringConcatOpExpr:
		return p.concat(x)
	case *ast.FunctionExpr:
		fn := place(&ast.FunctionExpr{ParList: x.ParList, Stmts: p.block(x.Stmts)}, x)
		return hidden(hiddenFn, x, fn)
	}
	return e
}

// concatOperands is how many operands one call takes; each needs a register and a function has 200.
const concatOperands = 40

// concat flattens a .. (b .. c), which is how the operator groups, into one call. Of more operands than a call takes the
// left ones are joined first, so that registers do not add up; only a __concat could tell.
func (p *pass) concat(x *ast.StringConcatOpExpr) ast.Expr {
	var args []ast.Expr
	var e ast.Expr = x
	for {
		c, ok := e.(*ast.StringConcatOpExpr)
		if !ok {
			break
		}
		args = append(args, p.expr(c.Lhs))
		e = c.Rhs
	}
	args = append(args, one(p.expr(e)))
	for len(args) > concatOperands {
		head := hidden(hiddenConcat, x, args[:concatOperands:concatOperands]...)
		args = append([]ast.Expr{head}, args[concatOperands:]...)
	}
	return hidden(hiddenConcat, x, args...)
}

// literal tells a constant's truth.
func literal(e ast.Expr) (truth, ok bool) {
	switch e.(type) {
	case *ast.TrueExpr, *ast.NumberExpr, *ast.StringExpr:
		return true, true
	case *ast.FalseExpr, *ast.NilExpr:
		return false, true
	}
	return false, false
}

// fold removes literal left operands of and/or: gopher-lua emits wrong jumps for some of them inside a generic for.
func fold(x *ast.LogicalOpExpr) ast.Expr {
	v, ok := literal(x.Lhs)
	if !ok {
		return x
	}
	if (x.Operator == "and") == v {
		return one(x.Rhs)
	}
	return x.Lhs
}

// canonicalNumber writes a numeral so that gopher-lua's parseNumber, which takes leading zeros for octal, reads what
// Lua reads. Malformed ones were refused by the scan.
func canonicalNumber(s string) string {
	f, ok := parseNumber(s)
	if !ok {
		return s
	}
	if f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		return strconv.FormatInt(int64(f), 10)
	}
	return strconv.FormatFloat(f, 'g', -1, 64)
}
