package script

import (
	"slices"
	"strconv"
	"strings"

	"github.com/yuin/gopher-lua/ast"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/lua"
)

// What is legal Lua and hardly ever what its author means: a condition that is always true, a copy that is written, an address
// in a text that is none.

// condition checks what is asked of an if: msg.from == "a" or "b".
func (l *looker) condition(x ast.Expr) {
	op, ok := x.(*ast.LogicalOpExpr)
	if !ok || op.Operator != "or" {
		return
	}
	l.condition(op.Lhs)
	l.condition(op.Rhs)
	for _, side := range []ast.Expr{op.Lhs, op.Rhs} {
		switch side.(type) {
		case *ast.StringExpr, *ast.NumberExpr:
			l.note(op.Line(), "or", "this is always true: write the comparison again behind 'or', x == %s", literal(side))
		}
	}
}

// negated checks not msg.from == "x".
func (l *looker) negated(x *ast.RelationalOpExpr) {
	if _, ok := x.Lhs.(*ast.UnaryNotOpExpr); !ok || literal(x.Rhs) == "" {
		return
	}
	switch x.Operator {
	case "==":
		l.note(x.Line(), "not", "'not' is done first, and true or false is never %s: write x ~= %s", literal(x.Rhs), literal(x.Rhs))
	case "~=":
		l.note(x.Line(), "not", "'not' is done first, and true or false is always another than %s: write x == %s", literal(x.Rhs), literal(x.Rhs))
	}
}

// literal is a text or number as an author writes it, "" for all else.
func literal(x ast.Expr) string {
	switch x := x.(type) {
	case *ast.StringExpr:
		return strconv.Quote(clip(x.Value, 40))
	case *ast.NumberExpr:
		return x.Value
	}
	return ""
}

// added checks "wait " + seconds.
func (l *looker) added(x *ast.ArithmeticOpExpr) {
	for _, side := range []ast.Expr{x.Lhs, x.Rhs} {
		s, ok := side.(*ast.StringExpr)
		if !ok {
			continue
		}
		if _, err := strconv.ParseFloat(strings.TrimSpace(s.Value), 64); err != nil && !strings.HasPrefix(strings.TrimSpace(s.Value), "0x") {
			l.note(x.Line(), x.Operator, "'%s' calculates, and %s is no number: text is joined with '..'", x.Operator, literal(s))
			return
		}
	}
}

// copied checks what is written into a table that is made anew at each reading: msg.rcpts[1] = "x".
func (l *looker) copied(table ast.Expr, e env) {
	m := l.field(table, e)
	if m == nil || m.typ == "table" || typeWord(m.typ) != "a table" {
		return
	}
	hint := ""
	if m.name == "rcpts" {
		hint = ": use msg:add_rcpt, msg:remove_rcpt or msg:replace_rcpt"
	}
	l.note(table.Line(), m.name, "%s is a copy, and what is written into it is lost%s", m.name, hint)
}

// changed checks table.insert(msg.rcpts, "x").
func (l *looker) changed(x *ast.FuncCallExpr, e env) {
	f, ok := x.Func.(*ast.AttrGetExpr)
	if !ok || len(x.Args) == 0 {
		return
	}
	of, _ := f.Object.(*ast.IdentExpr)
	key, _ := f.Key.(*ast.StringExpr)
	if of != nil && key != nil && of.Value == "table" && !l.known["table"] && (key.Value == "insert" || key.Value == "remove") {
		l.copied(x.Args[0], e)
	}
}

// addresses checks those that are written in a call: msg:add_rcpt("a@b.example, c@d.example").
func (l *looker) addresses(x *ast.FuncCallExpr) {
	n, ok := map[string]int{"set_from": 0, "add_rcpt": 0, "replace_rcpt": 1}[x.Method]
	if !ok || n >= len(x.Args) {
		return
	}
	s, ok := x.Args[n].(*ast.StringExpr)
	if !ok || s.Value == "" && x.Method == "set_from" {
		return
	}
	if _, err := policy.NewPath(s.Value, true); err != nil {
		l.note(x.Line(), x.Method, "%s: %s is no address: %s", x.Method, literal(s), err)
	}
}

// fieldNames checks the names of header fields.
func (l *looker) fieldNames(x *ast.FuncCallExpr) {
	if !strings.HasSuffix(x.Method, "header") && x.Method != "headers" || len(x.Args) == 0 {
		return
	}
	s, ok := x.Args[0].(*ast.StringExpr)
	if !ok || s.Value != "" && !strings.ContainsFunc(s.Value, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' }) {
		return
	}
	hint := ""
	if name, _, ok := strings.Cut(s.Value, ":"); ok {
		hint = ": write " + strconv.Quote(strings.TrimSpace(name))
	}
	l.note(x.Line(), x.Method, "%s: %s is no name of a header field%s", x.Method, literal(s), hint)
}

// sized notes a size that is not here yet, and a parameter that is text or nil, where a number is wanted.
func (l *looker) sized(x ast.Expr, e env) {
	if call, ok := x.(*ast.FuncCallExpr); ok && len(call.Args) == 1 { // tonumber(msg.params.SIZE) is nil where there is none
		if f, ok := call.Func.(*ast.IdentExpr); ok && f.Value == "tonumber" && !l.known["tonumber"] {
			if key := l.paramKey(call.Args[0], e); key != "" {
				l.nils = append(l.nils, nilUse{key, l.chunk.At(x.Line(), "tonumber", 0, "%s may be nil, and this would be an error then: write tonumber(%s or 0)", key, key)})
			}
		}
		return
	}
	if key := l.paramKey(x, e); key != "" {
		l.note(x.Line(), wordOf(x), "%s is text or nil: write tonumber(%s or 0)", key, key)
		return
	}
	if m := l.field(x, e); m != nil && l.class(x.(*ast.AttrGetExpr).Object, e) == msgClass && m.name == "size" && l.inHook && l.hook < policy.Message {
		l.nils = append(l.nils, nilUse{"msg.size", l.chunk.At(x.Line(), "size", 0,
			"msg.size is nil at '%s', and this would be an error: write a message rule, or ask for what the client announced, tonumber(msg.params.SIZE or 0)", stageName(l.hook))})
	}
}

// paramKey names msg.params.SIZE and its like.
func (l *looker) paramKey(x ast.Expr, e env) string {
	a, ok := x.(*ast.AttrGetExpr)
	if !ok {
		return ""
	}
	m, key := l.field(a.Object, e), literal(a.Key)
	if m == nil || m.name != "params" || key == "" {
		return ""
	}
	return l.class(a.Object.(*ast.AttrGetExpr).Object, e).name + ".params." + strings.Trim(key, `"`)
}

// iterator checks msg:headers("Subject") == "x" and msg:headers("Subject"):find("x").
func (l *looker) iterator(x ast.Expr, e env) {
	call, ok := x.(*ast.FuncCallExpr)
	if !ok {
		return
	}
	if m := l.called(call, e); m != nil && m.name == "headers" {
		l.note(x.Line(), m.name, "headers is for 'for h in msg:headers(...) do': write msg:header(...) for the first field of a name")
	}
}

// patternOf checks msg.from:match(r), where r is an expression of re().
func (l *looker) patternOf(x *ast.FuncCallExpr, e env) bool {
	if len(x.Args) == 0 {
		return false
	}
	c := l.class(x.Args[0], e)
	if c == nil {
		return false
	}
	hint := c.mainField()
	if c == reClass {
		hint = ": write re:test(...) or re:match(...), with the text in it"
	}
	l.note(x.Line(), x.Method, "%s: argument 1 is text, and here it is the object %s%s", x.Method, c.name, hint)
	return true
}

// logRule is the log rule that is walked: it hears of sessions without a message, too, with conn and nil.
type logRule struct {
	names   []string // of its parameters
	guarded bool     // it asks whether there is an outcome
	use     *lua.Problem
}

// tells notes what a log rule reads of a message or of an outcome.
func (l *looker) tells(x ast.Expr, member string) {
	id, ok := x.(*ast.IdentExpr)
	if !ok || l.logRule.use != nil {
		return
	}
	switch i := slices.Index(l.logRule.names, id.Value); {
	case i == 0 && msgClass.index[member] != nil && connClass.index[member] == nil, i == 1 && outcomeClass.index[member] != nil:
		p := l.chunk.At(x.Line(), member, 0, "%s.%s is not there for a session without a message, which is told as well: begin with 'if not outcome then return end' in function(msg, outcome)", id.Value, member)
		p.Warning = true
		l.logRule.use = &p
	}
}

func (l *looker) warnLog() {
	if l.logRule.use != nil && !l.logRule.guarded {
		l.problems = append(l.problems, *l.logRule.use)
	}
}

// otherWords are what authors call members elsewhere.
var otherWords = map[string]string{
	"sender": "from", "envelope_from": "from", "mail_from": "from", "to": "rcpts", "recipient": "rcpts", "recipients": "rcpts",
	"add_recipient": "add_rcpt", "delete_recipient": "remove_rcpt", "remove_recipient": "remove_rcpt", "del_rcpt": "remove_rcpt", "set_sender": "set_from",
	"get_header": "header", "delete_header": "remove_header", "del_header": "remove_header", "replace_header": "set_header", "change_header": "set_header",
	"email": "address", "localpart": "user", "local_part": "user", "addr": "ip", "address": "ip", "client": "ip", "remote": "ip", "host": "ptr", "hostname": "ptr", "rdns": "ptr",
	"name": "ptr", "verdict": "action", "result": "action", "ehlo": "helo", "login": "user", "contains": "has", "match": "has", "find": "has", "lookup": "get", "inc": "add", "increment": "add",
}

// elsewhere says where a member is that a class has not, or what it is called here.
func (l *looker) elsewhere(c *class, name string) string {
	where := func(o *class, text string) string {
		if c != o && o.index[name] != nil && o.index[name].planned == "" {
			return text
		}
		return ""
	}
	var hint string
	switch c {
	case msgClass:
		if hint = where(connClass, ": write msg.conn."+name); hint == "" {
			hint = where(rcptClass, ": rcpt has it, the second argument of rcpt rules")
		}
	case connClass:
		hint = where(msgClass, ": msg has it, which rules get from 'mail' on")
	case rcptClass:
		if hint = where(msgClass, ": write msg."+name); hint == "" {
			hint = where(connClass, ": write msg.conn."+name)
		}
	case outcomeClass:
		hint = where(msgClass, ": msg has it")
	}
	if word := otherWords[name]; hint == "" && slices.Contains(c.names(), word) {
		hint = " (did you mean '" + word + "'?)"
	}
	if hint == "" {
		hint = didYouMean(name, c.names())
	}
	return hint
}
