// Package policytest holds fakes of what package policy asks for: rules that
// are Go functions, a World that answers from a map, a log that can be read.
package policytest

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/moongate/moongate/policy"
)

// Func is a rule written in Go.
type Func func(s *policy.Session, ev *policy.Event) (policy.Verdict, error)

// Eval calls the function.
func (f Func) Eval(_ context.Context, s *policy.Session, ev *policy.Event) (policy.Verdict, error) {
	return f(s, ev)
}

// Rule makes a rule of a function. Its place is "test.lua:LINE", LINE being
// the hook's number, so that lines in a log can be told apart.
func Rule(h policy.Hook, f Func) *policy.Rule {
	return &policy.Rule{File: "test.lua", Line: int(h) + 1, Hook: h, At: h, OnError: policy.Tempfail, Evaluator: f}
}

// Always is a rule that always answers v.
func Always(h policy.Hook, v policy.Verdict) *policy.Rule {
	return Rule(h, func(*policy.Session, *policy.Event) (policy.Verdict, error) { return v, nil })
}

// Reject is the verdict reject(550, "5.7.1", text).
func Reject(text string) policy.Verdict {
	return policy.Verdict{Action: policy.Reject, Reply: policy.Say(550, policy.Status{5, 7, 1}, text)}
}

// Tempfail is the verdict tempfail(451, "4.7.1", text).
func Tempfail(text string) policy.Verdict {
	return policy.Verdict{Action: policy.Tempfail, Reply: policy.Say(451, policy.Status{4, 7, 1}, text)}
}

// World is a policy.World whose clock stands until it is moved and whose
// lookups come from a map of "service type name" to values. What is not there
// is an empty answer.
type World struct {
	Clock   time.Time
	Answers map[string][]string
	Errors  map[string]error
	Store   policy.Store
}

// Now returns Clock.
func (w *World) Now() time.Time { return w.Clock }

// Lookup answers from the maps.
func (w *World) Lookup(_ context.Context, q policy.Query) (policy.Answer, error) {
	key := strings.TrimSpace(q.Service + " " + q.Type + " " + q.Name)
	if err := w.Errors[key]; err != nil {
		return policy.Answer{}, err
	}
	return policy.Answer{Values: w.Answers[key]}, nil
}

// Limits returns Store.
func (w *World) Limits() policy.Store { return w.Store }

// Env makes an Env of rules, with a log that can be read.
func Env(face *policy.Face, rules ...*policy.Rule) (*policy.Env, *observer.ObservedLogs) {
	core, logs := observer.New(zap.DebugLevel)
	generation := policy.NewRules("test", rules...)
	return &policy.Env{
		Engine: policy.EngineFunc(func(*policy.Facts) *policy.Rules { return generation }),
		Face:   face,
		World:  &World{Clock: time.Unix(1_700_000_000, 0)},
		Log:    zap.New(core),
	}, logs
}

// Session begins a session of the client 192.0.2.1 with the id "S".
func Session(t testing.TB, env *policy.Env) *policy.Session {
	t.Helper()
	return env.NewSession(t.Context(), policy.Facts{
		ID: "S", Listener: "test", Helo: "client.example", Proto: "ESMTP",
		Remote:   netip.MustParseAddrPort("192.0.2.1:25000"),
		Stranger: true,
	})
}

// Path parses an address as it stands in angle brackets.
func Path(t testing.TB, address string) policy.Path {
	t.Helper()
	p, err := policy.ParsePath("<"+address+">", true, true)
	if err != nil {
		t.Fatalf("path <%s>: %v", address, err)
	}
	return p
}
