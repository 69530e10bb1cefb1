package lookup

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
)

// recheck is how often a zone's test points are asked again.
const recheck = time.Hour

// zones watches the health of DNS lists. A list that has gone away often ends
// by listing everybody: RFC 5782 5 gives every list two test points, 127.0.0.2
// (listed) and 127.0.0.1 (not listed), and a zone that fails them is not asked.
type zones struct {
	w    *World
	mu   sync.Mutex // guards all
	all  map[string]*zone
	bad  *prometheus.GaugeVec
	busy sync.WaitGroup
}

type zone struct {
	checked  time.Time
	checking bool
	fault    string // "" if the zone is fine
}

func (z *zones) init(w *World, reg prometheus.Registerer) {
	z.w, z.all = w, map[string]*zone{}
	z.bad = prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "moongate_dnsbl_off",
		Help: "1 for a DNS list that failed its test points and is not asked."}, []string{"zone"})
	if reg != nil {
		reg.MustRegister(z.bad)
	}
}

// usable reports whether a zone may be asked, and begins a check of its test
// points when one is due. A zone that was never checked is asked meanwhile.
func (z *zones) usable(name string) error {
	z.mu.Lock()
	defer z.mu.Unlock()
	s := z.all[name]
	if s == nil {
		s = &zone{}
		z.all[name] = s
	}
	if !s.checking && time.Since(s.checked) > recheck {
		s.checking = true
		z.busy.Add(1)
		go z.checkLater(name, s)
	}
	if s.fault != "" {
		return fmt.Errorf("list %s is switched off: %s", name, s.fault)
	}
	return nil
}

func (z *zones) checkLater(name string, s *zone) {
	defer z.busy.Done()
	fault, ok := z.test(name)
	z.mu.Lock()
	defer z.mu.Unlock()
	s.checking, s.checked = false, time.Now()
	if !ok { // could not be asked: what was known stays, ask again in a minute
		s.checked = time.Now().Add(time.Minute - recheck)
		return
	}
	if fault != s.fault {
		z.w.log.Warn("dns list", zap.String("zone", name), zap.String("fault", fault))
	}
	s.fault = fault
	if fault == "" {
		z.bad.WithLabelValues(name).Set(0)
	} else {
		z.bad.WithLabelValues(name).Set(1)
	}
}

// Check asks a zone's test points now and reports its fault: for loading a
// policy. An error says that it could not be asked.
func (w *World) Check(ctx context.Context, zone string) (fault string, err error) {
	fault, ok := w.zones.test(zone)
	if !ok {
		return "", ErrTemporary
	}
	return fault, nil
}

// test asks the test points of a zone of addresses.
func (z *zones) test(name string) (fault string, ok bool) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*z.w.timeout)
	defer cancel()
	no, err := z.w.records(ctx, "A", "1.0.0.127."+name)
	if err != nil {
		return "", false
	}
	if len(no) > 0 {
		return "it lists 127.0.0.1, so it lists everybody", true
	}
	yes, err := z.w.records(ctx, "A", "2.0.0.127."+name)
	if err != nil {
		return "", false
	}
	for _, v := range yes {
		if a, err := netip.ParseAddr(v); err == nil && loopback.Contains(a) && !trouble.Contains(a) {
			return "", true
		}
	}
	// A list of names has the test points "test" and "invalid".
	if yes, err = z.w.records(ctx, "A", "test."+name); err != nil {
		return "", false
	}
	if no, err = z.w.records(ctx, "A", "invalid."+name); err != nil {
		return "", false
	}
	switch {
	case len(no) > 0:
		return "it lists the name invalid, so it lists everybody", true
	case len(yes) == 0:
		return "it lists neither 127.0.0.2 nor the name test, its test points (RFC 5782 5)", true
	}
	return "", true
}

var (
	loopback = netip.MustParsePrefix("127.0.0.0/8")
	trouble  = netip.MustParsePrefix("127.255.255.0/24") // "you may not ask", "ask less", "typing error"
)

// Close waits for checks under way.
func (w *World) Close() error {
	w.zones.busy.Wait()
	w.cache.StopAllGoroutines()
	return nil
}
