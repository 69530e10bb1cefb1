package lookup

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/maypok86/otter/v2"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"golang.org/x/sync/singleflight"

	"github.com/moongate/moongate/policy"
)

// ErrTemporary is what an answer is when nobody could be asked in time or the
// server is in trouble. A rule sees `nil, "temporary"`.
var ErrTemporary = errors.New("temporary")

// Options of a World. The zero value asks the servers of the system.
type Options struct {
	Servers []string      // DNS servers as host:port, asked in turn; empty means the system's
	Timeout time.Duration // of one query; default 1.5 s
	Store   policy.Store
	Log     *zap.Logger
	Metrics prometheus.Registerer // nil: nothing is counted
}

// How long answers are kept, how many, and how many queries are under way at
// once: a session that waits for a place waits within its own deadline.
const (
	keepFound   = 300 * time.Second
	keepEmpty   = 60 * time.Second
	keepTrouble = 5 * time.Second
	maxCached   = 100_000
	maxInFlight = 256
)

// World is the live world. It is safe for concurrent use.
type World struct {
	resolver *net.Resolver
	timeout  time.Duration
	store    policy.Store
	log      *zap.Logger
	cache    *otter.Cache[string, cached]
	flight   singleflight.Group
	places   chan struct{}
	zones    zones
	queries  *prometheus.CounterVec
}

// cached is an answer or its error, and when it ends.
type cached struct {
	answer policy.Answer
	err    error
}

var _ policy.World = (*World)(nil)

// New makes a World. It starts nothing; Close ends what Watch starts.
func New(o Options) *World {
	w := &World{
		timeout: o.Timeout,
		store:   o.Store,
		log:     o.Log,
		places:  make(chan struct{}, maxInFlight),
		queries: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "moongate_lookups_total",
			Help: "Questions to the outside, by service and result (found, empty, trouble, cached)."}, []string{"service", "result"}),
		cache: otter.Must(&otter.Options[string, cached]{
			MaximumSize: maxCached,
			ExpiryCalculator: otter.ExpiryWritingFunc(func(e otter.Entry[string, cached]) time.Duration {
				return lifetime(e.Value)
			}),
		}),
	}
	if w.timeout <= 0 {
		w.timeout = 1500 * time.Millisecond
	}
	if w.log == nil {
		w.log = zap.NewNop()
	}
	if o.Metrics != nil {
		o.Metrics.MustRegister(w.queries)
	}
	w.resolver = newResolver(o.Servers, w.timeout)
	w.zones.init(w.records, 2*w.timeout, w.log, o.Metrics)
	return w
}

func lifetime(c cached) time.Duration {
	switch {
	case c.err != nil:
		return keepTrouble
	case len(c.answer.Values) == 0:
		return keepEmpty
	}
	return keepFound
}

// Now is the wall clock.
func (w *World) Now() time.Time { return time.Now() }

// Limits is the store of limits, counters and caches.
func (w *World) Limits() policy.Store { return w.store }

// Lookup answers a question, from the cache if it can. It returns within the
// timeout of a query or when ctx ends, whichever is first.
func (w *World) Lookup(ctx context.Context, q policy.Query) (policy.Answer, error) {
	var ask func(context.Context, policy.Query) (policy.Answer, error)
	switch q.Service {
	case "dns":
		ask = w.dns
	case "dnsbl":
		if err := w.zones.usable(ctx, q.Type); err != nil {
			return policy.Answer{}, err
		}
		ask = w.dnsbl
	default:
		return policy.Answer{}, fmt.Errorf("there is no service %q", q.Service)
	}
	key := q.Service + " " + q.Type + " " + q.Name
	if c, ok := w.cache.GetIfPresent(key); ok {
		w.queries.WithLabelValues(q.Service, "cached").Inc()
		return c.answer, c.err
	}
	if ctx.Err() != nil { // who cannot wait for the answer does not make others wait
		return policy.Answer{}, ErrTemporary
	}
	result := w.flight.DoChan(key, func() (any, error) {
		c := w.query(ask, q)
		w.cache.Set(key, c)
		return c, nil
	})
	select {
	case r := <-result:
		c := r.Val.(cached)
		return c.answer, c.err
	case <-ctx.Done():
		return policy.Answer{}, ErrTemporary
	}
}

// query asks once, with a place and a deadline of its own: the caller that
// began it may go, others may wait for the same answer.
func (w *World) query(ask func(context.Context, policy.Query) (policy.Answer, error), q policy.Query) cached {
	ctx, cancel := context.WithTimeout(context.Background(), w.timeout)
	defer cancel()
	select {
	case w.places <- struct{}{}:
		defer func() { <-w.places }()
	case <-ctx.Done():
		w.queries.WithLabelValues(q.Service, "trouble").Inc()
		return cached{err: ErrTemporary}
	}
	answer, err := ask(ctx, q)
	result := "found"
	switch {
	case err != nil:
		result = "trouble"
	case len(answer.Values) == 0:
		result = "empty"
	}
	w.queries.WithLabelValues(q.Service, result).Inc()
	return cached{answer, err}
}

// Close ends the watch on DNS lists. Queries under way end by their deadlines.
func (w *World) Close() error {
	w.zones.close()
	w.cache.StopAllGoroutines()
	return nil
}
