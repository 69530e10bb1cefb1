package script

import (
	"maps"
	"slices"
	"strconv"

	"github.com/yuin/gopher-lua/ast"

	"github.com/moongate/moongate/policy"
)

// plannedLibraries are tables that the language will have.
var plannedLibraries = map[string]string{
	"rspamd": "scanners", "clamd": "scanners", "spamd": "scanners", "http": "HTTP",
}

// call checks on.<stage>(...), verdicts, and methods of objects.
func (l *looker) call(x *ast.FuncCallExpr, e env) {
	if x.Method != "" {
		l.expr(x.Receiver, e)
		l.exprs(x.Args, e)
		l.indexed(x.Receiver, e)
		l.method(x, e)
		return
	}
	if hook, ok := onStage(x.Func); ok && !l.inHook {
		for _, a := range x.Args {
			if fn := l.handler(a); fn != nil {
				_, own := a.(*ast.FunctionExpr)
				l.handle(fn, hook, own, e)
			} else {
				l.expr(a, e)
			}
		}
		return
	}
	l.expr(x.Func, e)
	l.exprs(x.Args, e)
	l.objectCalled(x, e)
	l.builtin(x, e)
	l.changed(x, e)
	switch f := x.Func.(type) {
	case *ast.IdentExpr:
		if l.known[f.Value] {
			break
		}
		if l.inHook && isDeclaration(f.Value) {
			l.note(x.Line(), f.Value, "%s belongs at the top of the file, not in a hook", f.Value)
		}
		l.verdict(x, f.Value, e)
	case *ast.AttrGetExpr:
		l.libraryCall(x, f, e)
	}
}

// libraryCall checks the arguments of dns.a(...) and its like.
func (l *looker) libraryCall(x *ast.FuncCallExpr, f *ast.AttrGetExpr, e env) {
	of, ok := f.Object.(*ast.IdentExpr)
	key, ok2 := f.Key.(*ast.StringExpr)
	if !ok || !ok2 || l.known[of.Value] {
		return
	}
	for _, lib := range language.libraries {
		for _, fn := range lib.functions {
			if lib.name == of.Value && fn.name == key.Value {
				l.args(x, lib.name+"."+fn.name, lib.name, fn.params, e)
			}
		}
	}
}

func isDeclaration(name string) bool {
	return slices.ContainsFunc(language.functions, func(f *function) bool { return f.name == name && f.top })
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

// handle walks a handler knowing its stage and what its parameters are. One that
// has a name is not the stage's own: it may serve others, which give it more.
func (l *looker) handle(fn *ast.FunctionExpr, hook policy.Hook, own bool, e env) {
	l.hook, l.inHook, l.inBody = hook, true, true
	defer func() { l.inHook, l.inBody = false, false }()
	inner := maps.Clone(e)
	var classes []*class
	switch hook {
	case policy.Connect, policy.Helo:
		classes = []*class{connClass}
	case policy.Unknown:
		classes = []*class{connClass, commandLine}
	case policy.Vrfy:
		classes = []*class{connClass, text}
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
		if own && i >= parameters(hook) {
			inner[name] = beyond
		}
	}
	if hook == policy.Done && own {
		l.logRule = logRule{names: fn.ParList.Names}
		defer func() { l.warnLog(); l.logRule = logRule{} }()
	}
	l.block(fn.Stmts, inner)
}

// verdict checks what can be seen of reject(550, "5.7.1", "...").
func (l *looker) verdict(x *ast.FuncCallExpr, name string, e env) {
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
	l.onFaces(x, name)
	class, ok := map[string]int{"reject": 5, "tempfail": 4, "disconnect": 0}[name]
	if !ok {
		l.args(x, name, name, verdictFunctions[i].params, e)
		return
	}
	if !l.replyArgs(x, name, e) {
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
