package script

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"

	"github.com/moongate/moongate/internal/watch"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/lua"
)

// Engine is the current Policy of a directory. It implements policy.Engine;
// Reload is called from one goroutine at a time or many, Rules from all.
type Engine struct {
	shared  *shared
	metrics *engineMetrics

	mu      sync.Mutex // of Reload and Use; guards opts and tried
	opts    Options    // of the version that serves
	tried   tried
	current atomic.Pointer[Policy]
}

var _ policy.Engine = (*Engine)(nil)

// tried is what came of the version looked at last: what is wrong with it is
// logged once, however often it is looked at.
type tried struct {
	version  string
	hash     string // of the whole snapshot: a list that was missing may have come
	settings settings
	problems []lua.Problem
	err      error
}

type engineMetrics struct {
	failed   prometheus.Gauge
	loaded   prometheus.Gauge
	reloads  *prometheus.CounterVec
	problems prometheus.Gauge
}

// NewEngine makes an Engine without a policy: Reload must have succeeded once
// before sessions begin. reg may be nil.
func NewEngine(opts Options, reg prometheus.Registerer) *Engine {
	opts = opts.withDefaults()
	e := &Engine{opts: opts, shared: newShared(opts), metrics: &engineMetrics{
		failed:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "moongate_policy_reload_failed", Help: "1 if the policy directory holds a version that was refused."}),
		loaded:   prometheus.NewGauge(prometheus.GaugeOpts{Name: "moongate_policy_loaded_timestamp_seconds", Help: "When the policy that serves was loaded."}),
		problems: prometheus.NewGauge(prometheus.GaugeOpts{Name: "moongate_policy_problems", Help: "Mistakes and warnings of the version tried last."}),
		reloads:  prometheus.NewCounterVec(prometheus.CounterOpts{Name: "moongate_policy_reloads_total", Help: "Versions tried, by result."}, []string{"result"}),
	}}
	if reg != nil {
		reg.MustRegister(e.shared.metrics, e.metrics.failed, e.metrics.loaded, e.metrics.problems, e.metrics.reloads,
			prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "moongate_policy_states", Help: "Lua states of the policy that serves."}, func() float64 {
				if p := e.current.Load(); p != nil {
					return float64(p.pool.states())
				}
				return 0
			}))
	}
	return e
}

// Rules gives the rules of the current version; nil before the first.
func (e *Engine) Rules(*policy.Facts) *policy.Rules {
	if p := e.current.Load(); p != nil {
		return p.Rules
	}
	return nil
}

// Policy is the current version, nil before the first.
func (e *Engine) Policy() *Policy { return e.current.Load() }

// ErrRefused is Reload's error when the policy that served before goes on
// serving (or none does).
var ErrRefused = errors.New("the policy has problems and was not taken")

// Reload takes a snapshot of the directory: lists follow their files at once;
// scripts that changed become a new version if nothing is wrong with them. If
// something is, each problem is logged and the old version stays. Scripts that
// are the same as those tried last are not looked at again. It returns all
// problems, warnings too, and ErrRefused if the version was not taken.
func (e *Engine) Reload(snap watch.Snapshot) ([]lua.Problem, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.reload(snap, e.opts)
}

// Use is Reload with other settings, under which the same scripts are a new
// version, too. If they are refused the old settings stay with the old version.
// Of next it takes AllowEmpty, AllowShrink, DelayReject, MaxStates, Budget, NoDrawer, Longest and Filters;
// all else is as NewEngine was told. Lists and what is held back of them stay.
func (e *Engine) Use(snap watch.Snapshot, next Options) ([]lua.Problem, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.reload(snap, e.opts.with(next.settings()))
}

func (e *Engine) reload(snap watch.Snapshot, opts Options) ([]lua.Problem, error) {
	if snap.Err == nil {
		e.shared.lists.see(snap.Files)
		defer e.shared.lists.followAll() // behind prune: a list may go together with the script that named it
	}
	version := Version(snap)
	if snap.Err != nil {
		version = "unreadable: " + snap.Err.Error()
	}
	old := e.current.Load()
	set := opts.settings()
	if version == e.tried.version && set == e.tried.settings && (e.tried.err == nil || snap.Hash == e.tried.hash) && old != nil {
		return e.tried.problems, e.tried.err
	}
	if old != nil && old.Rules.Version == version && set == e.opts.settings() { // a refused one was taken back
		e.tried = tried{version: version, hash: snap.Hash, settings: set}
		e.metrics.failed.Set(0)
		e.metrics.problems.Set(0)
		e.opts.Log.Info("policy as it serves", zap.String("version", version))
		return nil, nil
	}
	start := time.Now()
	p, problems := load(snap, opts, e.shared)
	e.tried = tried{version: version, hash: snap.Hash, settings: set, problems: problems}
	mistakes, warnings := 0, 0
	for _, pr := range problems {
		level := zap.ErrorLevel
		switch {
		case pr.Note:
			continue
		case pr.Warning:
			level = zap.WarnLevel
			warnings++
		default:
			mistakes++
		}
		e.opts.Log.Log(level, "policy problem", zap.String("at", problemPlace(pr)), zap.String("problem", pr.Text), zap.String("line", pr.Source))
	}
	e.metrics.problems.Set(float64(mistakes + warnings))
	if p == nil {
		e.metrics.failed.Set(1)
		e.metrics.reloads.WithLabelValues("refused").Inc()
		serving := "none"
		if old != nil {
			serving = old.Rules.Version
		}
		e.opts.Log.Error("policy refused", zap.String("version", version), zap.Int("problems", mistakes), zap.String("serving", serving))
		e.tried.err = ErrRefused
		return problems, ErrRefused
	}
	e.current.Store(p)
	e.opts = opts
	e.shared.lists.allow(opts.AllowShrink)
	e.shared.lists.prune(p)
	if e.opts.Watch != nil {
		e.opts.Watch(p.zoneNames())
	}
	e.metrics.failed.Set(0)
	e.metrics.loaded.SetToCurrentTime()
	e.metrics.reloads.WithLabelValues("loaded").Inc()
	if old != nil {
		old.pool.close()
	}
	e.opts.Log.Info("policy loaded", zap.String("version", p.Rules.Version), zap.Int("files", len(p.Files)),
		zap.Int("rules", len(p.rules)), zap.Duration("took", time.Since(start)))
	return problems, nil
}

// AcceptLists takes the content of lists that was held back, because it shrank
// or has no file any more, and says what it took.
func (e *Engine) AcceptLists() []ListChange { return e.shared.lists.heldBack(true) }

// HeldLists are the lists whose files say what is not taken.
func (e *Engine) HeldLists() []ListChange { return e.shared.lists.heldBack(false) }

// RipenLists takes what was held back for long enough, where lists may shrink.
// cmd calls it now and then.
func (e *Engine) RipenLists() { e.shared.lists.ripen() }

func problemPlace(p lua.Problem) string {
	p.Text = ""
	s := p.Error()
	for len(s) > 0 && (s[len(s)-1] == ' ' || s[len(s)-1] == ':') {
		s = s[:len(s)-1]
	}
	return s
}
