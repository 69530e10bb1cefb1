package lua

import "github.com/yuin/gopher-lua/ast"

// set writes a table through the metered, frozen-aware function.
func (p *pass) set(at ast.PositionHolder, obj, key, val ast.Expr) ast.Stmt {
	call := hidden(hiddenSet, at, one(obj), one(key), one(val))
	return place(&ast.FuncCallStmt{Expr: call}, at)
}

// plain tells the right sides that gopher-lua assigns correctly to a single name.
func plain(e ast.Expr) bool {
	switch x := e.(type) {
	case *ast.TrueExpr, *ast.FalseExpr, *ast.NilExpr, *ast.NumberExpr, *ast.StringExpr, *ast.IdentExpr:
		return true
	case *ast.FuncCallExpr:
		return !x.AdjustRet // "lastparam = (f(x))" overwrites the locals behind it: compile.go:1682
	case *ast.ArithmeticOpExpr: // n = n + 1 is one instruction; anything larger may hold what goes wrong
		return atom(x.Lhs) && atom(x.Rhs)
	}
	return false
}

func atom(e ast.Expr) bool {
	switch e.(type) {
	case *ast.NumberExpr, *ast.IdentExpr:
		return true
	}
	return false
}

// viaTemp makes x = E into do local t = E; x = t end, for a name x.
func (p *pass) viaTemp(x *ast.AssignStmt) ast.Stmt {
	if plain(x.Rhs[0]) {
		return x
	}
	t := p.temp()
	decl := place(&ast.LocalAssignStmt{Names: []string{t}, Exprs: x.Rhs}, x)
	set := place(&ast.AssignStmt{Lhs: x.Lhs, Rhs: []ast.Expr{ident(t, x)}}, x)
	return place(&ast.DoBlockStmt{Stmts: []ast.Stmt{decl, set}}, x)
}

func (p *pass) assign(x *ast.AssignStmt) ast.Stmt {
	if len(x.Lhs) == 1 && len(x.Rhs) == 1 {
		if a, ok := x.Lhs[0].(*ast.AttrGetExpr); ok {
			return p.set(x, p.expr(a.Object), p.expr(a.Key), p.expr(x.Rhs[0]))
		}
		return p.viaTemp(place(&ast.AssignStmt{Lhs: []ast.Expr{p.expr(x.Lhs[0])}, Rhs: []ast.Expr{p.expr(x.Rhs[0])}}, x))
	}
	return p.multiple(x)
}

// multiple evaluates tables and keys of all targets, then all values, then assigns from right to left, as Lua does.
func (p *pass) multiple(x *ast.AssignStmt) ast.Stmt {
	blk := place(&ast.DoBlockStmt{}, x)
	bind := func(names []string, es []ast.Expr) {
		blk.Stmts = append(blk.Stmts, place(&ast.LocalAssignStmt{Names: names, Exprs: es}, x))
	}
	lhs := make([]ast.Expr, len(x.Lhs))
	for i, l := range x.Lhs {
		a, ok := l.(*ast.AttrGetExpr)
		if !ok {
			lhs[i] = p.expr(l)
			continue
		}
		obj := p.temp()
		bind([]string{obj}, []ast.Expr{p.expr(a.Object)})
		key := p.expr(a.Key)
		if _, isString := key.(*ast.StringExpr); !isString {
			k := p.temp()
			bind([]string{k}, []ast.Expr{key})
			key = ident(k, x)
		}
		lhs[i] = place(&ast.AttrGetExpr{Object: ident(obj, x), Key: key}, x)
	}
	names := make([]string, len(lhs))
	for i := range names {
		names[i] = p.temp()
	}
	bind(names, p.exprs(x.Rhs))
	for i := len(lhs) - 1; i >= 0; i-- {
		val := ident(names[i], x)
		if a, ok := lhs[i].(*ast.AttrGetExpr); ok {
			blk.Stmts = append(blk.Stmts, p.set(x, a.Object, a.Key, val))
			continue
		}
		blk.Stmts = append(blk.Stmts, place(&ast.AssignStmt{Lhs: []ast.Expr{lhs[i]}, Rhs: []ast.Expr{val}}, x))
	}
	return blk
}
