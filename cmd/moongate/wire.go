package main

import (
	"context"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/moongate/moongate/configs"
	"github.com/moongate/moongate/internal/admin"
	"github.com/moongate/moongate/internal/logsink"
	"github.com/moongate/moongate/milter"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/message"
	"github.com/moongate/moongate/policy/script"
	"github.com/moongate/moongate/policy/state"
	"github.com/moongate/moongate/proxy"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// rooms are what a house is furnished with.
type rooms struct {
	proxy        *proxy.Server // of fronts[0]
	fronts       []*front
	milter       *milter.Server
	admin        *admin.Server
	engine       *script.Engine
	world        *world
	keeper       policy.Keeper // nil without [quarantine]
	spool        *message.Pool
	counts       *policy.Metrics
	hopCounts    *proxy.HopMetrics
	filterCounts *milter.Metrics
	registry     *prometheus.Registry
	reloads      *reloadMetrics
	out          *logsink.Sink
	background   []func(context.Context) // each runs until its context is done
}

// storeBytes is the memory that limits, counters and caches may take.
const storeBytes = 128 << 20

// furnish makes the rooms out of a configuration. It opens no socket and
// starts nothing; an error is a matter of the configuration.
func furnish(cfg *configs.Config, log *zap.Logger, out *logsink.Sink) (*house, error) {
	h := &house{log: log, asked: make(chan request)}
	h.cfg.Store(cfg)
	h.setPhase("starting")
	h.out = out
	h.registry, h.reloads = newRegistry(out)
	h.counts = policy.NewMetrics(h.registry)
	h.hopCounts, h.filterCounts = proxy.NewHopMetrics(h.registry), milter.NewMetrics(h.registry)

	store := state.New(storeBytes)
	h.background = append(h.background, shrink, func(ctx context.Context) { sweep(ctx, store) })
	if len(cfg.Listeners) == 0 {
		h.background = append(h.background, roster)
	}
	h.world = newWorld(cfg.DNS.Servers, store, log.Named("lookup"), h.registry)
	h.spool = &message.Pool{MaxMemory: int64(cfg.Limits.Memory), MaxBytes: int64(cfg.Limits.Spool)}
	keeper, wrong := drawer(cfg)
	if len(wrong) > 0 {
		return nil, wrong[0]
	}
	h.keeper = keeper
	options := scriptOptions(cfg, log)
	options.Watch = h.world.Watch
	h.engine = script.NewEngine(options, h.registry)
	if problems, err := h.engine.Reload(snapshot(cfg)); err != nil {
		return nil, &policyError{problems, cfg.Policy.Scripts}
	}
	h.makeFronts(cfg)
	h.milter = &milter.Server{
		Env: h.env(cfg, policy.Milter), Name: "milter", Pool: h.spool, MaxHeader: int(cfg.Limits.Header),
		MaxRcpts: cfg.Limits.Recipients, Connections: crowdOf(cfg, openFiles()).mtas, Stranger: h.stranger, Metrics: h.filterCounts,
	}
	h.admin = admin.New(h.health, h.registry)
	h.admin.Reload = h.askReload
	return h, nil
}

// env is what the sessions of one front-end share.
func (h *house) env(cfg *configs.Config, face *policy.Face) *policy.Env {
	env := &policy.Env{
		Engine: h.engine, Face: face, World: h.world, Metrics: h.counts, Keeper: h.keeper,
		Log:        h.log.Named(face.Name),
		SoftBounce: cfg.Policy.SoftBounce, Footer: cfg.Policy.ReplyFooter,
		HookTime: cfg.Timeouts.Hook, MessageTime: cfg.Timeouts.Message,
		Quiet: quiet(cfg.Log.Quiet),
	}
	if face == policy.SMTP { // an MTA that asks us has its own filters
		env.Filters = h.filters(cfg)
	}
	return env
}

// onErrors are the words of filter.on_error.
var onErrors = map[string]policy.Action{"tempfail": policy.Tempfail, "accept": policy.Accept, "reject": policy.Reject}

// filters are the milters that the door calls.
func (h *house) filters(cfg *configs.Config) (all []policy.Filter) {
	for _, f := range cfg.Filters {
		name := f.Name
		if name == "" {
			name = string(f.Address)
		}
		all = append(all, &milter.Filter{
			Label: f.Name, Address: string(f.Address), Hostname: cfg.Hostname,
			Sign: f.Phase == "sign", OnError: onErrors[f.OnError], Shadow: f.Mode == "shadow",
			When:        func(s *policy.Session) bool { return !slices.Contains(s.Tx.Skip, name) },
			MaxAnswer:   int64(cfg.Limits.Size) + int64(cfg.Limits.Header), // a message, at most
			MaxHeader:   int(cfg.Limits.Header),
			ConnectTime: f.Connect, CommandTime: f.Command, EndTime: f.End, Metrics: h.filterCounts,
		})
	}
	return all
}

// quiet tells the clients that nobody wants to read of.
func quiet(networks []netip.Prefix) func(netip.Addr) bool {
	return func(a netip.Addr) bool {
		return slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(a) })
	}
}

// settings are those of the SMTP door at a listener.
func (h *house) settings(cfg *configs.Config, hop *proxy.Hop, l configs.Listener) proxy.Settings {
	crowd := crowdOf(cfg, openFiles())
	return proxy.Settings{
		Hostname: cfg.Hostname, Env: h.frontEnv(cfg, l), Hop: hop, Spool: h.spool,
		Domains: cfg.Domains, Networks: cfg.Networks, XForward: l.XForward, Budget: l.Wait(),
		RejectBare: cfg.BareNewline == "reject", Received: cfg.Received,
		HoldMail: cfg.Upstream.Mail == "rcpt", PTR: h.ptr,
		Limits: proxy.Limits{
			Size: int64(cfg.Limits.Size), Recipients: cfg.Limits.Recipients,
			Header: int(cfg.Limits.Header), Line: int(cfg.Limits.Line), Errors: cfg.Limits.Errors,
			Connections: crowd.clients, PerNetwork: cfg.Limits.PerNetwork, Turned: crowd.turned,
		},
		Timeouts: proxy.Timeouts{Idle: cfg.Timeouts.Idle, Data: cfg.Timeouts.Data},
	}
}

// identities are the words of upstream.identity.
var identities = map[string]proxy.Identity{
	"none": proxy.IdentityNone, "xforward": proxy.IdentityXForward,
	"proxy": proxy.IdentityProxy, "xclient": proxy.IdentityXClient,
}

// hop is the upstream. Who waits no longer than the budget for the answer to a
// message waits no longer for any other. What is left of the budget bounds all
// that comes behind a message, its final reply too.
func (h *house) hop(cfg *configs.Config, l configs.Listener) *proxy.Hop {
	return &proxy.Hop{
		Address: string(cfg.Upstream.Address), Identity: identities[cfg.Upstream.Identity], Hostname: cfg.Hostname,
		MaxConns: cfg.Upstream.MaxConnections, IdleAfter: cfg.Upstream.Idle,
		Connect: min(cfg.Timeouts.Connect, l.Wait()), Command: min(cfg.Timeouts.Command, l.Wait()),
		Block: cfg.Timeouts.Block, Final: cfg.Timeouts.Final,
		Log: h.log.Named("upstream"), Metrics: h.hopCounts,
	}
}

// ptr is the client's forward-confirmed name; temporary says that it could not
// be looked up now.
func (h *house) ptr(ctx context.Context, a netip.Addr) (name string, temporary bool) {
	name, err := h.world.PTR(ctx, a)
	return name, err != nil
}

// stranger reports a client that is neither loopback nor in networks.
func (h *house) stranger(a netip.Addr) bool {
	a = a.Unmap()
	if a.IsLoopback() {
		return false
	}
	for _, n := range h.cfg.Load().Networks {
		if n.Contains(a) {
			return false
		}
	}
	return true
}

// sweep frees what has expired, also of keys that nobody asks for again.
func sweep(ctx context.Context, store *state.Memory) {
	tick := time.NewTicker(time.Minute)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			store.Sweep(now)
		}
	}
}

func addresses(list []configs.Address) []string {
	all := make([]string, len(list))
	for i, a := range list {
		all[i] = string(a)
	}
	return all
}

func logOptions(cfg *configs.Config, stderr io.Writer) logsink.Options {
	return logsink.Options{Out: stderr, Text: cfg.Log.Format == "text", Level: level(cfg)}
}

// level is log.level; the words are zap's own, which configs has checked.
func level(cfg *configs.Config) zapcore.Level {
	l, err := zapcore.ParseLevel(cfg.Log.Level)
	if err != nil {
		return zapcore.InfoLevel
	}
	return l
}
