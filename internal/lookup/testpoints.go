package lookup

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
)

// asker asks one type of records of a name; no record is no error.
type asker func(ctx context.Context, kind, name string) ([]string, error)

// points are the test points of RFC 5782 5: what every list has, and what none
// has. Lists of addresses have the first pair or, if they know IPv6 only, the
// last one; lists of names have the second.
var points = []struct{ listed, free, listedName, freeName string }{
	{"2.0.0.127", "1.0.0.127", "127.0.0.2", "127.0.0.1"},
	{"test", "invalid", "the name test", "the name invalid"},
	{"2.0.0.0.0.0.f.7.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0",
		"1.0.0.0.0.0.f.7.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0", "::ffff:127.0.0.2", "::ffff:127.0.0.1"},
}

// testPoints asks the test points of a zone. One good pair is enough: a list of
// names may answer every address with "this is no list of addresses". The fault
// is what is wrong; an error says that the zone could not be asked.
func testPoints(ctx context.Context, ask asker, zone string) (fault string, err error) {
	for _, p := range points {
		listed, err := ask(ctx, "A", p.listed+"."+zone)
		if err != nil {
			return "", err
		}
		if len(listed) == 0 {
			continue
		}
		if v := firstIn(trouble, listed); v != "" {
			return fmt.Sprintf("it answers %s, which says that it does not answer this resolver", v), nil
		}
		if firstIn(loopback, listed) == "" {
			return fmt.Sprintf("it answers %s to %s, and a list answers 127.x.x.x", listed[0], p.listedName), nil
		}
		free, err := ask(ctx, "A", p.free+"."+zone)
		if err != nil {
			return "", err
		}
		if len(free) == 0 {
			return "", nil
		}
		if fault == "" {
			fault = fmt.Sprintf("it lists %s, which no list has: it may list everybody (RFC 5782 5)", p.freeName)
		}
	}
	if fault == "" {
		fault = "it lists neither 127.0.0.2 nor the name test, which every list has (RFC 5782 5)"
	}
	return fault, nil
}

var (
	loopback = netip.MustParsePrefix("127.0.0.0/8")
	trouble  = netip.MustParsePrefix("127.255.255.0/24") // "you may not ask", "ask less", "typing error"
)

// firstIn is the first answer within a network, "" if there is none.
func firstIn(p netip.Prefix, answers []string) string {
	for _, v := range answers {
		if a, err := netip.ParseAddr(v); err == nil && p.Contains(a) {
			return v
		}
	}
	return ""
}

// CheckZones asks the test points of DNS lists once, a few lists at a time, and
// returns what is wrong, by zone; also that one could not be asked before ctx
// ended.
func (w *World) CheckZones(ctx context.Context, names []string) map[string]string {
	var mu sync.Mutex // of faults
	faults := map[string]string{}
	each(names, func(name string) {
		fault, err := testPoints(ctx, w.records, name)
		if err != nil {
			fault = "its test points cannot be asked: " + err.Error()
		}
		if fault != "" {
			mu.Lock()
			defer mu.Unlock()
			faults[name] = fault
		}
	})
	return faults
}
