package script

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"path"
	"slices"
	"strings"
	"time"

	glua "github.com/yuin/gopher-lua"
	"go.uber.org/zap"

	"github.com/moongate/moongate/internal/watch"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/lua"
)

// Options are what a policy is loaded for. The zero value serves one SMTP door
// with every default.
type Options struct {
	Faces       []*policy.Face // that will ask it; nil: policy.SMTP
	Log         *zap.Logger    // for log.info and its kin, and for lists; nil: nowhere
	AllowEmpty  bool           // a policy without a rule is a policy
	AllowShrink bool           // lists may shrink, once their new content has stood for a minute
	DelayReject bool           // connect and helo rules answer at RCPT unless they say otherwise
	MaxStates   int            // Lua states of one version; 0: 1024
	Budget      lua.Budget     // of one hook call; zero fields: the language's defaults
}

func (o Options) withDefaults() Options {
	if o.Faces == nil {
		o.Faces = []*policy.Face{policy.SMTP}
	}
	if o.Log == nil {
		o.Log = zap.NewNop()
	}
	if o.MaxStates <= 0 {
		o.MaxStates = 1024
	}
	return o
}

// Limits of loading. An endless loop at the top of a file ends here.
const (
	loadTime = 2 * time.Second
)

var loadBudget = lua.Budget{Instructions: 5_000_000, Bytes: 256 << 20}

// Policy is one loaded version. It is immutable but for its pool of states.
type Policy struct {
	Rules *policy.Rules
	Tests []watch.File // the *_test.lua of its directory
	Files []string     // what it was made of, in order

	opts    Options
	shared  *shared
	chunks  []*lua.Chunk
	modules map[string]*lua.Chunk
	decls   map[string]declared
	pool    *pool
	rules   []*policy.Rule // by position, whatever their hook
}

// shared is what outlives a version.
type shared struct {
	lists   *listSet
	metrics *metricSet
}

func newShared(o Options) *shared {
	return &shared{lists: newListSet(o.Log, o.AllowShrink), metrics: newMetricSet()}
}

// declared is an object that the top of a file made, by kind and name.
type declared struct {
	value any
	sign  string // tells two declarations of one name apart
	place string
}

// IsPolicy reports whether a file of the directory is policy: *.lua there (not
// below), unless its name begins with . or # or ends in ~, or it is a test.
func IsPolicy(name string) bool {
	return !strings.Contains(name, "/") && strings.HasSuffix(name, ".lua") && !hidden(name) && !IsTest(name)
}

// IsTest reports whether a file is a test: *_test.lua.
func IsTest(name string) bool {
	return !strings.Contains(name, "/") && strings.HasSuffix(name, "_test.lua") && !hidden(name)
}

func isModule(name string) bool {
	dir, file := path.Split(name)
	return dir == "lib/" && strings.HasSuffix(file, ".lua") && !hidden(file)
}

func hidden(name string) bool {
	name = path.Base(name)
	return strings.HasPrefix(name, ".") || strings.HasPrefix(name, "#") || strings.HasSuffix(name, "~")
}

// Select says what of a policy directory belongs to its snapshot: everything
// but hidden files and types/. Besides the scripts these are the lists, which
// may lie in directories below.
func Select() watch.Select {
	return watch.Select{
		File:    func(name string) bool { return !hidden(name) },
		Dir:     func(name string) bool { return !hidden(name) && name != "types" && !strings.HasSuffix(name, ".lua") },
		MaxSize: 64 << 20,
	}
}

// Load makes a Policy of a snapshot. It finds every problem it can before it
// gives up; the Policy is nil if one of them is no warning.
func Load(snap watch.Snapshot, opts Options) (*Policy, []lua.Problem) {
	opts = opts.withDefaults()
	sh := newShared(opts)
	sh.lists.see(snap.Files)
	return load(snap, opts, sh)
}

func load(snap watch.Snapshot, opts Options, sh *shared) (*Policy, []lua.Problem) {
	if snap.Err != nil {
		return nil, []lua.Problem{{File: snap.Dir, Text: snap.Err.Error()}}
	}
	p := &Policy{opts: opts, shared: sh, modules: map[string]*lua.Chunk{}, decls: map[string]declared{}}
	p.pool = &pool{make: p.newState, max: opts.MaxStates}
	problems := p.compile(snap)
	if lua.Refuses(problems) {
		return nil, problems
	}
	problems = append(problems, p.run()...)
	if len(p.rules) == 0 && !opts.AllowEmpty && !lua.Refuses(problems) {
		problems = append(problems, lua.Problem{File: snap.Dir, Text: "there is no rule: without one everything would pass (allow_empty = true, if that is meant)"})
	}
	problems = append(problems, p.faces()...)
	sortProblems(problems)
	if lua.Refuses(problems) {
		return nil, problems
	}
	p.Rules = policy.NewRules(Version(snap), p.rules...)
	if err := p.warm(); err != nil {
		return nil, append(problems, lua.Problem{File: snap.Dir, Text: err.Error()})
	}
	return p, problems
}

// Version is the hash of the scripts of a snapshot. Lists and tests are not
// part of it: they change without a reload.
func Version(snap watch.Snapshot) string {
	h := sha256.New()
	for _, f := range snap.Files {
		if IsPolicy(f.Name) || isModule(f.Name) {
			fmt.Fprintf(h, "%d:%s%d:%s", len(f.Name), f.Name, len(f.Data), f.Data)
			if f.Err != nil {
				fmt.Fprintf(h, "!%s", f.Err)
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}

// compile compiles and checks all files.
func (p *Policy) compile(snap watch.Snapshot) (problems []lua.Problem) {
	known := names()
	for _, f := range snap.Files {
		module := isModule(f.Name)
		switch {
		case IsTest(f.Name):
			p.Tests = append(p.Tests, f)
			continue
		case !module && !IsPolicy(f.Name):
			continue
		case f.Err != nil:
			problems = append(problems, lua.Problem{File: f.Name, Text: f.Err.Error()})
			continue
		}
		chunk, ps := lua.Compile(f.Name, f.Data, known)
		problems = append(problems, ps...)
		if chunk == nil {
			continue
		}
		problems = append(problems, p.look(chunk)...)
		if module {
			p.modules[strings.TrimSuffix(path.Base(f.Name), ".lua")] = chunk
		} else {
			p.chunks = append(p.chunks, chunk)
			p.Files = append(p.Files, f.Name)
		}
	}
	sortProblems(problems)
	return problems
}

func sortProblems(ps []lua.Problem) {
	slices.SortStableFunc(ps, func(a, b lua.Problem) int {
		if c := strings.Compare(a.File, b.File); c != 0 {
			return c
		}
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return a.Col - b.Col
	})
}

// loading is the first run of the files, which finds the rules and declared
// objects, or a later one, which must find the same.
type loading struct {
	p        *Policy
	first    bool
	chunk    *lua.Chunk // the file that runs
	problems []lua.Problem
	end      time.Time
}

// run runs the files for the first time. A file that fails does not hide what
// is wrong in the others.
func (p *Policy) run() []lua.Problem {
	ld := &loading{p: p, first: true, end: time.Now().Add(loadTime)}
	x := p.emptyState(ld)
	for _, c := range p.chunks {
		ld.chunk = c
		if err := x.Run(c, loadBudget, ld.end, nil); err != nil {
			ld.problems = append(ld.problems, ld.problem(err))
			x.Close()
			x = p.emptyState(ld)
		}
	}
	if !lua.Refuses(ld.problems) {
		ld.problems = append(ld.problems, x.seal()...)
	}
	if lua.Refuses(ld.problems) {
		x.Close()
		return ld.problems
	}
	p.pool.live++
	p.pool.put(x)
	return ld.problems
}

// problem is what ended a file, under its line.
func (ld *loading) problem(err error) lua.Problem {
	var e *lua.Error
	if !errors.As(err, &e) {
		return lua.Problem{File: ld.chunk.File, Text: err.Error()}
	}
	if c := ld.find(e.File); c != nil && e.Line > 0 {
		return c.At(e.Line, "", 0, "%s", e.Text)
	}
	return lua.Problem{File: ld.chunk.File, Line: e.Line, Text: e.Text}
}

func (ld *loading) find(file string) *lua.Chunk {
	for _, c := range ld.p.chunks {
		if c.File == file {
			return c
		}
	}
	for _, c := range ld.p.modules {
		if c.File == file {
			return c
		}
	}
	return nil
}

// emptyState is a state with the API and nothing of the policy.
func (p *Policy) emptyState(ld *loading) *state {
	x := &state{State: lua.NewState(), p: p, loading: ld, born: time.Now()}
	x.Modules = func(name string) (*lua.Chunk, error) {
		if c := p.modules[name]; c != nil {
			return c, nil
		}
		return nil, fmt.Errorf("there is no module lib/%s.lua", name)
	}
	x.register()
	return x
}

// seal ends loading: nothing of the state changes from here on.
func (x *state) seal() []lua.Problem {
	roots := make([]glua.LValue, len(x.hooks))
	for i, h := range x.hooks {
		roots[i] = h
	}
	x.loading = nil
	return x.Freeze(roots...)
}

// newState makes one more state of a loaded policy.
func (p *Policy) newState() (*state, error) {
	ld := &loading{p: p, end: time.Now().Add(loadTime)}
	x := p.emptyState(ld)
	for _, c := range p.chunks {
		ld.chunk = c
		if err := x.Run(c, loadBudget, ld.end, nil); err != nil {
			x.Close()
			return nil, err
		}
	}
	if len(x.hooks) != len(p.rules) {
		x.Close()
		return nil, errors.New("the policy's files gave other rules when they ran again")
	}
	x.seal()
	return x, nil
}

// warm makes states before the version serves, so that no client pays for it.
func (p *Policy) warm() error {
	for range min(warm(), p.opts.MaxStates) - p.pool.states() {
		x, err := p.newState()
		if err != nil {
			return err
		}
		p.pool.mu.Lock()
		p.pool.live++
		p.pool.free = append(p.pool.free, x)
		p.pool.mu.Unlock()
	}
	return nil
}

// declare finds a declared object, or makes it the first time.
func (x *state) declare(L *glua.LState, kind, name, sign string, make func() (any, error)) any {
	key := kind + "\n" + name
	d, ok := x.p.decls[key]
	switch {
	case ok && d.sign != sign:
		L.RaiseError("%s %q is declared otherwise at %s", kind, name, d.place)
	case ok:
		return d.value
	case !x.loading.first:
		L.RaiseError("%s %q was not declared when the policy was loaded", kind, clip(name, 80))
	}
	v, err := make()
	if err != nil {
		L.RaiseError("%s: %s", kind, err.Error())
	}
	x.p.decls[key] = declared{v, sign, place(at(L))}
	return v
}

func place(file string, line int) string {
	if file == "" {
		return ""
	}
	return fmt.Sprintf("%s:%d", file, line)
}
