package main

import (
	"github.com/moongate/moongate/configs"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/script"
	"go.uber.org/zap"
)

// reload takes over the configuration as the file has it now: all of it, or
// nothing. What goes wrong is logged, one line a problem, and what runs goes
// on running.
func (h *house) reload(path string) {
	running := h.cfg.Load()
	next, problems := configs.Load(path)
	if len(problems) == 0 {
		problems = running.NeedsRestart(next)
	}
	for _, p := range problems {
		h.log.Error("reload refused", zap.String("problem", p.Error()), zap.String("line", p.Source))
	}
	if len(problems) > 0 {
		h.reloads.refused()
		return
	}
	if !h.takePolicy(next) {
		h.reloads.refused()
		return
	}
	h.use(next)
	h.reloads.taken()
	h.log.Info("reloaded", zap.String("config", path))
}

// takePolicy loads the policy that a configuration names. It is loaded once to
// see whether it can be, and then by the engine: the engine does not look twice
// at a version that it has refused, and here silence would pass for consent.
func (h *house) takePolicy(next *configs.Config) bool {
	snap := snapshot(next)
	p, problems := script.Load(snap, scriptOptions(next, h.log))
	if p == nil {
		for _, problem := range problems {
			problem = placed(problem, next.Policy.Scripts)
			h.log.Error("reload refused", zap.String("problem", problem.Error()), zap.String("line", problem.Source))
		}
		return false
	}
	_, err := h.engine.Reload(snap)
	return err == nil
}

// use puts a configuration to work whose every part is there already: it
// cannot fail. Sessions that run keep what they began with.
func (h *house) use(next *configs.Config) {
	running := h.cfg.Load()
	for _, f := range h.fronts {
		if hop := f.use(h, running, next); hop != nil {
			h.probe(hop)
		}
	}
	h.milter.Use(h.env(next, policy.Milter))
	h.out.Level.SetLevel(level(next))
	h.cfg.Store(next)
	if running.Policy.Scripts != next.Policy.Scripts {
		h.watch()
	}
}

// upstreamChanged reports whether connections made by the one configuration
// are wrong for the other.
func upstreamChanged(a, b *configs.Config) bool {
	return a.Upstream != b.Upstream || a.Hostname != b.Hostname || a.Timeouts != b.Timeouts
}
