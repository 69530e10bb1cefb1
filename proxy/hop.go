package proxy

import (
	"context"
	"errors"
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

// Hop is an upstream MTA: its address, how it is spoken to, and the
// connections that are open to it. Fields are set before first use.
type Hop struct {
	Address  string // "host:port" or "unix:/path"
	Identity Identity
	Hostname string // our EHLO name

	MaxConns int           // default 80
	Wait     time.Duration // for a free connection, and for a greeting; default 5 s
	Connect  time.Duration // default 30 s
	Command  time.Duration // for a reply; default 300 s
	Block    time.Duration // for a write of a body; default 180 s
	Final    time.Duration // for the reply to the final dot; default 360 s

	IdleAfter time.Duration // a connection without a transaction is closed; default 60 s pooled, 5 s with proxy and xclient
	MaxAge    time.Duration // of a pooled connection; default 5 min

	Log     *zap.Logger // nil: none
	Metrics *HopMetrics // nil: nothing is counted
}

// KnowsClient reports whether the upstream judges the client itself, so that
// our relay guard need not.
func (h *Hop) KnowsClient() bool {
	return h.Identity == IdentityProxy || h.Identity == IdentityXClient
}

// HopMetrics counts what the hops do.
type HopMetrics struct{}

var errNotYet = errors.New("not dialled")

// Get returns a connection for this client: one from the pool, or a new one.
// The error is a *HopError.
func (h *Hop) Get(ctx context.Context, f *policy.Facts) (Upstream, error) {
	return nil, &HopError{Op: "dial", Reply: hopDown, Err: errNotYet}
}

// Probe dials once, to learn the keywords. ServeConn does not wait for it.
func (h *Hop) Probe(ctx context.Context) error { return errNotYet }

// Caps returns the keywords of the last EHLO reply, nil before the first dial.
func (h *Hop) Caps() *Caps { return nil }

// Open reports whether the breaker is open: the last dials or greetings
// failed, and a new client should hear 421 at once.
func (h *Hop) Open() bool { return false }

// Forget closes the connection kept for that session, if there is one. Called
// when a session ends.
func (h *Hop) Forget(sessionID string) {}

// Close closes the idle connections; those in use are closed when they are
// returned.
func (h *Hop) Close() error { return nil }
