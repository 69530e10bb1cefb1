package main

import (
	"time"

	"github.com/moongate/moongate/configs"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/proxy"
)

// front is an SMTP door with settings of its own. Listeners that say nothing
// special share the first one, and so its limits and its upstream connections;
// one with xforward or a budget has a front to itself.
type front struct {
	listener configs.Listener // what it says of xforward and budget
	server   *proxy.Server
	hop      *proxy.Hop
	retired  []*proxy.Hop // of configurations before
}

// special reports a listener that needs a front to itself.
func special(l configs.Listener) bool {
	return len(l.XForward) > 0 || l.Wait() != configs.FullBudget
}

// makeFronts makes the common front and those of special listeners.
func (h *house) makeFronts(cfg *configs.Config) {
	metrics := proxy.NewMetrics(h.registry)
	add := func(l configs.Listener) *front {
		f := &front{listener: l, hop: h.hop(cfg, l)}
		f.server = &proxy.Server{Settings: h.settings(cfg, f.hop, l), Log: h.log.Named("smtp"), Metrics: metrics}
		h.fronts = append(h.fronts, f)
		return f
	}
	h.proxy = add(configs.Listener{}).server
	for _, l := range cfg.Listeners {
		if special(l) {
			add(l)
		}
	}
}

// frontOf is who serves a listener.
func (h *house) frontOf(l configs.Listener) *front {
	for _, f := range h.fronts[1:] {
		if f.listener.Address == l.Address {
			return f
		}
	}
	return h.fronts[0]
}

// use gives a front another configuration. If the upstream changed it gets
// another hop, which is returned; sessions that began with the one before keep
// it to their end, and its idle connections retire by themselves.
func (f *front) use(h *house, running, next *configs.Config) (fresh *proxy.Hop) {
	if upstreamChanged(running, next) {
		f.retired = append(f.retired, f.hop)
		f.hop = h.hop(next, f.listener)
		fresh = f.hop
	}
	f.server.Use(h.settings(next, f.hop, f.listener))
	return fresh
}

// sessions counts those of all fronts.
func (h *house) sessions() (n int) {
	for _, f := range h.fronts {
		n += f.server.Sessions()
	}
	return n
}

func (f *front) close() {
	f.server.Close()
	for _, hop := range append(f.retired, f.hop) {
		hop.Close()
	}
}

// within shortens a time by as much as a listener's budget is shorter than the
// full one: rules get their share, and the rest is for the upstream.
func within(l configs.Listener, d time.Duration) time.Duration {
	if l.Wait() >= configs.FullBudget {
		return d
	}
	return time.Duration(float64(d) * float64(l.Wait()) / float64(configs.FullBudget))
}

// frontEnv is env for a listener: its budget scales what the last stage takes.
func (h *house) frontEnv(cfg *configs.Config, l configs.Listener) *policy.Env {
	env := h.env(cfg, policy.SMTP)
	env.MessageTime = within(l, cfg.Timeouts.Message)
	env.AllTime = within(l, policy.MessageStage)
	return env
}
