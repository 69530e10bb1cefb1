package main

import (
	"context"
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moongate/moongate/configs"
	"github.com/moongate/moongate/proxy"
	"go.uber.org/zap"
)

// house is a running moongate: the rooms, their doors, and the work in the
// background. furnish (wire.go) makes one, open opens its doors, start runs it,
// drain ends it kindly, close at once.
type house struct {
	rooms
	log   *zap.Logger
	cfg   atomic.Pointer[configs.Config] // what runs; replaced by reload
	doors []*door
	asked chan request           // reloads that somebody waits for
	phase atomic.Pointer[string] // why we do not serve; nil: we do

	ctx  context.Context // of the work in the background
	stop context.CancelFunc
	work sync.WaitGroup

	unwatch func()     // ends the watch on the policy directory, and waits for it
	broken  chan error // of a door that has failed

	reopening sync.Mutex // one at a time looks after the doors
}

func (h *house) setPhase(why string) {
	if why == "" {
		h.phase.Store(nil)
		return
	}
	h.phase.Store(&why)
}

// health is what /healthz says.
func (h *house) health() error {
	if why := h.phase.Load(); why != nil {
		return errors.New(*why)
	}
	return errors.Join(h.lost()...)
}

// open opens every door, or none.
func (h *house) open() (problems []configs.Problem) {
	cfg := h.cfg.Load()
	for _, p := range places(cfg) {
		l, err := p.Listen()
		if err != nil {
			problems = append(problems, cfg.Problem(p.table+".address", "`%s.address`: %v", p.table, err))
			continue
		}
		h.doors = append(h.doors, &door{place: p, l: l, serve: h.serverAt(cfg, p)})
	}
	if len(problems) > 0 {
		h.close()
	}
	return problems
}

// serverAt is who answers at a place.
func (h *house) serverAt(cfg *configs.Config, p place) func(net.Listener) error {
	switch p.table {
	case "milter":
		return h.milter.Serve
	case "admin":
		return h.admin.Serve
	}
	return h.frontOf(cfg.Listeners[p.index]).server.Serve
}

// addresses are where the doors stand, with the ports that the system chose.
func (h *house) addresses() []string {
	var all []string
	for _, d := range h.doors {
		a := d.listener().Addr()
		all = append(all, a.Network()+":"+a.String())
	}
	return all
}

// start runs the house. What it sends says that a door has failed.
func (h *house) start(ctx context.Context) <-chan error {
	h.ctx, h.stop = context.WithCancel(ctx)
	h.broken = make(chan error, len(h.doors))
	h.setPhase("") // before the doors are answered: one that fails at once must be noticed
	for _, d := range h.doors {
		l := d.listener()
		h.work.Go(func() { h.answer(d, l) })
	}
	for _, run := range h.background {
		h.work.Go(func() { run(h.ctx) })
	}
	h.work.Go(func() { h.lookAfterDoors(h.ctx) })
	h.watch()
	for _, f := range h.fronts {
		h.probe(f.hop)
	}
	return h.broken
}

// probe learns what the upstream can do before a client asks. That it is not
// up yet is no reason not to start: MAIL hears 451 until it is.
func (h *house) probe(hop *proxy.Hop) {
	if hop.Address == "" {
		return
	}
	h.work.Go(func() {
		if err := hop.Probe(h.ctx); err != nil && h.ctx.Err() == nil {
			h.log.Warn("the upstream cannot be reached yet", zap.Error(err))
		}
	})
}

// watch watches the policy directory of the configuration that runs, instead of
// the one before.
func (h *house) watch() {
	if h.unwatch != nil {
		h.unwatch()
	}
	ctx, cancel := context.WithCancel(h.ctx)
	ended := make(chan struct{})
	cfg := h.cfg.Load()
	h.work.Go(func() {
		defer close(ended)
		watchPolicy(ctx, cfg, h.engine, h.log)
	})
	h.unwatch = func() { cancel(); <-ended }
}

// drain stops accepting, says 421 to idle clients, gives open transactions
// timeouts.drain, and closes what is left. A second signal closes at once.
func (h *house) drain(ctx context.Context, signals <-chan os.Signal) {
	h.setPhase("draining")
	limit := h.cfg.Load().Timeouts.Drain
	h.log.Info("draining", zap.Int("sessions", h.sessions()), zap.Duration("limit", limit))
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), limit)
	defer cancel()
	done := make(chan struct{})
	go func() { // ends with Shutdown, at the latest when ctx does
		defer close(done)
		var all sync.WaitGroup
		for _, f := range h.fronts {
			all.Go(func() { f.server.Shutdown(ctx) })
		}
		all.Go(func() { h.milter.Shutdown(ctx) })
		all.Wait()
	}()
	alive := watchdog()
	for {
		select {
		case <-alive:
			notify("WATCHDOG=1")
		case <-done:
			h.log.Info("stopped", zap.Bool("in_time", ctx.Err() == nil))
			return
		case r := <-h.asked:
			r.done <- answer{err: errDraining}
		case <-signals:
			h.log.Warn("closing at once")
			cancel()
			signals = nil
		}
	}
}

// close ends all that is still there and waits for it.
func (h *house) close() {
	h.setPhase("stopped")
	for _, f := range h.fronts {
		f.close()
	}
	h.milter.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	h.admin.Shutdown(ctx)
	for _, d := range h.doors { // those that nobody serves yet
		d.listener().Close()
	}
	if h.stop != nil {
		h.stop()
		h.unwatch()
	}
	h.work.Wait()
	h.world.Close()
}
