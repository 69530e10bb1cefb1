package lookup

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/moongate/moongate/policy"
)

var listed = []string{"127.0.0.2"}

const sixListed, sixFree = "2.0.0.0.0.0.f.7.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0", "1.0.0.0.0.0.f.7.f.f.f.f.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0"

// Lists of addresses and of names, good ones and all kinds of bad ones.
func TestTestPoints(t *testing.T) {
	s := serve(t, map[string][]string{
		"A 2.0.0.127.good.example.": listed,

		"A test.names.example.":          listed, // a list of names
		"A test.strict.example.":         listed, // one that says that it lists no addresses
		"A 2.0.0.127.strict.example.":    {"127.0.1.255"},
		"A 1.0.0.127.strict.example.":    {"127.0.1.255"},
		"A " + sixListed + ".6.example.": listed, // one that knows IPv6 only

		"A 2.0.0.127.all.example.": listed, "A 1.0.0.127.all.example.": listed,
		"A test.all.example.": listed, "A invalid.all.example.": listed,
		"A " + sixListed + ".all.example.": listed, "A " + sixFree + ".all.example.": listed,
		"A test.allnames.example.": listed, "A invalid.allnames.example.": listed,
		"A 2.0.0.127.refuses.example.": {"127.255.255.254"}, "A 1.0.0.127.refuses.example.": {"127.255.255.254"},
		"A 2.0.0.127.parked.example.": {"203.0.113.80"},
		"A 2.0.0.127.dead.example.":   {"SERVFAIL"},
		"A 2.0.0.127.half.example.":   listed, "A 1.0.0.127.half.example.": {"SERVFAIL"},
	})
	w := world(t, s, patience)
	want := map[string]string{
		"all.example":      "it lists 127.0.0.1, which no list has: it may list everybody (RFC 5782 5)",
		"allnames.example": "it lists the name invalid, which no list has: it may list everybody (RFC 5782 5)",
		"refuses.example":  "it answers 127.255.255.254, which says that it does not answer this resolver",
		"parked.example":   "it answers 203.0.113.80 to 127.0.0.2, and a list answers 127.x.x.x",
		"gone.example":     "it lists neither 127.0.0.2 nor the name test, which every list has (RFC 5782 5)",
		"dead.example":     "its test points cannot be asked: temporary",
		"half.example":     "its test points cannot be asked: temporary",
	}
	zones := []string{"good.example", "names.example", "strict.example", "6.example"}
	for zone := range want {
		zones = append(zones, zone)
	}
	got := w.CheckZones(t.Context(), zones)
	for _, zone := range zones {
		if got[zone] != want[zone] {
			t.Errorf("%s:\ngot  %s\nwant %s", zone, got[zone], want[zone])
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if got := w.CheckZones(ended, []string{"new.example"}); got["new.example"] == "" {
		t.Error("nothing was asked, and nothing is wrong")
	}
}

// A policy's lists are asked for their test points before anything else, and
// the first question waits for that.
func TestFirstQuestionWaits(t *testing.T) {
	s := serve(t, map[string][]string{
		"A 2.0.0.127.good.example.": listed, "A 9.2.0.192.good.example.": listed,
		"A 2.0.0.127.all.example.": listed, "A 1.0.0.127.all.example.": listed, "A 9.2.0.192.all.example.": listed,
		"A 9.2.0.192.other.example.": listed,
	})
	w := world(t, s, patience)
	ask := func(ctx context.Context, zone string) (policy.Answer, error) {
		return w.Lookup(ctx, policy.Query{Service: "dnsbl", Type: zone, Name: "9.2.0.192." + zone})
	}
	w.Watch([]string{"good.example", "all.example"})
	if a, err := ask(t.Context(), "all.example"); err == nil || !strings.Contains(err.Error(), "switched off: it lists 127.0.0.1") {
		t.Errorf("a list that lists everybody: %v, %v", a, err)
	}
	for _, zone := range []string{"good.example", "other.example"} {
		if a, err := ask(t.Context(), zone); err != nil || !slices.Equal(a.Values, listed) {
			t.Errorf("%s: %v, %v", zone, a, err)
		}
	}
}

// Who asks in the very moment in which the check ends hears what came of it.
func TestAskedAsTheCheckEnds(t *testing.T) {
	ask := func(context.Context, string, string) ([]string, error) { return listed, nil }
	for range 2000 {
		z := &zones{}
		z.init(ask, patience, zap.NewNop(), nil)
		z.watch([]string{"all.example"})
		if err := z.usable(t.Context(), "all.example"); err == nil {
			t.Error("a list that lists everybody may be asked")
		}
		z.close()
	}
}

// A list that is silent on its test points cannot be checked, and is asked: but
// not before that is known.
func TestSilentTestPoints(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z, _, _ := watched(&fakeDNS{delay: time.Hour})
		defer z.close()
		z.watch([]string{"mute.example"})
		start := time.Now()
		soon, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := z.usable(soon, "mute.example"); !errors.Is(err, ErrTemporary) || time.Since(start) != time.Second {
			t.Errorf("nobody knows yet: %v after %v", err, time.Since(start))
		}
		if err := z.usable(t.Context(), "mute.example"); err != nil || time.Since(start) != z.timeout {
			t.Errorf("it may not be asked: %v after %v", err, time.Since(start))
		}
	})
}

// fakeDNS answers from a map that a test may change, and counts.
type fakeDNS struct {
	mu      sync.Mutex
	records map[string][]string
	trouble bool
	asked   map[string]int // by zone: "a.example"
	now     int
	most    int // at once
	delay   time.Duration
}

func (f *fakeDNS) ask(ctx context.Context, kind, name string) ([]string, error) {
	f.mu.Lock()
	labels := strings.Split(name, ".")
	f.asked[strings.Join(labels[len(labels)-2:], ".")]++
	f.now++
	f.most = max(f.most, f.now)
	values, trouble := f.records[name], f.trouble
	f.mu.Unlock()
	defer func() { f.mu.Lock(); f.now--; f.mu.Unlock() }()
	select {
	case <-time.After(f.delay):
	case <-ctx.Done():
		return nil, ErrTemporary
	}
	if trouble {
		return nil, ErrTemporary
	}
	return values, nil
}

// become changes what it answers.
func (f *fakeDNS) become(change func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	change()
}

func (f *fakeDNS) take() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	asked := f.asked
	f.asked = map[string]int{}
	return asked
}

func watched(f *fakeDNS) (*zones, *observer.ObservedLogs, *prometheus.Registry) {
	core, logs := observer.New(zap.DebugLevel)
	reg, z := prometheus.NewRegistry(), &zones{}
	f.asked = map[string]int{}
	z.init(f.ask, 3*time.Second, zap.New(core), reg)
	return z, logs, reg
}

// off renders moongate_dnsbl_off.
func off(t *testing.T, reg *prometheus.Registry) string {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var s []string
	for _, f := range families {
		for _, m := range f.Metric {
			s = append(s, fmt.Sprintf("%s=%v", m.Label[0].GetValue(), m.Gauge.GetValue()))
		}
	}
	return strings.Join(s, " ")
}

func told(logs *observer.ObservedLogs) (s []string) {
	for _, e := range logs.TakeAll() {
		line := e.Level.String() + " " + e.Message
		for _, f := range e.Context {
			if line += " " + f.String; f.Interface != nil {
				line += fmt.Sprint(f.Interface)
			}
		}
		s = append(s, line)
	}
	slices.Sort(s)
	return s
}

// The life of a list: at load, hourly, gone bad, out of reach, good again, no
// longer declared.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeDNS{records: map[string][]string{"2.0.0.127.a.example": listed, "test.b.example": listed}}
		z, logs, reg := watched(f)
		defer z.close()
		step := func(what, metric string, asked map[string]int, lines ...string) {
			t.Helper()
			synctest.Wait()
			if got := off(t, reg); got != metric {
				t.Errorf("%s: the metric says %q, want %q", what, got, metric)
			}
			if got := told(logs); !slices.Equal(got, lines) {
				t.Errorf("%s: the log says %q", what, got)
			}
			if got := f.take(); fmt.Sprint(got) != fmt.Sprint(asked) {
				t.Errorf("%s: asked %v, want %v", what, got, asked)
			}
		}
		z.watch([]string{"a.example", "b.example"})
		step("load", "a.example=0 b.example=0", map[string]int{"a.example": 2, "b.example": 3})
		time.Sleep(recheck - time.Second)
		step("before the hour", "a.example=0 b.example=0", nil)
		f.become(func() { f.records["1.0.0.127.a.example"] = listed })
		time.Sleep(time.Second)
		const fault = "it lists 127.0.0.1, which no list has: it may list everybody (RFC 5782 5)"
		step("gone bad", "a.example=1 b.example=0", map[string]int{"a.example": 4, "b.example": 3},
			"warn dns list is switched off a.example "+fault)
		if err := z.usable(t.Context(), "a.example"); err == nil {
			t.Error("it may be asked")
		}
		z.watch([]string{"a.example", "b.example"})
		step("loaded again", "a.example=1 b.example=0", map[string]int{"a.example": 4, "b.example": 3})
		f.become(func() { f.trouble = true })
		time.Sleep(recheck)
		step("out of reach", "a.example=1 b.example=0", map[string]int{"a.example": 1, "b.example": 1},
			"warn dns list cannot be asked for its test points a.example temporary",
			"warn dns list cannot be asked for its test points b.example temporary")
		time.Sleep(retry)
		step("a minute later", "a.example=1 b.example=0", map[string]int{"a.example": 1, "b.example": 1})
		z.watch([]string{"b.example"})
		step("left out", "b.example=0", map[string]int{"b.example": 1})
		if err := z.usable(t.Context(), "a.example"); err == nil {
			t.Error("a message that began with the policy before may ask it")
		}
		f.become(func() { f.trouble = false; delete(f.records, "1.0.0.127.a.example") })
		z.watch([]string{"a.example", "b.example"})
		step("good again", "a.example=0 b.example=0", map[string]int{"a.example": 2, "b.example": 3},
			"info dns list passes its test points again a.example", "info dns list passes its test points again b.example")
		z.watch(nil)
		time.Sleep(24 * time.Hour)
		step("none", "", nil)
		if z.watching || len(z.all) != 0 {
			t.Error("somebody watches")
		}
		z.watch([]string{"a.example"})
		step("one again", "a.example=0", map[string]int{"a.example": 2})
	})
}

// A few at once; closing waits for nobody, and tells nothing.
func TestWatchIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := &fakeDNS{delay: time.Hour}
		z, logs, _ := watched(f)
		var names []string
		for i := range 30 {
			names = append(names, fmt.Sprintf("z%d.example", i))
		}
		start := time.Now()
		z.watch(names)
		time.Sleep(4 * 3 * time.Second)
		synctest.Wait()
		if f.most != maxChecks || len(f.take()) != 30 {
			t.Errorf("%d at once", f.most)
		}
		if n := len(told(logs)); n != 30 {
			t.Errorf("%d lines", n)
		}
		z.watch(append(names, "new.example"))
		synctest.Wait()
		waiting := make(chan error)
		go func() { waiting <- z.usable(context.Background(), "new.example") }()
		synctest.Wait()
		z.close()
		if err := <-waiting; !errors.Is(err, ErrTemporary) {
			t.Errorf("who waited hears %v", err)
		}
		z.watch(names) // too late: nothing begins
		synctest.Wait()
		if got := time.Since(start); got > 13*time.Second || len(told(logs)) != 0 {
			t.Errorf("closing took until %s", got)
		}
	})
}
