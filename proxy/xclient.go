package proxy

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/moongate/moongate/policy"
)

var (
	errNoXClient   = errors.New("upstream does not offer XCLIENT to us (smtpd_authorized_xclient_hosts)")
	errXClient     = errors.New("XCLIENT refused")
	errNoAttribute = errors.New("upstream's XCLIENT knows no ADDR")
)

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
		return c.chatter(ctx, "xclient")
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

// xclientArg makes the one XCLIENT command that carries a client's identity:
// Postfix resets what a command does not carry. NAME is never absent, else
// Postfix would log the client as localhost. A value cannot become another
// attribute: see plainX.
func xclientArg(f *policy.Facts, offered string) (string, error) {
	if !hasWord(offered, "ADDR") {
		return "", errNoAttribute
	}
	name := xtext(hostName(f.PTR))
	if name == unavailable && f.PTRTemp {
		name = tempUnavail
	}
	attrs := [][2]string{
		{"ADDR", xtext(xaddr(f.Remote))},
		{"PORT", xtext(xport(f.Remote))},
		{"NAME", name},
		{"REVERSE_NAME", name},
		{"LOGIN", xtext(f.User)},
		{"DESTADDR", xtext(xaddr(f.Local))},
		{"DESTPORT", xtext(xport(f.Local))},
	}
	var b strings.Builder
	for _, a := range attrs {
		if hasWord(offered, a[0]) {
			b.WriteString(" " + a[0] + "=" + a[1])
		}
	}
	return b.String()[1:], nil
}

// xclientFault reports whether a refusal of XCLIENT says that we may not use it
// or that it is not understood: then the upstream does not know the client, and
// it is no verdict on him. docs/mail.md 20.
func xclientFault(r policy.Reply) bool {
	return ourFault(r.Code) || r.Code == 501 || r.Code == 550 && r.Status == policy.Status{5, 7, 0}
}
