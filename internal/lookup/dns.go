package lookup

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/moongate/moongate/policy"
)

// newResolver is Go's own resolver, asking these servers in turn (the system's
// if there are none), each for at most timeout.
func newResolver(servers []string, timeout time.Duration) *net.Resolver {
	var next atomic.Uint32
	return &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		if len(servers) > 0 {
			address = servers[int(next.Add(1))%len(servers)]
		}
		var d net.Dialer
		c, err := d.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		if p, ok := c.(*net.UDPConn); ok { // the resolver looks for a PacketConn
			return &impatientPacket{p, timeout}, nil
		}
		return &impatient{c, timeout}, nil
	}}
}

// impatient shortens the resolver's own deadline of 5 s a try: it goes on
// waiting behind a caller's back when the caller's context has ended.
type impatient struct {
	net.Conn
	timeout time.Duration
}

func (c *impatient) SetDeadline(t time.Time) error { return c.Conn.SetDeadline(sooner(t, c.timeout)) }

type impatientPacket struct {
	*net.UDPConn
	timeout time.Duration
}

func (c *impatientPacket) SetDeadline(t time.Time) error {
	return c.UDPConn.SetDeadline(sooner(t, c.timeout))
}

func sooner(t time.Time, timeout time.Duration) time.Time {
	if end := time.Now().Add(timeout); t.IsZero() || end.Before(t) {
		return end
	}
	return t
}

// dns answers service "dns".
func (w *World) dns(ctx context.Context, q policy.Query) (policy.Answer, error) {
	values, err := w.records(ctx, strings.ToUpper(q.Type), q.Name)
	if err != nil {
		return policy.Answer{}, err
	}
	return policy.Answer{Values: values, TTL: keepFound}, nil
}

// dnsbl answers service "dnsbl": the A records of the name.
func (w *World) dnsbl(ctx context.Context, q policy.Query) (policy.Answer, error) {
	return w.dns(ctx, policy.Query{Service: "dns", Type: "A", Name: q.Name})
}

// records asks for one type. Names are absolute: no search list can turn one
// into another.
func (w *World) records(ctx context.Context, kind, name string) (values []string, err error) {
	fqdn := strings.TrimSuffix(name, ".") + "."
	switch kind {
	case "A", "AAAA":
		network := map[string]string{"A": "ip4", "AAAA": "ip6"}[kind]
		var ips []netip.Addr
		ips, err = w.resolver.LookupNetIP(ctx, network, fqdn)
		for _, ip := range ips {
			values = append(values, ip.Unmap().String())
		}
	case "MX":
		var mxs []*net.MX
		mxs, err = w.resolver.LookupMX(ctx, fqdn)
		for _, mx := range mxs {
			values = append(values, strconv.Itoa(int(mx.Pref))+" "+strings.TrimSuffix(mx.Host, "."))
		}
	case "TXT":
		values, err = w.resolver.LookupTXT(ctx, fqdn)
	case "PTR":
		if _, bad := netip.ParseAddr(name); bad != nil {
			return nil, fmt.Errorf("PTR of %q: not an address", name)
		}
		values, err = w.resolver.LookupAddr(ctx, name)
		for i := range values {
			values[i] = strings.TrimSuffix(values[i], ".")
		}
	default:
		return nil, fmt.Errorf("there is no record type %q", kind)
	}
	var dnsErr *net.DNSError
	if errors.As(err, &dnsErr) && dnsErr.IsNotFound {
		return nil, nil
	}
	if err != nil && len(values) == 0 {
		return nil, ErrTemporary
	}
	return values, nil
}

// PTR is the forward-confirmed name of an address: a name whose own A or AAAA
// records hold the address. It returns "" if there is none and ErrTemporary if
// that cannot be said now, within the time of two queries.
func (w *World) PTR(ctx context.Context, ip netip.Addr) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*w.timeout)
	defer cancel()
	ip = ip.Unmap()
	names, err := w.Lookup(ctx, policy.Query{Service: "dns", Type: "PTR", Name: ip.String()})
	if err != nil {
		return "", err
	}
	kind := "A"
	if ip.Is6() {
		kind = "AAAA"
	}
	var trouble error
	for i, name := range names.Values {
		if i == 3 { // a PTR with a hundred names is no reason for a hundred queries
			break
		}
		back, err := w.Lookup(ctx, policy.Query{Service: "dns", Type: kind, Name: name})
		if err != nil {
			trouble = err
			continue
		}
		for _, v := range back.Values {
			if a, err := netip.ParseAddr(v); err == nil && a == ip {
				return strings.ToLower(name), nil
			}
		}
	}
	return "", trouble
}
