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
	errRefused   = errors.New("upstream refused the client")
	errNoProxy   = errors.New("upstream does not understand PROXY (smtpd_upstream_proxy_protocol = haproxy)")
	errNoForward = errors.New("upstream does not offer XFORWARD to us (smtpd_authorized_xforward_hosts)")
)

// dial connects, reads the greeting, says EHLO and tells the upstream who the
// client is, as far as the identity does that once a connection. f is nil for
// a probe. patience is when the greeting must be here.
func (h *Hop) dial(ctx context.Context, f *policy.Facts, patience time.Time) (*conn, error) {
	dctx, cancel := context.WithTimeout(ctx, h.connect())
	defer cancel()
	network, address := "tcp", h.Address
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
	}
	var d net.Dialer
	nc, err := d.DialContext(dctx, network, address)
	if err != nil {
		h.failed(ctx, err)
		return nil, &HopError{Op: "dial", Reply: hopDown, Err: err}
	}
	c := &conn{hop: h, nc: nc, rd: newLines(nc), born: time.Now()}
	if f != nil {
		c.owner = *f
	}
	c.poll.watch(nc)
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
		return &HopError{Op: "ehlo", Reply: hopDown, Err: errChatter}
	}
	h.learn(c.caps)
	return nil
}

// sendProxy writes the PROXY header. Whether it was understood shows in what
// follows: an smtpd that expects none takes it for commands, and answers 500
// before it answers EHLO.
func (c *conn) sendProxy(ctx context.Context, f *policy.Facts) error {
	header, err := proxyHeader(f)
	if err != nil {
		return &HopError{Op: "proxy", Reply: hopDown, Err: err}
	}
	if _, err := c.deadlined().Write(header); err != nil {
		c.hop.failed(ctx, err)
		return c.lost(ctx, "proxy", err)
	}
	return nil
}

// xclient tells who the client is. The upstream answers with a new greeting,
// and wants to hear EHLO again.
func (c *conn) xclient(ctx context.Context, f *policy.Facts) error {
	offered, ok := c.caps.Arg("XCLIENT")
	if !ok {
		return &HopError{Op: "xclient", Reply: hopDown, Err: errNoXClient}
	}
	if f == nil {
		return nil // a probe is content to see it offered
	}
	arg, err := xclientArg(f, offered)
	if err != nil {
		return &HopError{Op: "xclient", Reply: hopDown, Err: err}
	}
	if !c.Alive() {
		return &HopError{Op: "xclient", Reply: hopDown, Err: errChatter}
	}
	if _, err := fmt.Fprintf(c.deadlined(), "XCLIENT %s\r\n", arg); err != nil {
		return c.lost(ctx, "xclient", err)
	}
	r, err := c.read(ctx, c.hop.connect())
	switch {
	case err != nil:
		return c.lost(ctx, "xclient", err)
	case r.Code == 220:
		return c.hello(ctx, heloName(f, c.hop.Hostname), true)
	case r.Refuses() && !xclientFault(r):
		return verdict("xclient", r)
	}
	return &HopError{Op: "xclient", Reply: hopDown, Said: r, Err: errXClient}
}

// greeting reads the greeting. A Postfix with every smtpd taken accepts the
// connection and never greets: that is told apart, and sooner than the other
// failures.
func (c *conn) greeting(ctx context.Context, patience time.Time, knows bool) error {
	h := c.hop
	r, err := c.read(ctx, min(time.Until(patience), h.connect()))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		h.noGreeting(ctx, err, knows)
		return &HopError{Op: "greeting", Reply: hopBusy, Err: err}
	case err != nil:
		h.noGreeting(ctx, err, knows)
		return c.lost(ctx, "greeting", err)
	case r.Code == 220:
		return nil
	case knows && r.Refuses():
		h.answered() // it lives; it does not want this client
		return verdict("greeting", r)
	}
	err = &HopError{Op: "greeting", Reply: hopDown, Said: r, Err: errGreeting}
	h.failed(ctx, err)
	return err
}

// verdict makes an error of the upstream's refusal of a client that it knows:
// the client hears it at MAIL, word for word.
func verdict(op string, r policy.Reply) error {
	return &HopError{Op: op, Reply: r, Said: r, Err: errRefused, Verdict: true}
}

// hello says EHLO, or HELO to a server that does not know the former, and
// learns the keywords.
func (c *conn) hello(ctx context.Context, name string, knows bool) error {
	for _, verb := range []string{"EHLO", "HELO"} {
		if !c.Alive() {
			// A second greeting would be taken for the reply.
			return &HopError{Op: "ehlo", Reply: hopDown, Err: errChatter}
		}
		if _, err := fmt.Fprintf(c.deadlined(), "%s %s\r\n", verb, name); err != nil {
			return c.lost(ctx, verb, err)
		}
		r, err := c.read(ctx, c.hop.connect())
		switch {
		case err != nil:
			return c.lost(ctx, verb, err)
		case r.Code == 250:
			if c.caps = (&Caps{}); verb == "EHLO" {
				c.caps = parseCaps(r)
			}
			return nil
		case c.hop.Identity == IdentityProxy && r.Code == 500:
			return &HopError{Op: "proxy", Reply: hopDown, Said: r, Err: errNoProxy}
		case knows && r.Refuses() && !ourFault(r.Code):
			return verdict("ehlo", r)
		case verb == "HELO" || r.Code != 500 && r.Code != 502 && r.Code != 504:
			return &HopError{Op: "ehlo", Reply: hopDown, Said: r, Err: errEHLO}
		}
	}
	return nil
}

// heloName is the name that an upstream which knows the client hears in EHLO:
// the client's. What could not stand in a command, and no name at all, is
// ours.
func heloName(f *policy.Facts, ours string) string {
	if f.Helo == "" || len(f.Helo) > maxXValue {
		return ours
	}
	for i := 0; i < len(f.Helo); i++ {
		if f.Helo[i] <= ' ' || f.Helo[i] > '~' {
			return ours
		}
	}
	return f.Helo
}

// deadlined returns the socket, ready for a short write.
func (c *conn) deadlined() net.Conn {
	c.nc.SetWriteDeadline(time.Now().Add(c.hop.connect()))
	return c.nc
}

// failed tells the breaker, unless it was the client that went away.
func (h *Hop) failed(ctx context.Context, err error) {
	if ctx.Err() == nil && h.breaker.failed() {
		h.Metrics.up(false)
		h.log().Warn("upstream down", zap.String("upstream", h.Address), zap.Error(err))
	}
}

// noGreeting is an upstream that accepted the connection and no more. If it was
// told who the client is, that may be the reason (a name server of his that
// never answers, an address family that it does not have), and a client must
// not be able to open the breaker for all others: a probe in our own name has
// to find the same.
func (h *Hop) noGreeting(ctx context.Context, err error, knows bool) {
	if !knows {
		h.failed(ctx, err)
	} else if ctx.Err() == nil {
		h.breaker.probe(h.Probe)
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
