package proxy

import (
	"context"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/moongate/moongate/policy"
)

// Identity says how the client's identity travels to the upstream.
type Identity uint8

const (
	IdentityNone     Identity = iota // the upstream sees us
	IdentityXForward                 // XFORWARD before every MAIL: the upstream logs the client
	IdentityProxy                    // PROXY v2 in front of the greeting
	IdentityXClient                  // XCLIENT behind EHLO
)

// Knows reports whether the upstream knows the client and judges it itself.
func (i Identity) Knows() bool { return i == IdentityProxy || i == IdentityXClient }

// Hop is an upstream MTA: its address, how it is spoken to, and the
// connections that are open to it. Fields are set before first use.
type Hop struct {
	Address  string // "host:port" or "unix:/path"
	Identity Identity
	Hostname string // our EHLO name

	MaxConns int           // default 80
	Wait     time.Duration // for a free connection and its greeting, together; default 4.5 s
	Connect  time.Duration // default 30 s
	Command  time.Duration // for a reply; default 300 s
	Block    time.Duration // for a write of a body; default 180 s
	Final    time.Duration // for the reply to the final dot; default 360 s

	IdleAfter time.Duration // a connection without a transaction is closed; default 60 s pooled, 5 s with proxy and xclient
	MaxAge    time.Duration // of a pooled connection; default 5 min

	Log     *zap.Logger // nil: none
	Metrics *HopMetrics // nil: nothing is counted

	pool    pool
	breaker breaker
	proven  atomic.Bool // PROXY was understood: see believes
	caps    atomic.Pointer[Caps]
}

// KnowsClient reports whether the upstream judges the client itself, so that
// our relay guard need not.
func (h *Hop) KnowsClient() bool { return h.Identity.Knows() }

// Defaults of the fields.
func (h *Hop) maxConns() int          { return orInt(h.MaxConns, 80) }
func (h *Hop) wait() time.Duration    { return orTime(h.Wait, 4500*time.Millisecond) }
func (h *Hop) connect() time.Duration { return orTime(h.Connect, 30*time.Second) }
func (h *Hop) command() time.Duration { return orTime(h.Command, 300*time.Second) }
func (h *Hop) block() time.Duration   { return orTime(h.Block, 180*time.Second) }
func (h *Hop) final() time.Duration   { return orTime(h.Final, 360*time.Second) }
func (h *Hop) maxAge() time.Duration  { return orTime(h.MaxAge, 5*time.Minute) }

func (h *Hop) idleAfter() time.Duration {
	if h.KnowsClient() {
		return orTime(h.IdleAfter, 5*time.Second)
	}
	return orTime(h.IdleAfter, 60*time.Second)
}

func (h *Hop) log() *zap.Logger {
	if h.Log == nil {
		return zap.NewNop()
	}
	return h.Log
}

func orInt(n, def int) int {
	if n > 0 {
		return n
	}
	return def
}

func orTime(d, def time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return def
}

// Get returns a connection for this client: one that waits, or a new one. It
// waits at most Wait for a free one to come and greet. The error is a *HopError.
func (h *Hop) Get(ctx context.Context, f *policy.Facts) (Upstream, error) {
	patience := time.Now().Add(h.wait())
	for {
		c, err := h.take(ctx, f)
		if err != nil {
			return nil, err
		}
		if c == nil {
			break
		}
		// Of the patience that is left one may take half: a row of them that hang
		// leaves time to dial, and to be greeted.
		if err := c.settle(ctx, time.Until(patience)/2); err == nil && c.Alive() && c.serves(f) {
			h.Metrics.got("reused")
			return c, nil
		}
		h.drop(c) // an idle 421, a restart, or the client has logged in since
	}
	if !h.breaker.allow() {
		h.leave()
		return nil, &HopError{Op: "dial", Reply: h.breaker.refusal(), Err: errBreaker}
	}
	c, err := h.dial(ctx, f, patience)
	if err != nil {
		h.leave()
		h.Metrics.got("failed")
		return nil, err
	}
	h.Metrics.got("dialled")
	return c, nil
}

// Probe dials once, to learn the keywords and to tell the breaker. Call it at
// start; that the upstream cannot be reached then is no reason not to start.
func (h *Hop) Probe(ctx context.Context) error {
	c, err := h.dial(ctx, nil, time.Now().Add(h.wait()))
	if err != nil {
		return err
	}
	c.quit()
	c.destroy()
	return nil
}

// Caps returns the keywords of the last EHLO reply, nil before the first dial.
func (h *Hop) Caps() *Caps { return h.caps.Load() }

// Open reports whether the breaker is open: the last dials or greetings
// failed, and a new client is better told 421 at once. Asking keeps the probes
// going that close it again. While a connection of the pool waits, clients can
// be served: a probe may fail since the pool holds all that the upstream gives.
func (h *Hop) Open() bool {
	if !h.breaker.open() {
		return false
	}
	h.breaker.probe(h.Probe)
	return !h.spare()
}
