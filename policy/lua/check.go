package lua

import (
	"fmt"

	"github.com/yuin/gopher-lua/ast"
)

// checked is what the checks learnt of a file.
type checked struct {
	problems []Problem
	// own holds the uses of globals that the file itself assigns, with the name each gets: globals are the file's, so two
	// files that both define check() do not call each other's.
	own map[*ast.IdentExpr]string
}

// maxTree bounds the tree, whose walk recurses; the scan's bounds keep honest files far below.
const maxTree = 5000

// checker walks a file once with the scopes open, as the compiler would.
type checker struct {
	src   *source
	names *Names
	scope *scope
	depth int // functions around this place; 0 is the file's top level, which runs once
	tree  int

	set   map[string]int // globals assigned, and the first line that does
	uses  []use          // reads and writes of globals
	found map[spot][]int // columns already given to a problem
	out   []Problem
}

// use is one place where a name that is no local stands.
type use struct {
	id    *ast.IdentExpr
	write bool
	depth int
	near  []string // locals in scope, for "did you mean"
}

type scope struct {
	parent *scope
	vars   []variable // the last of a name counts
}

type variable struct {
	name  string
	depth int // of the function that declares it
}

func check(src *source, stmts []ast.Stmt, names *Names) *checked {
	if names == nil {
		names = &Names{}
	}
	c := &checker{src: src, names: names, set: map[string]int{}, found: map[spot][]int{}}
	c.block(stmts)
	return &checked{own: c.settle(), problems: c.out}
}

// settle judges the uses of globals once all assignments are known: a function may use what a later line assigns.
func (c *checker) settle() map[*ast.IdentExpr]string {
	own := map[*ast.IdentExpr]string{}
	for _, u := range c.uses {
		name := u.id.Value
		switch {
		case c.names.known(name):
			if u.write {
				c.report(u.id.Line(), name, "'%s' is built in and cannot be assigned", name)
			}
		case u.write && u.depth > 0 && !c.names.Mutable:
			c.report(u.id.Line(), name, "assignment to global '%s' inside a function: write 'local %s'%s", name, name, c.keepHint())
		case c.set[name] > 0:
			own[u.id] = "(" + c.src.file + ")" + name
		default:
			text := fmt.Sprintf("unknown name '%s'", name)
			if why := absent[name]; why != "" {
				text += ": " + why
			} else if why := c.names.absent(name); why != "" {
				text += ": " + why
			} else if s := c.suggest(name, u.near); s != "" {
				text += fmt.Sprintf(" (did you mean '%s'?)", s)
			}
			c.report(u.id.Line(), name, "%s", text)
		}
	}
	return own
}

// absent explains names of stock Lua, and of other languages, that a policy does not have.
var absent = map[string]string{
	"io": "a policy has no files; use list() or map()", "os": "a policy has no operating system; the clock is time.now()", "debug": "not in a policy",
	"package": "modules are files in lib/, see require", "coroutine": "not in a policy", "load": "a policy cannot compile text",
	"loadstring": "a policy cannot compile text", "loadfile": "a policy cannot compile text", "dofile": "use require",
	"module": "return a table instead", "setfenv": "not in a policy", "getfenv": "not in a policy", "_G": "globals are fixed",
	"collectgarbage": "not in a policy", "newproxy": "not in a policy", "_ENV": "that is Lua 5.2", "utf8": "that is Lua 5.3",
	"bit32": "that is Lua 5.2", "jit": "that is LuaJIT", "bit": "that is LuaJIT", "ffi": "that is LuaJIT", "arg": "write '...'",
	"print": "write log.info(...)", "rawlen": "that is Lua 5.2: write #", "null": "write nil", "NULL": "write nil", "None": "write nil",
	"undefined": "write nil", "True": "write true", "TRUE": "write true", "False": "write false", "FALSE": "write false",
}

func (c *checker) keepHint() string {
	if k := c.names.keep(); k != "" {
		return ", or keep it in " + k
	}
	return ""
}

// report adds a problem under the next not yet reported place of the name on the line.
func (c *checker) report(line int, name, format string, args ...any) {
	col := c.src.column(line, name, c.found)
	c.out = append(c.out, c.src.at(line, col, format, args...))
}

func (c *checker) push() { c.scope = &scope{parent: c.scope} }
func (c *checker) pop()  { c.scope = c.scope.parent }

func (c *checker) declare(name string) {
	c.scope.vars = append(c.scope.vars, variable{name, c.depth})
}

func (c *checker) resolve(name string) *variable {
	for s := c.scope; s != nil; s = s.parent {
		for i := len(s.vars) - 1; i >= 0; i-- {
			if s.vars[i].name == name {
				return &s.vars[i]
			}
		}
	}
	return nil
}

func (c *checker) visible() []string {
	var out []string
	for s := c.scope; s != nil; s = s.parent {
		for _, v := range s.vars {
			out = append(out, v.name)
		}
	}
	return out
}

// fileLevel reports whether a name means a value of the file, seen from inside a function. Such values are made once
// and serve every connection.
func (c *checker) fileLevel(id *ast.IdentExpr) bool {
	if c.depth == 0 || c.names.Mutable {
		return false
	}
	v := c.resolve(id.Value)
	return v != nil && v.depth == 0
}

// deeper guards the recursion; the scan lets no honest file come near.
func (c *checker) deeper(at ast.PositionHolder) {
	if c.tree++; c.tree > maxTree {
		panic(tooDeep{at.Line()})
	}
}

type tooDeep struct{ line int }

// maxList is how many items a list in a script may have: gopher-lua's compiler loses count at 511 times 50.
const maxList = 25_000
