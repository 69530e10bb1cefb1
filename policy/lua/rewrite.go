package lua

import (
	"strconv"

	"github.com/yuin/gopher-lua/ast"
)

// The pass between parse and compile. gopher-lua v1.1.2 compiles ordinary Lua wrongly, and fails open:
// "ok = ok and f(false) and f(true)" is true. The pass writes each such construct in a form that is compiled
// correctly, and routes what makes memory (.., table writes and constructors, closures) through metered functions.
// It copies: the parsed tree stays as it is. Hidden names hold parentheses, so no script can say them.
//
//	x = <anything but a plain value>    do local t = <...>; x = t end              gopher-lua #490, compile.go:1682
//	a, b = b, a                         temporaries for targets and values          #440
//	for v in E do                       do local f,s,c = E; for v,_,_ in f,s,c do   #514
//	if <literal>, <literal> and X       the live branch                             #540
//	local f = function() ... f ... end  the outer f, not itself                     compile.go:859
//	a .. b .. c                         (concat)(a, b, c)
//	t[k] = v                            (set)(t, k, v)
//	{...}, function ... end             (table)({...}), (fn)(function ... end)
//	0012, 1e                            12, refused (parseNumber reads octal)
type pass struct {
	temps int
	own   map[*ast.IdentExpr]string // globals of this file and the names they get, see check
}

const (
	hiddenConcat = "(concat)"
	hiddenSet    = "(set)"
	hiddenTable  = "(table)"
	hiddenFn     = "(fn)"
)

func rewrite(stmts []ast.Stmt, res *checked) []ast.Stmt {
	p := &pass{own: res.own}
	return p.block(stmts)
}

func (p *pass) temp() string { p.temps++; return "(t" + strconv.Itoa(p.temps) + ")" }

// place copies the position of a node to another.
func place[T ast.PositionHolder](to T, from ast.PositionHolder) T {
	to.SetLine(from.Line())
	to.SetLastLine(from.LastLine())
	return to
}

func ident(name string, at ast.PositionHolder) *ast.IdentExpr {
	return place(&ast.IdentExpr{Value: name}, at)
}

// hidden calls one of the metered functions; it always gives exactly one value and is never a tail call.
func hidden(name string, at ast.PositionHolder, args ...ast.Expr) *ast.FuncCallExpr {
	c := &ast.FuncCallExpr{Func: ident(name, at), Args: args, AdjustRet: true}
	c.SetLine(at.Line())
	c.SetLastLine(at.Line()) // errors name the line where the expression begins
	return c
}

// one makes an expression give exactly one value where it moves into a place that would take more.
func one(e ast.Expr) ast.Expr {
	switch x := e.(type) {
	case *ast.FuncCallExpr:
		c := *x
		c.AdjustRet = true
		return &c
	case *ast.Comma3Expr:
		c := *x
		c.AdjustRet = true
		return &c
	}
	return e
}

func (p *pass) block(ss []ast.Stmt) []ast.Stmt {
	out := make([]ast.Stmt, 0, len(ss))
	for _, s := range ss {
		out = append(out, p.stmt(s)...)
	}
	return out
}

func (p *pass) stmt(s ast.Stmt) []ast.Stmt {
	switch x := s.(type) {
	case *ast.AssignStmt:
		return []ast.Stmt{p.assign(x)}
	case *ast.LocalAssignStmt:
		return p.local(x)
	case *ast.FuncDefStmt:
		return []ast.Stmt{p.funcDef(x)}
	case *ast.FuncCallStmt:
		return []ast.Stmt{place(&ast.FuncCallStmt{Expr: p.expr(x.Expr)}, x)}
	case *ast.DoBlockStmt:
		return []ast.Stmt{place(&ast.DoBlockStmt{Stmts: p.block(x.Stmts)}, x)}
	case *ast.WhileStmt:
		return []ast.Stmt{place(&ast.WhileStmt{Condition: p.expr(x.Condition), Stmts: p.block(x.Stmts)}, x)}
	case *ast.RepeatStmt:
		return []ast.Stmt{place(&ast.RepeatStmt{Condition: p.expr(x.Condition), Stmts: p.block(x.Stmts)}, x)}
	case *ast.IfStmt:
		return []ast.Stmt{p.ifStmt(x)}
	case *ast.NumberForStmt:
		f := &ast.NumberForStmt{Name: x.Name, Init: p.expr(x.Init), Limit: p.expr(x.Limit), Stmts: p.block(x.Stmts)}
		if x.Step != nil {
			f.Step = p.expr(x.Step)
		}
		return []ast.Stmt{place(f, x)}
	case *ast.GenericForStmt:
		return []ast.Stmt{p.genericFor(x)}
	case *ast.ReturnStmt:
		return []ast.Stmt{place(&ast.ReturnStmt{Exprs: p.exprs(x.Exprs)}, x)}
	}
	return []ast.Stmt{s} // break, goto, label
}

// local keeps "local function f", which sees itself, apart from "local f = function", which does not: the parser
// tells them only by LastLine, gopher-lua's compiler not at all.
func (p *pass) local(x *ast.LocalAssignStmt) []ast.Stmt {
	if len(x.Names) == 1 && len(x.Exprs) == 1 && x.LastLine() != 0 {
		if fn, ok := x.Exprs[0].(*ast.FunctionExpr); ok {
			decl := place(&ast.LocalAssignStmt{Names: x.Names}, x)
			set := place(&ast.AssignStmt{Lhs: []ast.Expr{ident(x.Names[0], x)}, Rhs: []ast.Expr{p.expr(fn)}}, x)
			return []ast.Stmt{decl, p.viaTemp(set)}
		}
	}
	return []ast.Stmt{place(&ast.LocalAssignStmt{Names: x.Names, Exprs: p.exprs(x.Exprs)}, x)}
}

func (p *pass) funcDef(x *ast.FuncDefStmt) ast.Stmt {
	fn := x.Func
	if x.Name.Func == nil { // function a.b:m() has a first parameter self
		pars := &ast.ParList{HasVargs: fn.ParList.HasVargs, Names: append([]string{"self"}, fn.ParList.Names...)}
		fn = place(&ast.FunctionExpr{ParList: pars, Stmts: fn.Stmts}, fn)
		key := place(&ast.StringExpr{Value: x.Name.Method}, x)
		return p.set(x, p.expr(x.Name.Receiver), key, p.expr(fn))
	}
	if a, ok := x.Name.Func.(*ast.AttrGetExpr); ok {
		return p.set(x, p.expr(a.Object), p.expr(a.Key), p.expr(fn))
	}
	return p.viaTemp(place(&ast.AssignStmt{Lhs: []ast.Expr{p.expr(x.Name.Func)}, Rhs: []ast.Expr{p.expr(fn)}}, x))
}

// ifStmt drops dead branches: gopher-lua emits wrong jumps for "if false" inside a generic for.
func (p *pass) ifStmt(x *ast.IfStmt) ast.Stmt {
	cond := p.expr(x.Condition)
	if v, ok := literal(cond); ok {
		live := x.Else
		if v {
			live = x.Then
		}
		return place(&ast.DoBlockStmt{Stmts: p.block(live)}, x)
	}
	return place(&ast.IfStmt{Condition: cond, Then: p.block(x.Then), Else: p.block(x.Else)}, x)
}

// genericFor gives the loop three variables, whose number drives how many registers are reset before it.
func (p *pass) genericFor(x *ast.GenericForStmt) ast.Stmt {
	f, s, c := p.temp(), p.temp(), p.temp()
	decl := &ast.LocalAssignStmt{Names: []string{f, s, c}, Exprs: p.exprs(x.Exprs)}
	decl.SetLine(x.Line())
	loop := place(&ast.GenericForStmt{Names: append([]string(nil), x.Names...), Stmts: p.block(x.Stmts)}, x)
	loop.Exprs = []ast.Expr{ident(f, x), ident(s, x), ident(c, x)}
	for len(loop.Names) < 3 {
		loop.Names = append(loop.Names, p.temp())
	}
	return place(&ast.DoBlockStmt{Stmts: []ast.Stmt{decl, loop}}, x)
}
