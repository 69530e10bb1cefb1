package proxy

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/moongate/moongate/policy"
)

var (
	errGreeting    = errors.New("greeting refused")
	errUnproven    = errors.New("refused, and no dial has shown yet that it understands PROXY")
	errNoGreeting  = errors.New("no greeting (every smtpd is taken?)")
	errNoGreetingP = errors.New("no greeting (every smtpd is taken, or it waits for a PROXY header?)")
	errEHLO        = errors.New("EHLO refused")
	errChatter     = errors.New("upstream speaks unasked")
	errRefused     = errors.New("upstream refused the client")
	errRefusedUs   = errors.New("refused with a code that is no verdict on the client")
)

// greeting reads the greeting. A Postfix with every smtpd taken accepts the
// connection and never greets: that is told apart, and sooner than the other
// failures.
func (c *conn) greeting(ctx context.Context, patience time.Time, knows bool) error {
	h := c.hop
	r, err := c.read(ctx, min(time.Until(patience), h.connect()))
	switch {
	case errors.Is(err, os.ErrDeadlineExceeded):
		why := errNoGreeting
		if h.Identity != IdentityProxy {
			why = errNoGreetingP
		}
		err = fmt.Errorf("%w: %w", why, err)
		h.noGreeting(ctx, err, knows)
		return &HopError{Op: "greeting", Reply: hopBusy, Err: err}
	case err != nil:
		h.noGreeting(ctx, err, knows)
		return c.lost(ctx, "greeting", err)
	case r.Code == 220:
		return nil
	case knows && h.believes(r):
		h.answered() // it lives; it does not want this client
		return verdict("greeting", r)
	case knows && r.Refuses():
		return h.disbelieved(ctx, "greeting", r)
	}
	err = &HopError{Op: "greeting", Reply: hopDown, Said: r, Err: errGreeting}
	h.failed(ctx, err)
	return err
}

// believes reports a refusal of a client whom the upstream was told that is its
// verdict on him. An upstream that does not expect a PROXY header takes it for
// somebody who speaks too early, and may refuse that with any 5xx: what it says is
// believed when one dial, a probe or a client's, has ended in a greeting and an
// EHLO reply. docs/mail.md 20.
func (h *Hop) believes(r policy.Reply) bool {
	return r.Refuses() && !ourFault(r.Code) && (h.Identity != IdentityProxy || h.proven.Load())
}

// disbelieved makes an error of a refusal that is no verdict on the client, and
// lets a probe find out about the next one.
func (h *Hop) disbelieved(ctx context.Context, op string, r policy.Reply) error {
	why := errUnproven
	if h.proven.Load() {
		why = errRefusedUs
	}
	err := &HopError{Op: op, Reply: hopDown, Said: r, Err: why}
	h.noGreeting(ctx, err, true)
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
		if !c.Alive() { // a second greeting would be taken for the reply
			return c.chatter(ctx, "ehlo")
		}
		if _, err := c.deadlined().Write([]byte(verb + " " + name + "\r\n")); err != nil {
			return c.lost(ctx, verb, err)
		}
		r, err := c.read(ctx, c.hop.connect())
		switch {
		case err != nil:
			return c.lost(ctx, verb, err)
		case r.Code == 250:
			switch last := c.hop.Caps(); {
			case verb == "HELO":
				c.caps = &Caps{}
			case last.heard(r):
				c.caps = last
			default:
				c.caps = parseCaps(r)
			}
			return nil
		case c.hop.Identity == IdentityProxy && r.Code == 500:
			return c.noProxy(r)
		case knows && c.hop.believes(r):
			return verdict("ehlo", r)
		case knows && r.Refuses() && !ourFault(r.Code):
			return c.hop.disbelieved(ctx, "ehlo", r)
		case verb == "HELO" || r.Code != 500 && r.Code != 502 && r.Code != 504:
			return &HopError{Op: "ehlo", Reply: hopDown, Said: r, Err: errEHLO}
		}
	}
	return nil
}

// chatter makes an error of an upstream that speaks out of turn, or went away.
// An smtpd that takes a PROXY header for commands does that.
func (c *conn) chatter(ctx context.Context, op string) error {
	r, err := c.read(ctx, earlyWait)
	switch {
	case err != nil && !errors.Is(err, errMalformed):
		return c.lost(ctx, op, err)
	case c.hop.Identity == IdentityProxy && r.Code == 500:
		return c.noProxy(r)
	}
	c.hop.proven.Store(false)
	return &HopError{Op: op, Reply: hopDown, Said: r, Err: errChatter}
}

// noProxy makes an error of an smtpd that took a PROXY header for commands. It
// may have understood them before.
func (c *conn) noProxy(r policy.Reply) error {
	c.hop.proven.Store(false)
	return &HopError{Op: "proxy", Reply: hopDown, Said: r, Err: errNoProxy}
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
