package script

import (
	"bytes"
	"fmt"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

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

	// Unknown names fields that a front-end can never know, where and why:
	// "conn.user" is "here: the proxy does not tell". Reading one is worth a
	// warning.
	Unknown map[string]string

	// NotAsked names hooks whose rules no front-end ever asks, and why; a rule is
	// worth a warning.
	NotAsked map[policy.Hook]string

	// NoDrawer says that the SMTP door has nowhere to keep what quarantine()
	// keeps.
	NoDrawer bool

	// Longest is what a rule may take at a hook on the face that has least time
	// for it: a longer timeout is worth a warning.
	Longest [policy.NumAsked]Longest

	// Filters are the names that msg:skip_filter and msg.filters may give: another
	// is worth a warning. nil: they are not known.
	Filters []string

	// Watch is told the names of the DNS lists that a version declares when it
	// begins to serve; it must not block. nil: nobody looks after them.
	Watch func(zones []string)
}

// Longest is a time that bounds one of a rule's; zero: none does.
type Longest struct {
	Time time.Duration
	Why  string // where: "at `listener[0]`"
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

// settings are the Options that Engine.Use may change.
type settings struct {
	allowEmpty, allowShrink, delayReject bool
	maxStates                            int
	budget                               lua.Budget
	noDrawer                             bool
	longest                              [policy.NumAsked]Longest
	filters                              string // Filters as one text, which can be compared; "" for nil
}

func (o Options) settings() settings {
	o = o.withDefaults()
	filters := ""
	if o.Filters != nil {
		filters = "\n" + strings.Join(o.Filters, "\n")
	}
	return settings{o.AllowEmpty, o.AllowShrink, o.DelayReject, o.MaxStates, o.Budget, o.NoDrawer, o.Longest, filters}
}

func (o Options) with(s settings) Options {
	o.AllowEmpty, o.AllowShrink, o.DelayReject, o.MaxStates, o.Budget = s.allowEmpty, s.allowShrink, s.delayReject, s.maxStates, s.budget
	o.NoDrawer, o.Longest, o.Filters = s.noDrawer, s.longest, nil
	if s.filters != "" {
		o.Filters = strings.Split(s.filters[1:], "\n")
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
	zones   []Zone
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

// source is one file on its way.
type source struct {
	file     watch.File
	module   bool
	chunk    *lua.Chunk
	problems []lua.Problem
}

// compile compiles and checks all files, on all cores: a reload of a large
// policy is done before its author looks.
func (p *Policy) compile(snap watch.Snapshot) (problems []lua.Problem) {
	var sources []*source
	for _, f := range snap.Files {
		module := isModule(f.Name)
		switch {
		case IsTest(f.Name):
			p.Tests = append(p.Tests, f)
		case f.Err != nil && (module || IsPolicy(f.Name)):
			problems = append(problems, lua.Problem{File: f.Name, Text: f.Err.Error()})
		case (module || IsPolicy(f.Name)) && !p.opts.AllowEmpty && isEmpty(f.Data):
			problems = append(problems, lua.Problem{File: f.Name, Line: 1, Col: 1,
				Text: "the file is empty, and its rules would be lost: remove it, or leave a comment in it, if that is meant"})
		case module || IsPolicy(f.Name):
			sources = append(sources, &source{file: f, module: module})
		}
	}
	var next atomic.Int64
	var workers sync.WaitGroup
	for range min(runtime.GOMAXPROCS(0), len(sources)) {
		workers.Go(func() {
			for i := next.Add(1) - 1; i < int64(len(sources)); i = next.Add(1) - 1 {
				sources[i].compile(p.opts)
			}
		})
	}
	workers.Wait()
	for _, s := range sources {
		problems = append(problems, s.problems...)
		switch {
		case s.chunk == nil:
		case s.module:
			p.modules[strings.TrimSuffix(path.Base(s.file.Name), ".lua")] = s.chunk
		default:
			p.chunks = append(p.chunks, s.chunk)
			p.Files = append(p.Files, s.file.Name)
		}
	}
	sortProblems(problems)
	return problems
}

// isEmpty reports whether a file says nothing, not even in a comment: somebody
// truncated it, or a disk was full. The rules of the other files may well let
// everything pass that its rules refused.
func isEmpty(data []byte) bool {
	return len(bytes.TrimSpace(bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")))) == 0
}

// compile does one file. A panic would be ours, and refuses the file.
func (s *source) compile(o Options) {
	defer func() {
		if v := recover(); v != nil {
			s.chunk, s.problems = nil, []lua.Problem{{File: s.file.Name, Text: fmt.Sprintf("the checks failed: %v", v)}}
		}
	}()
	known := names()
	known.Look = func(c *lua.Chunk) []lua.Problem { return look(c, o) }
	s.chunk, s.problems = lua.Compile(s.file.Name, s.file.Data, known)
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
