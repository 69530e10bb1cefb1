package main

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moongate/moongate/configs"
	"github.com/moongate/moongate/internal/lookup"
	"github.com/moongate/moongate/policy"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// world is the live world, which a reload may exchange for one that asks other
// DNS servers. Limits and counters stay; cached answers do not, since the other
// servers may see another world. It is safe for concurrent use.
type world struct {
	store  policy.Store
	log    *zap.Logger
	counts *tenant
	now    atomic.Pointer[lookup.World]

	mu    sync.Mutex // of Watch and Use
	zones []string   // that the policy declares
}

var _ policy.World = (*world)(nil)

func newWorld(servers []configs.Address, store policy.Store, log *zap.Logger, reg prometheus.Registerer) *world {
	w := &world{store: store, log: log, counts: &tenant{Registerer: reg}}
	w.now.Store(w.make(servers))
	return w
}

func (w *world) make(servers []configs.Address) *lookup.World {
	return lookup.New(lookup.Options{Servers: addresses(servers), Store: w.store, Log: w.log, Metrics: w.counts})
}

// Use asks these servers from now on. A question that is under way is answered
// by those it went to; a DNS list whose first check is not done is temporary.
func (w *world) Use(servers []configs.Address) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.counts.leave()
	next := w.make(servers)
	next.Watch(w.zones)
	w.now.Swap(next).Close()
}

// Watch says which DNS lists the policy declares now.
func (w *world) Watch(zones []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.zones = slices.Clone(zones)
	w.now.Load().Watch(w.zones)
}

func (w *world) Now() time.Time       { return w.now.Load().Now() }
func (w *world) Limits() policy.Store { return w.store }
func (w *world) PTR(ctx context.Context, a netip.Addr) (string, error) {
	return w.now.Load().PTR(ctx, a)
}
func (w *world) Lookup(ctx context.Context, q policy.Query) (policy.Answer, error) {
	return w.now.Load().Lookup(ctx, q)
}
func (w *world) Close() error { return w.now.Load().Close() }

// tenant remembers what one room registers, so that the next may count under
// the same names: for Prometheus the counters begin anew, as at a restart.
type tenant struct {
	prometheus.Registerer
	mine []prometheus.Collector
}

func (t *tenant) MustRegister(all ...prometheus.Collector) {
	t.Registerer.MustRegister(all...)
	t.mine = append(t.mine, all...)
}

func (t *tenant) leave() {
	for _, c := range t.mine {
		t.Unregister(c)
	}
	t.mine = nil
}
