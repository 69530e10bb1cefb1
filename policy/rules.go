package policy

import (
	"context"
	"path/filepath"
	"strconv"
	"time"
)

// Rule is one piece of the operator's policy: where it stands, when it is
// asked, and what happens when it fails. A Rule is immutable once loaded.
type Rule struct {
	Name, File string
	Line       int
	Hook       Hook          // where it is asked
	At         Hook          // where its refusal is given: Hook itself, or Rcpt for a delayed one of Connect, Helo or Mail
	OnError    Action        // Tempfail (the default), Accept or Reject
	Timeout    time.Duration // wall time; 0 means the hook's own limit
	Shadow     bool          // asked on Tx.Fork() and logged, not obeyed
	Evaluator
}

// Place is where the rule stands: "10-gate.lua:18".
func (r *Rule) Place() string {
	return filepath.Base(r.File) + ":" + strconv.Itoa(r.Line)
}

// String is the rule's name and place for the log: `10-gate.lua:18 "no bots"`,
// or the place alone where the author gave no name.
func (r *Rule) String() string {
	if r == nil {
		return ""
	}
	place := r.Place()
	if r.Name == "" || r.Name == place {
		return place
	}
	return place + " " + strconv.Quote(r.Name)
}

// Evaluator answers one question. An error is not a verdict: Session.Ask turns
// it into the rule's on_error. ctx is the session's; who blocks makes a
// context with ev.Deadline of it.
type Evaluator interface {
	Eval(ctx context.Context, s *Session, ev *Event) (Verdict, error)
}

// Rules are one loaded generation of policy. They are immutable.
type Rules struct {
	Version string // hash of the sources
	by      [numHooks][]*Rule
}

// NewRules makes a generation of rules, which are asked in the order given.
func NewRules(version string, rules ...*Rule) *Rules {
	r := &Rules{Version: version}
	for _, rule := range rules {
		r.by[rule.Hook] = append(r.by[rule.Hook], rule)
	}
	return r
}

// At returns the rules of a hook in the order in which they are asked; `log`
// rules stand at Done. The caller must not change the slice.
func (r *Rules) At(h Hook) []*Rule {
	if r == nil {
		return nil
	}
	return r.by[h]
}

// Any reports whether a rule is asked at one of these hooks.
func (r *Rules) Any(hooks ...Hook) bool {
	for _, h := range hooks {
		if len(r.At(h)) > 0 {
			return true
		}
	}
	return false
}

// All returns every rule, by hook in the order of a conversation.
func (r *Rules) All() []*Rule {
	var all []*Rule
	for h := range r.by {
		all = append(all, r.by[h]...)
	}
	return all
}

// Engine chooses the generation of rules: at each hook before MAIL, and once
// per transaction at MAIL. It is called from many goroutines.
type Engine interface {
	Rules(f *Facts) *Rules
}

// EngineFunc is a function that serves as an Engine.
type EngineFunc func(f *Facts) *Rules

// Rules calls the function.
func (fn EngineFunc) Rules(f *Facts) *Rules { return fn(f) }
