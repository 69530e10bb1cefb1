package script

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/yuin/gopher-lua/ast"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/lua"
)

// plannedLibraries are tables that the language will have.
var plannedLibraries = map[string]string{
	"rspamd": "scanners", "clamd": "scanners", "spamd": "scanners", "http": "HTTP",
}

// look checks what the API knows of a file before it runs: fields that objects
// do not have, methods before their stage, verdicts that a stage cannot give,
// replies that no wire would take. It follows objects only where there is no
// doubt: the parameters of a handler, and locals made of them.
func (p *Policy) look(c *lua.Chunk) []lua.Problem {
	l := &looker{chunk: c, functions: map[string]*ast.FunctionExpr{}, known: map[string]bool{}, seen: map[string]int{}}
	l.collect(c.AST)
	l.block(c.AST, env{})
	return l.problems
}

// looker walks one file.
type looker struct {
	chunk     *lua.Chunk
	functions map[string]*ast.FunctionExpr // named at the top of the file
	known     map[string]bool              // every name the file itself gives to anything
	seen      map[string]int               // problems by place, so that each stands under its own column
	problems  []lua.Problem
	hook      policy.Hook
	inHook    bool
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
				if c := l.class(s.Exprs[i], e); c != nil {
					e[name] = c
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
			case *ast.IdentExpr:
				l.known[lhs.Value] = true
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
		if what := plannedName(x.Value); what != "" && !l.known[x.Value] {
			l.note(x.Line(), x.Value, "%s is not supported yet (%s)", x.Value, what)
		}
	case *ast.AttrGetExpr:
		l.expr(x.Object, e)
		l.expr(x.Key, e)
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
		l.exprs([]ast.Expr{x.Lhs, x.Rhs}, e)
	case *ast.RelationalOpExpr:
		l.exprs([]ast.Expr{x.Lhs, x.Rhs}, e)
		l.compare(x, e)
	case *ast.StringConcatOpExpr:
		l.exprs([]ast.Expr{x.Lhs, x.Rhs}, e)
	case *ast.ArithmeticOpExpr:
		l.exprs([]ast.Expr{x.Lhs, x.Rhs}, e)
	case *ast.UnaryMinusOpExpr:
		l.expr(x.Expr, e)
	case *ast.UnaryNotOpExpr:
		l.expr(x.Expr, e)
	case *ast.UnaryLenOpExpr:
		l.expr(x.Expr, e)
	}
}

func plannedName(name string) string {
	if what := plannedLibraries[name]; what != "" {
		return what
	}
	for _, f := range plannedFunctions {
		if f.name == name {
			return f.planned
		}
	}
	return ""
}

func isDeclaration(name string) bool {
	return slices.ContainsFunc(language.functions, func(f *function) bool { return f.name == name && f.top })
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
	l.block(fn.Stmts, inner)
}

// class is what an expression is for sure, nil if that cannot be said.
func (l *looker) class(x ast.Expr, e env) *class {
	switch x := x.(type) {
	case *ast.IdentExpr:
		return e[x.Value]
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
		m := l.field(side[0], e)
		if m == nil {
			continue
		}
		is, with := map[string]string{"integer": "a number", "string": "text", "boolean": "true or false"}[strings.TrimSuffix(m.typ, "?")], ""
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
	c := l.class(x.Object, e)
	if c == nil || !ok {
		return
	}
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
		l.note(line, name, "%s has no field '%s'%s", c.name, name, didYouMean(name, c.names()))
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

// call checks on.<stage>(...), verdicts, and methods of objects.
func (l *looker) call(x *ast.FuncCallExpr, e env) {
	if x.Method != "" {
		l.expr(x.Receiver, e)
		l.exprs(x.Args, e)
		l.method(x, e)
		return
	}
	if hook, ok := onStage(x.Func); ok && !l.inHook {
		for _, a := range x.Args {
			if fn := l.handler(a); fn != nil {
				l.handle(fn, hook, e)
			} else {
				l.expr(a, e)
			}
		}
		return
	}
	l.expr(x.Func, e)
	l.exprs(x.Args, e)
	if id, ok := x.Func.(*ast.IdentExpr); ok && !l.known[id.Value] {
		if l.inHook && isDeclaration(id.Value) {
			l.note(x.Line(), id.Value, "%s belongs at the top of the file, not in a hook", id.Value)
		}
		l.verdict(x, id.Value)
	}
}

func onStage(x ast.Expr) (policy.Hook, bool) {
	a, ok := x.(*ast.AttrGetExpr)
	if !ok {
		return 0, false
	}
	on, ok := a.Object.(*ast.IdentExpr)
	key, ok2 := a.Key.(*ast.StringExpr)
	if !ok || !ok2 || on.Value != "on" {
		return 0, false
	}
	return policy.HookNamed(key.Value)
}

func (l *looker) handler(x ast.Expr) *ast.FunctionExpr {
	switch x := x.(type) {
	case *ast.FunctionExpr:
		return x
	case *ast.IdentExpr:
		return l.functions[x.Value]
	}
	return nil
}

// handle walks a handler knowing its stage and what its parameters are.
func (l *looker) handle(fn *ast.FunctionExpr, hook policy.Hook, e env) {
	l.hook, l.inHook = hook, true
	defer func() { l.inHook = false }()
	inner := maps.Clone(e)
	var classes []*class
	switch hook {
	case policy.Connect, policy.Helo, policy.Unknown, policy.Vrfy:
		classes = []*class{connClass}
	case policy.Auth:
		classes = []*class{connClass, attemptClass}
	case policy.Done:
		classes = []*class{nil, outcomeClass}
	case policy.Rcpt:
		classes = []*class{msgClass, rcptClass}
	default:
		classes = []*class{msgClass}
	}
	for i, name := range fn.ParList.Names {
		l.known[name] = true
		delete(inner, name)
		if i < len(classes) && classes[i] != nil {
			inner[name] = classes[i]
		}
	}
	l.block(fn.Stmts, inner)
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
		return
	}
	m := l.member(c, x.Method, x.Line())
	switch {
	case m == nil:
	case m.do == nil:
		l.note(x.Line(), x.Method, "%s.%s is a field, no method: write %s.%s", c.name, m.name, c.name, m.name)
	case l.inHook && l.hook < m.from:
		l.note(x.Line(), x.Method, "%s:%s is there from '%s' on, and this is '%s'", c.name, m.name, m.from, stageName(l.hook))
	}
}

// verdict checks what can be seen of reject(550, "5.7.1", "...").
func (l *looker) verdict(x *ast.FuncCallExpr, name string) {
	i := slices.IndexFunc(verdictFunctions, func(f *function) bool { return f.name == name })
	if i < 0 {
		return
	}
	if f := verdictFunctions[i]; l.inHook && f.stages != nil && !slices.Contains(f.stages, l.hook) {
		l.note(x.Line(), name, "%s is not possible at '%s', only at %s", name, stageName(l.hook), stageList(f.stages))
		return
	}
	if l.inHook && l.hook == policy.Done {
		l.note(x.Line(), name, "%s: a log rule decides nothing", name)
		return
	}
	class, ok := map[string]int{"reject": 5, "tempfail": 4, "disconnect": 0}[name]
	if !ok {
		return
	}
	args := x.Args
	code := 0
	if len(args) > 0 {
		if n, ok := args[0].(*ast.NumberExpr); ok {
			f, err := strconv.ParseFloat(n.Value, 64)
			if code = int(f); err != nil || float64(code) != f || code == 0 {
				l.note(x.Line(), name, "%s: reply code %s is no reply code", name, n.Value)
				return
			}
			args = args[1:]
		}
	}
	status := policy.NoStatus
	if len(args) > 1 {
		if s, ok := args[0].(*ast.StringExpr); ok {
			st, err := policy.ParseStatus(s.Value)
			if err != nil {
				l.note(x.Line(), name, "%s: %s", name, err)
				return
			}
			status = st
		}
		args = args[1:]
	}
	text := "x"
	if len(args) > 0 {
		if s, ok := args[0].(*ast.StringExpr); ok {
			text = s.Value
		}
	}
	if code == 0 {
		if code = class * 100; class == 0 || status == policy.NoStatus {
			code = max(code, 421)
			if class == 5 {
				code = 550
			}
			if class == 0 {
				status = policy.NoStatus
			}
		}
	}
	if _, err := policy.NewReply(class, code, status, text); err != nil {
		l.note(x.Line(), name, "%s: %s", name, err)
	}
}
