package script

import (
	"maps"
	"strconv"

	"github.com/yuin/gopher-lua/ast"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/lua"
)

// look checks what the API knows of a file before it runs: fields that objects
// do not have, methods before their stage, verdicts that a stage cannot give,
// replies that no wire would take. It follows objects only where there is no
// doubt: the parameters of a handler, and locals made of them.
func look(c *lua.Chunk, o Options) []lua.Problem {
	l := &looker{chunk: c, opts: o, functions: map[string]*ast.FunctionExpr{}, known: map[string]bool{}, seen: map[string]int{}, spared: map[ast.Expr]bool{}, tested: map[string]bool{}, assigned: map[string]bool{}}
	l.collect(c.AST)
	l.block(c.AST, env{})
	l.noteLocals()
	l.warnNil()
	l.warnUnknown()
	return l.problems
}

// looker walks one file.
type looker struct {
	chunk     *lua.Chunk
	opts      Options
	functions map[string]*ast.FunctionExpr // named at the top of the file
	known     map[string]bool              // every name the file itself gives to anything
	seen      map[string]int               // problems by place, so that each stands under its own column
	problems  []lua.Problem
	hook      policy.Hook
	inHook    bool
	inBody    bool // not in a function within the handler
	nils      []nilUse
	reads     []read            // of what is always nil
	spared    map[ast.Expr]bool // reads without which a rule goes on as it is meant
	tested    map[string]bool   // what may be nil and is tested somewhere
	assigned  map[string]bool   // names that get another value than their first
	locals    []textUse
	logRule   logRule // of the log rule that is walked
}

// env is which class the names in scope are known to be of.
type env map[string]*class

func (l *looker) note(line int, word string, format string, args ...any) {
	key := strconv.Itoa(line) + " " + word
	l.problems = append(l.problems, l.chunk.At(line, word, l.seen[key], format, args...))
	l.seen[key]++
}

// collect finds the functions named at the top of the file.
func (l *looker) collect(stmts []ast.Stmt) {
	for _, s := range stmts {
		switch s := s.(type) {
		case *ast.LocalAssignStmt:
			for i, name := range s.Names {
				if i < len(s.Exprs) {
					if fn, ok := s.Exprs[i].(*ast.FunctionExpr); ok {
						l.functions[name] = fn
					}
				}
			}
		case *ast.FuncDefStmt:
			if id, ok := s.Name.Func.(*ast.IdentExpr); ok {
				l.functions[id.Value] = s.Func
			}
		}
	}
}

func (l *looker) block(stmts []ast.Stmt, e env) {
	e = maps.Clone(e)
	for _, s := range stmts {
		l.stmt(s, e)
	}
}

func (l *looker) stmt(s ast.Stmt, e env) {
	switch s := s.(type) {
	case *ast.LocalAssignStmt:
		l.exprs(s.Exprs, e)
		for i, name := range s.Names {
			l.known[name] = true
			delete(e, name)
			if i < len(s.Exprs) {
				l.tests(s.Exprs[i], e) // it is the local that is tested
				l.spare(s.Exprs[i], false)
				if c := l.class(s.Exprs[i], e); c != nil {
					e[name] = c
				} else if l.isText(s.Exprs[i], e) {
					e[name] = text
				}
			}
		}
	case *ast.AssignStmt:
		l.exprs(s.Rhs, e)
		for _, lhs := range s.Lhs {
			switch lhs := lhs.(type) {
			case *ast.AttrGetExpr:
				l.expr(lhs.Object, e)
				l.expr(lhs.Key, e)
				l.written(lhs, e)
				l.copied(lhs.Object, e)
			case *ast.IdentExpr:
				l.known[lhs.Value], l.assigned[lhs.Value] = true, true
				delete(e, lhs.Value)
			}
		}
	case *ast.FuncCallStmt:
		l.expr(s.Expr, e)
	case *ast.DoBlockStmt:
		l.block(s.Stmts, e)
	case *ast.WhileStmt:
		l.expr(s.Condition, e)
		l.block(s.Stmts, e)
	case *ast.RepeatStmt:
		l.block(s.Stmts, e)
	case *ast.IfStmt:
		l.condition(s.Condition)
		l.spare(s.Condition, true)
		l.tests(s.Condition, e)
		l.expr(s.Condition, e)
		l.block(s.Then, e)
		l.block(s.Else, e)
	case *ast.NumberForStmt:
		l.exprs([]ast.Expr{s.Init, s.Limit, s.Step}, e)
		inner := maps.Clone(e)
		delete(inner, s.Name)
		l.known[s.Name] = true
		l.block(s.Stmts, inner)
	case *ast.GenericForStmt:
		l.exprs(s.Exprs, e)
		l.over(s.Exprs, e)
		inner := maps.Clone(e)
		for _, name := range s.Names {
			delete(inner, name)
			l.known[name] = true
		}
		if call, ok := s.Exprs[0].(*ast.FuncCallExpr); ok && len(s.Exprs) == 1 && call.Method == "headers" && l.class(call.Receiver, e) == msgClass {
			inner[s.Names[0]] = headerClass
		}
		l.block(s.Stmts, inner)
	case *ast.FuncDefStmt:
		l.function(s.Func, e)
	case *ast.ReturnStmt:
		l.exprs(s.Exprs, e)
		l.returned(s, e)
	}
}

func (l *looker) exprs(es []ast.Expr, e env) {
	for _, x := range es {
		if x != nil {
			l.expr(x, e)
		}
	}
}

func (l *looker) expr(x ast.Expr, e env) {
	switch x := x.(type) {
	case *ast.IdentExpr:
		if what := plannedLibraries[x.Value]; what != "" && !l.known[x.Value] {
			l.note(x.Line(), x.Value, "%s is not supported yet (%s)", x.Value, what)
		}
	case *ast.AttrGetExpr:
		l.expr(x.Object, e)
		l.expr(x.Key, e)
		l.indexed(x.Object, e)
		l.deep(x, e)
		l.read(x, e)
	case *ast.FuncCallExpr:
		l.call(x, e)
	case *ast.FunctionExpr:
		l.function(x, e)
	case *ast.TableExpr:
		for _, f := range x.Fields {
			if f.Key != nil {
				l.expr(f.Key, e)
			}
			l.expr(f.Value, e)
		}
	case *ast.LogicalOpExpr:
		l.tests(x, e)
		l.spare(x, true)
		l.exprs([]ast.Expr{x.Lhs, x.Rhs}, e)
	case *ast.RelationalOpExpr:
		l.exprs([]ast.Expr{x.Lhs, x.Rhs}, e)
		l.compare(x, e)
		l.negated(x)
		l.ordered(x, e)
		l.mixed("compared", e, x.Lhs, x.Rhs)
	case *ast.StringConcatOpExpr:
		l.exprs([]ast.Expr{x.Lhs, x.Rhs}, e)
		l.mixed("joined", e, x.Lhs, x.Rhs)
		l.joined(x, e)
		l.needs(x.Lhs, e)
		l.needs(x.Rhs, e)
	case *ast.ArithmeticOpExpr:
		l.exprs([]ast.Expr{x.Lhs, x.Rhs}, e)
		l.calculated(x, e)
	case *ast.UnaryMinusOpExpr:
		l.expr(x.Expr, e)
	case *ast.UnaryNotOpExpr:
		l.expr(x.Expr, e)
	case *ast.UnaryLenOpExpr:
		l.expr(x.Expr, e)
		l.measured(x, e)
	}
}

// function walks a function that is nobody's handler: it may run anywhere.
func (l *looker) function(fn *ast.FunctionExpr, e env) {
	inner := maps.Clone(e)
	if fn.ParList != nil {
		for _, name := range fn.ParList.Names {
			delete(inner, name)
			l.known[name] = true
		}
	}
	was := l.inBody
	l.inBody = false
	l.block(fn.Stmts, inner)
	l.inBody = was
}
