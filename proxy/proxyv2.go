package proxy

import (
	"context"
	"encoding/binary"
	"errors"
	"net/netip"

	"github.com/moongate/moongate/policy"
)

// The PROXY protocol, version 2: what a proxy says of the client in front of
// everything else. https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt
const (
	proxySignature = "\r\n\r\n\x00\r\nQUIT\n"

	proxyLocal  = 0x20 // version 2, LOCAL: the proxy speaks for itself
	proxyClient = 0x21 // version 2, PROXY
	proxyTCP4   = 0x11
	proxyTCP6   = 0x21
)

var (
	errNoAddress = errors.New("the client has no address that could be told")
	errNoProxy   = errors.New("upstream does not understand PROXY (smtpd_upstream_proxy_protocol = haproxy)")
)

// proxyHeader makes the header for a client. f is nil for a probe of ours,
// which speaks for itself.
//
// A stranger without an address is an error: LOCAL would make him us, whom the
// upstream trusts. Anybody else without one sits at a unix socket of this
// machine and is as local as we are.
func proxyHeader(f *policy.Facts) ([]byte, error) {
	b := []byte(proxySignature)
	if f == nil || !f.Remote.IsValid() && !f.Stranger {
		return append(b, proxyLocal, 0, 0, 0), nil
	}
	if !f.Remote.IsValid() {
		return nil, errNoAddress
	}
	from, to := f.Remote.Addr().Unmap(), f.Local.Addr().Unmap()
	if from.Is4() {
		if !to.Is4() { // what counts is the client's
			to = netip.IPv4Unspecified()
		}
		b = append(b, proxyClient, proxyTCP4, 0, 12)
		b = append(append(b, from.AsSlice()...), to.AsSlice()...)
	} else {
		if !to.IsValid() {
			to = netip.IPv6Unspecified()
		}
		from16, to16 := from.As16(), to.As16()
		b = append(b, proxyClient, proxyTCP6, 0, 36)
		b = append(append(b, from16[:]...), to16[:]...)
	}
	b = binary.BigEndian.AppendUint16(b, f.Remote.Port())
	return binary.BigEndian.AppendUint16(b, f.Local.Port()), nil
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
