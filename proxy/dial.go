package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"go.uber.org/zap"

	"github.com/moongate/moongate/internal/socket"
	"github.com/moongate/moongate/policy"
)

var (
	errBreaker   = errors.New("the last dials failed")
	errNoAnswer  = errors.New("no connection (every smtpd is taken, and more wait than it lets wait?)")
	errNoForward = errors.New("upstream does not offer XFORWARD to us (smtpd_authorized_xforward_hosts)")
)

// dial connects, reads the greeting, says EHLO and tells the upstream who the
// client is, as far as the identity does that once a connection. f is nil for
// a probe. patience is when the greeting must be here.
func (h *Hop) dial(ctx context.Context, f *policy.Facts, patience time.Time) (*conn, error) {
	until := time.Now().Add(h.connect())
	if patience.Before(until) {
		until = patience
	}
	dctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	network, address := "tcp", h.Address
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
	}
	d := net.Dialer{KeepAlive: -1} // each wait has its deadline; a session is too short for probes
	nc, err := d.DialContext(dctx, network, address)
	if err != nil {
		reply := hopDown
		if until == patience && timedOut(err) || errors.Is(err, syscall.EAGAIN) { // EAGAIN: a unix socket does not wait
			reply, err = hopBusy, fmt.Errorf("%w: %w", errNoAnswer, err)
		}
		h.failed(ctx, err)
		return nil, &HopError{Op: "dial", Reply: reply, Err: err}
	}
	nc = socket.New(nc)
	c := &conn{hop: h, nc: nc, rd: newLines(nc), born: time.Now()}
	if f != nil {
		c.owner = *f
	}
	c.peer = socket.PeerOf(nc)
	stop := c.guard(ctx)
	defer stop()
	if err := c.open(ctx, f, patience); err != nil {
		c.destroy()
		return nil, err
	}
	return c, nil
}

// open goes through the opening of a session (RFC 5321 3.1 and 3.2) in the
// order PROXY, greeting, EHLO, XCLIENT, EHLO. The identity is proven here: an
// upstream that did not understand who the client is never hears MAIL.
func (c *conn) open(ctx context.Context, f *policy.Facts, patience time.Time) error {
	h := c.hop
	knows := false // the upstream knows the client: what it refuses, it refuses him
	if h.Identity == IdentityProxy {
		if err := c.sendProxy(ctx, f); err != nil {
			return err
		}
		knows = f != nil
	}
	if err := c.greeting(ctx, patience, knows); err != nil {
		return err
	}
	h.answered()
	name := h.Hostname
	if knows {
		name = heloName(f, name)
	}
	if err := c.hello(ctx, name, knows); err != nil {
		return err
	}
	if h.Identity == IdentityXForward && !c.caps.Has("XFORWARD") {
		return &HopError{Op: "ehlo", Reply: hopDown, Err: errNoForward}
	}
	if h.Identity == IdentityXClient {
		if err := c.xclient(ctx, f); err != nil {
			return err
		}
	}
	// RFC 5321 4.3.1: it must wait for us now. What else it says is no reply
	// to anything.
	if !c.Alive() {
		return c.chatter(ctx, "ehlo")
	}
	h.proven.Store(true)
	h.learn(c.caps)
	return nil
}

// timedOut reports whether the upstream's host was silent, and not the DNS.
func timedOut(err error) bool {
	var ne net.Error
	var de *net.DNSError
	return errors.As(err, &ne) && ne.Timeout() && !errors.As(err, &de)
}

// failed tells the breaker, unless it was the client that went away.
func (h *Hop) failed(ctx context.Context, err error) {
	busy := errors.Is(err, errNoAnswer) || errors.Is(err, errNoGreeting) || errors.Is(err, errNoGreetingP)
	if ctx.Err() == nil && h.breaker.failed(busy) {
		h.Metrics.up(false)
		h.log().Warn("upstream down", zap.String("upstream", h.Address), zap.Error(err))
	}
}

// answered tells the breaker that the upstream greets.
func (h *Hop) answered() {
	if h.breaker.succeeded() {
		h.Metrics.up(true)
		h.log().Info("upstream up again", zap.String("upstream", h.Address))
	}
}

// learn keeps the keywords of the last EHLO reply.
func (h *Hop) learn(c *Caps) {
	old := h.caps.Swap(c)
	if old == c {
		return
	}
	if old == nil || !slices.Equal(old.Lines(), c.Lines()) {
		h.log().Info("upstream keywords", zap.String("upstream", h.Address), zap.Strings("keywords", c.Lines()))
	}
}

// serves reports whether a connection that waited for this session still tells
// the truth about it: a new HELO or a login since then wants a new one.
func (c *conn) serves(f *policy.Facts) bool {
	if !c.hop.KnowsClient() {
		return true
	}
	o := &c.owner
	return o.Remote == f.Remote && o.PTR == f.PTR && o.PTRTemp == f.PTRTemp && o.Helo == f.Helo && o.Proto == f.Proto && o.User == f.User
}
