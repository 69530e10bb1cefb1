package lua

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	glua "github.com/yuin/gopher-lua"
	"github.com/yuin/gopher-lua/ast"
	"github.com/yuin/gopher-lua/parse"
)

// MaxSource is the largest file Compile takes, in octets. The parser needs some hundred octets of stack for each
// open construct, so this bounds what a broken file may cost.
const MaxSource = 1 << 20

// maxProblems is how many of a file are told; the rest are counted.
const maxProblems = 50

// Chunk is one compiled file. It is never changed after Compile, so any number of states may share it.
type Chunk struct {
	File  string
	AST   []ast.Stmt // as parsed, before the pass, for the host's own checks; read only
	Proto *glua.FunctionProto

	src *source
}

// At makes a Problem at the place where name stands on the line (the n-th time, from 0), for the host's own checks.
func (c *Chunk) At(line int, name string, n int, format string, args ...any) Problem {
	return c.src.problem(line, name, n, format, args...)
}

// Compile turns a file into a chunk: scan, parse, check, rewrite what gopher-lua gets wrong, compile. The chunk is nil if
// a problem refuses the file; warnings come beside a chunk. It never panics, whatever the source.
func Compile(file string, text []byte, names *Names) (chunk *Chunk, problems []Problem) {
	src := newSource(file, text)
	defer func() {
		switch r := recover().(type) {
		case nil:
		case tooDeep:
			chunk, problems = nil, append(problems, src.problem(r.line, "", 0, "nested too deep"))
		default:
			chunk, problems = nil, append(problems, Problem{File: file, Text: fmt.Sprintf("the compiler failed: %v", r)})
		}
	}()
	if len(text) > MaxSource {
		return nil, []Problem{{File: file, Text: fmt.Sprintf("file is larger than %d octets", MaxSource)}}
	}
	if ps := src.scan(); Refuses(ps) {
		return nil, ps
	}
	stmts, err := parse.Parse(strings.NewReader(src.text), file)
	if err != nil {
		return nil, []Problem{src.syntax(err)}
	}
	res := check(src, stmts, names)
	problems = append(src.lint, res.problems...)
	chunk = &Chunk{File: file, AST: stmts, src: src}
	if names != nil && names.Look != nil {
		problems = append(problems, names.Look(chunk)...)
	}
	if problems = most(problems); Refuses(problems) {
		return nil, problems
	}
	if chunk.Proto, err = generate(file, stmts, res); err != nil {
		return nil, append(problems, src.compileError(err))
	}
	return chunk, problems
}

// most sorts problems by their place and keeps maxProblems of them: what refuses the file before what only warns.
func most(ps []Problem) []Problem {
	byPlace := func(a, b Problem) int { return cmp.Or(a.Line-b.Line, a.Col-b.Col) }
	slices.SortStableFunc(ps, byPlace)
	n := len(ps) - maxProblems
	if n <= 0 {
		return ps
	}
	kept := make([]Problem, 0, maxProblems+1)
	for _, warning := range []bool{false, true} {
		for _, p := range ps {
			if p.Warning == warning && len(kept) < maxProblems {
				kept = append(kept, p)
			}
		}
	}
	slices.SortStableFunc(kept, byPlace)
	rest := kept[maxProblems-1]
	rest.Text, rest.Source, rest.Warning = fmt.Sprintf("%d more problems in this file", n), "", !Refuses(ps)
	return append(kept, rest)
}

// generate is the pass, gopher-lua's compiler, and a look at what it made.
func generate(file string, stmts []ast.Stmt, res *checked) (*glua.FunctionProto, error) {
	proto, err := glua.Compile(rewrite(stmts, res), file)
	if err != nil {
		return nil, err
	}
	return proto, inspect(proto)
}

var gotoLine = regexp.MustCompile(` at line (\d+)`)

// compileError gives a problem to what glua.Compile says: "no visible label", "too many local variables".
func (s *source) compileError(err error) Problem {
	var ce *glua.CompileError
	if errors.As(err, &ce) {
		msg := ce.Message
		if at := gotoLine.FindStringSubmatch(msg); at != nil { // the compiler notices at the end of the block
			ce.Line, _ = strconv.Atoi(at[1])
			msg = strings.Replace(msg, at[0], "", 1)
		}
		switch {
		case strings.HasPrefix(msg, "register overflow"), strings.HasPrefix(msg, "too many local"):
			msg = "this function has too many local variables or too long an expression"
		}
		return s.problem(max(ce.Line, 1), "", 0, "%s", msg)
	}
	var code *codeError
	if errors.As(err, &code) {
		return s.problem(max(code.line, 1), "", 0, "%s", code.text)
	}
	return Problem{File: s.file, Text: err.Error()}
}
