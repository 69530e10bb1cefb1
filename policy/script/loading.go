package script

import (
	"errors"
	"fmt"
	"strings"
	"time"

	glua "github.com/yuin/gopher-lua"

	"github.com/moongate/moongate/policy/lua"
)

// declared is an object that the top of a file made, by kind and name.
type declared struct {
	value any
	sign  string // tells two declarations of one name apart
	place string
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
		word := "" // "ratelimit: ...", "on.mail wants a function"
		if i := strings.IndexAny(e.Text, ":. "); i > 0 {
			word = e.Text[:i]
		}
		return c.At(e.Line, word, 0, "%s", e.Text)
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
	x := &state{State: builtins.NewState(), p: p, loading: ld, born: time.Now()}
	x.Host = x
	x.Modules = func(name string) (*lua.Chunk, error) {
		if c := p.modules[name]; c != nil {
			return c, nil
		}
		return nil, fmt.Errorf("there is no module lib/%s.lua", name)
	}
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
