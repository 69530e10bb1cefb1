package script

import (
	"slices"
	"strings"

	glua "github.com/yuin/gopher-lua"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/lua"
)

// The API is one table, made of these types: functions, tables of functions
// and classes. Registration, the names for the load check, the editor's stubs
// and the reference page all come from it.

// function is a Lua function of ours, global or in a table.
type function struct {
	name    string
	params  []param
	returns []param
	doc     string
	must    bool          // its value is the point of calling it
	top     bool          // it declares something, at the top of a file
	stages  []policy.Hook // where it can be used; nil: everywhere
	planned string        // not there yet; what it will be
	do      func(x *state, L *glua.LState) int
}

// param is a parameter or a result. A type that ends in "?" may be left out.
type param struct{ name, typ, doc string }

// library is a table of functions, "log".
type library struct {
	name, doc string
	functions []*function
}

// api is the whole table.
type api struct {
	functions []*function
	libraries []*library
	classes   []*class
}

var language = sortedAPI()

func sortedAPI() *api {
	return &api{
		functions: slices.Concat(verdictFunctions, sharedFunctions, valueFunctions, []*function{greylistFunction, mapFunction, dnsblFunction}),
		libraries: []*library{logLibrary, dnsLibrary, jsonLibrary, base64Library, hashLibrary, timeLibrary, ipLibrary},
		classes:   []*class{connClass, tlsClass, msgClass, headerClass, filterClass, rcptClass, attemptClass, outcomeClass, limitClass, greylistClass, counterClass, cacheClass, listClass, ipsetClass, mapClass, reClass, dnsblClass, metricClass, verdictClass},
	}
}

// stages are the names of `on`, in the order of a conversation.
var stages = []struct {
	name string
	hook policy.Hook
	args string // of the handler, for the stubs
	doc  string
}{

	{"connect", policy.Connect, "conn: Conn", "Before the banner."},
	{"helo", policy.Helo, "conn: Conn", "Each HELO and EHLO."},
	{"auth", policy.Auth, "conn: Conn, attempt: Attempt", "AUTH, before the credentials go on."},
	{"mail", policy.Mail, "msg: Msg", "MAIL FROM."},
	{"rcpt", policy.Rcpt, "msg: Msg, rcpt: Rcpt", "Each RCPT TO."},
	{"data", policy.Data, "msg: Msg", "DATA or the first BDAT, before any 354."},
	{"headers", policy.Headers, "msg: Msg", "The end of the header; the body is not read yet."},
	{"message", policy.Message, "msg: Msg", "The whole message is here."},
	{"unknown", policy.Unknown, "conn: Conn, line: string", "A command that nobody knows."},
	{"vrfy", policy.Vrfy, "conn: Conn, line: string", "VRFY and EXPN."},
	{"log", policy.Done, "about: Msg|Conn, outcome: Outcome?", "Always, at the end; it cannot change anything. A connection without a message is told once, with conn and nil."},
}

// names are what the load check measures a file against.
func names() *lua.Names {
	n := &lua.Names{Known: map[string][]string{}, MustReturn: map[string]bool{}, Keep: "conn.data or msg.data",
		Absent: map[string]string{
			"conn":    "rules of connect, helo, unknown and vrfy get it as an argument, in others it is msg.conn",
			"msg":     "rules get it as an argument, function(msg), from mail on",
			"rcpt":    "rules of rcpt get it as their second argument, function(msg, rcpt)",
			"outcome": "rules of log get it as their second argument, function(msg, outcome)",
		}}
	for _, s := range stages {
		n.Known["on"] = append(n.Known["on"], s.name)
	}
	for _, f := range language.functions {
		n.Known[f.name] = nil
		if f.must {
			n.MustReturn[f.name] = true
		}
	}
	for name := range plannedLibraries { // look says why not
		n.Known[name] = nil
	}
	for _, l := range language.libraries {
		for _, f := range l.functions {
			n.Known[l.name] = append(n.Known[l.name], f.name)
		}
	}
	return n
}

// builtins is the API as Lua sees it, made once for all states.
var builtins *lua.Library

func init() {
	on := lua.NewTable()
	for _, s := range stages {
		on.RawSetString(s.name, lua.Builtin(func(L *glua.LState) int { return stateOf(L).on(L, s.hook) }))
	}
	names := map[string]glua.LValue{"on": on}
	for _, f := range language.functions {
		names[f.name] = f.builtin(f.name)
	}
	for _, l := range language.libraries {
		t := lua.NewTable()
		for _, f := range l.functions {
			t.RawSetString(f.name, f.builtin(l.name+"."+f.name))
		}
		names[l.name] = t
	}
	builtins = lua.NewLibrary(names)
}

// stateOf is the state that calls a function of the library.
func stateOf(L *glua.LState) *state { return lua.StateOf(L).Host.(*state) }

// builtin is the function as scripts call it, which may not be everywhere.
func (f *function) builtin(what string) *glua.LFunction {
	return lua.Builtin(func(L *glua.LState) int {
		x := stateOf(L)
		switch {
		case f.planned != "":
			L.RaiseError("%s is not supported yet (%s)", what, f.planned)
		case f.top && x.loading == nil:
			L.RaiseError("%s belongs at the top of the file, not in a hook", what)
		case f.stages != nil && x.loading == nil && !slices.Contains(f.stages, x.hook):
			L.RaiseError("%s is not possible at '%s', only at %s", what, stageName(x.hook), stageList(f.stages))
		}
		return f.do(x, L)
	})
}

func stageList(hooks []policy.Hook) string {
	s := make([]string, len(hooks))
	for i, h := range hooks {
		s[i] = stageName(h)
	}
	return strings.Join(s, ", ")
}
