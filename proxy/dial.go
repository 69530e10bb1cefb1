package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/moongate/moongate/policy"
)

var (
	errBreaker   = errors.New("the last dials failed")
	errGreeting  = errors.New("greeting refused")
	errEHLO      = errors.New("EHLO refused")
	errChatter   = errors.New("upstream speaks unasked")
	errNoForward = errors.New("upstream does not offer XFORWARD to us (smtpd_authorized_xforward_hosts)")
)

// dial connects, reads the greeting, says EHLO and tells the upstream who the
// client is, as far as the identity does that once a connection.
func (h *Hop) dial(ctx context.Context, f *policy.Facts) (*conn, error) {
	until := time.Now().Add(h.connect())
	dctx, cancel := context.WithDeadline(ctx, until)
	defer cancel()
	network, address := "tcp", h.Address
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
	}
	var d net.Dialer
	nc, err := d.DialContext(dctx, network, address)
	if err != nil {
		h.failed(ctx)
		return nil, &HopError{Op: "dial", Reply: hopDown, Err: err}
	}
	c := &conn{hop: h, nc: nc, rd: newLines(nc), born: time.Now(), owner: *f}
	c.poll.watch(nc)
	stop := c.guard(ctx)
	defer stop()
	if err := c.open(ctx, until); err != nil {
		c.destroy()
		return nil, err
	}
	return c, nil
}

// open goes through the opening of a session, RFC 5321 3.1 and 3.2.
func (c *conn) open(ctx context.Context, until time.Time) error {
	if err := c.greeting(ctx, until); err != nil {
		return err
	}
	c.hop.breaker.succeeded()
	if err := c.hello(ctx, c.hop.Hostname); err != nil {
		return err
	}
	if c.hop.Identity == IdentityXForward && !c.caps.Has("XFORWARD") {
		return &HopError{Op: "ehlo", Reply: hopDown, Err: errNoForward}
	}
	// RFC 5321 4.3.1: it must wait for us now. What else it says is no reply
	// to anything.
	if !c.Alive() {
		return &HopError{Op: "ehlo", Reply: hopDown, Err: errChatter}
	}
	c.hop.learn(c.caps)
	return nil
}

// greeting reads the greeting. A Postfix with every smtpd taken accepts the
// connection and never greets: that is told apart, and sooner than the other
// failures.
func (c *conn) greeting(ctx context.Context, until time.Time) error {
	h := c.hop
	r, err := c.read(ctx, min(time.Until(until), h.wait()))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		h.failed(ctx)
		return &HopError{Op: "greeting", Reply: hopBusy, Err: err}
	case err != nil:
		h.failed(ctx)
		return c.lost(ctx, "greeting", err)
	case r.Code != 220:
		h.failed(ctx)
		return &HopError{Op: "greeting", Reply: hopDown, Said: r, Err: errGreeting}
	}
	return nil
}

// hello says EHLO, or HELO to a server that does not know the former, and
// learns the keywords.
func (c *conn) hello(ctx context.Context, name string) error {
	for _, verb := range []string{"EHLO", "HELO"} {
		if !c.Alive() {
			// A second greeting would be taken for the reply.
			return &HopError{Op: "ehlo", Reply: hopDown, Err: errChatter}
		}
		if _, err := fmt.Fprintf(c.deadlined(), "%s %s\r\n", verb, name); err != nil {
			return c.lost(ctx, verb, err)
		}
		r, err := c.read(ctx, c.hop.connect())
		if err != nil {
			return c.lost(ctx, verb, err)
		}
		if r.Code == 250 {
			if c.caps = (&Caps{}); verb == "EHLO" {
				c.caps = parseCaps(r)
			}
			return nil
		}
		if verb == "HELO" || r.Code != 500 && r.Code != 502 && r.Code != 504 {
			return &HopError{Op: "ehlo", Reply: hopDown, Said: r, Err: errEHLO}
		}
	}
	return nil
}

// deadlined returns the socket, ready for a short write.
func (c *conn) deadlined() net.Conn {
	c.nc.SetWriteDeadline(time.Now().Add(c.hop.connect()))
	return c.nc
}

// failed tells the breaker, unless it was the client that went away.
func (h *Hop) failed(ctx context.Context) {
	if ctx.Err() == nil {
		h.breaker.failed()
	}
}

// learn keeps the keywords of the last EHLO reply.
func (h *Hop) learn(c *Caps) {
	old := h.caps.Swap(c)
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
	return o.Remote == f.Remote && o.PTR == f.PTR && o.Helo == f.Helo && o.Proto == f.Proto && o.User == f.User
}
