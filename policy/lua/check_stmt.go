package lua

import "github.com/yuin/gopher-lua/ast"

func (c *checker) block(ss []ast.Stmt) {
	c.push()
	c.stmts(ss)
	c.pop()
}

func (c *checker) stmts(ss []ast.Stmt) {
	for _, s := range ss {
		c.stmt(s)
	}
}

func (c *checker) stmt(s ast.Stmt) {
	c.deeper(s)
	defer func() { c.tree-- }()
	switch x := s.(type) {
	case *ast.AssignStmt:
		for _, l := range x.Lhs {
			c.target(l)
		}
		c.exprs(x.Rhs)
	case *ast.LocalAssignStmt:
		c.local(x)
	case *ast.FuncDefStmt:
		c.funcDef(x)
	case *ast.FuncCallStmt:
		c.callStmt(x)
	case *ast.DoBlockStmt:
		c.block(x.Stmts)
	case *ast.WhileStmt:
		c.expr(x.Condition)
		c.block(x.Stmts)
	case *ast.RepeatStmt: // the condition sees the body's locals
		c.push()
		c.stmts(x.Stmts)
		c.expr(x.Condition)
		c.pop()
	case *ast.IfStmt:
		c.expr(x.Condition)
		c.block(x.Then)
		c.block(x.Else)
	case *ast.NumberForStmt:
		c.expr(x.Init)
		c.expr(x.Limit)
		if x.Step != nil {
			c.expr(x.Step)
		}
		c.loop([]string{x.Name}, x.Stmts)
	case *ast.GenericForStmt:
		if _, ok := x.Exprs[0].(*ast.NumberExpr); ok {
			c.report(x.Line(), "for", "a loop over numbers is written 'for %s = 1, 10 do'", x.Names[0])
		}
		c.exprs(x.Exprs)
		c.loop(x.Names, x.Stmts)
	case *ast.ReturnStmt:
		c.exprs(x.Exprs)
	}
}

func (c *checker) loop(names []string, body []ast.Stmt) {
	c.push()
	for _, n := range names {
		c.declare(n)
	}
	c.stmts(body)
	c.pop()
}

// local declares after its values, except "local function f", which sees itself.
func (c *checker) local(x *ast.LocalAssignStmt) {
	if x.LastLine() != 0 && len(x.Names) == 1 {
		c.declare(x.Names[0])
		c.exprs(x.Exprs)
		return
	}
	c.exprs(x.Exprs)
	for _, n := range x.Names {
		c.declare(n)
	}
}

func (c *checker) funcDef(x *ast.FuncDefStmt) {
	var extra []string
	if x.Name.Func == nil {
		c.changes(x.Name.Receiver, x.Name.Method)
		c.expr(x.Name.Receiver)
		extra = []string{"self"}
	} else {
		c.target(x.Name.Func)
	}
	c.function(x.Func, extra...)
}

func (c *checker) function(f *ast.FunctionExpr, extra ...string) {
	c.depth++
	c.push()
	for _, n := range append(extra, f.ParList.Names...) {
		c.declare(n)
	}
	c.stmts(f.Stmts)
	c.pop()
	c.depth--
}

// target looks at what an assignment changes.
func (c *checker) target(e ast.Expr) {
	switch x := e.(type) {
	case *ast.IdentExpr:
		if c.resolve(x.Value) == nil {
			c.uses = append(c.uses, use{id: x, write: true, depth: c.depth})
			if c.set[x.Value] == 0 && (c.depth == 0 || c.names.Mutable) {
				c.set[x.Value] = x.Line()
			}
		} else if c.fileLevel(x) {
			c.report(x.Line(), x.Value, "'%s' belongs to the file and serves every connection: it cannot change inside a function%s",
				x.Value, c.useHint())
		}
	case *ast.AttrGetExpr:
		key := ""
		if k, ok := x.Key.(*ast.StringExpr); ok {
			key = k.Value
		}
		c.changes(x.Object, key)
		c.expr(x.Object)
		c.expr(x.Key)
	}
}

// changes complains when a table that everyone shares would be written: a library's or the file's.
func (c *checker) changes(obj ast.Expr, key string) {
	for {
		a, ok := obj.(*ast.AttrGetExpr)
		if !ok {
			break
		}
		obj = a.Object
	}
	id, ok := obj.(*ast.IdentExpr)
	if !ok {
		return
	}
	switch v := c.resolve(id.Value); {
	case v == nil && c.names.known(id.Value):
		c.report(id.Line(), id.Value, "'%s' is built in and cannot be changed", id.Value)
	case v == nil && c.depth > 0 && !c.names.Mutable && c.set[id.Value] > 0, c.fileLevel(id):
		c.report(id.Line(), id.Value, "'%s' belongs to the file and serves every connection: it cannot be written inside a function%s",
			id.Value, c.useHint())
	}
}

func (c *checker) useHint() string {
	if k := c.names.keep(); k != "" {
		return " (use " + k + ")"
	}
	return ""
}

// callStmt finds verdicts that go nowhere.
func (c *checker) callStmt(x *ast.FuncCallStmt) {
	if call, ok := x.Expr.(*ast.FuncCallExpr); ok && call.Func != nil {
		if name := c.globalName(call.Func); c.names.MustReturn[name] {
			c.report(x.Line(), name, "'%s' alone does nothing: write 'return %s(...)'", name, name)
		}
	}
	c.expr(x.Expr)
}

// globalName gives "reject" or "string.format" for an expression that names a global or its field.
func (c *checker) globalName(e ast.Expr) string {
	switch x := e.(type) {
	case *ast.IdentExpr:
		if c.resolve(x.Value) == nil {
			return x.Value
		}
	case *ast.AttrGetExpr:
		if key, ok := x.Key.(*ast.StringExpr); ok {
			if id, ok := x.Object.(*ast.IdentExpr); ok && c.resolve(id.Value) == nil {
				return id.Value + "." + key.Value
			}
		}
	}
	return ""
}
