package state

import (
	"context"
	"math/rand/v2"
	"strings"
	"testing"
	"time"
)

var (
	ctx   = context.Background()
	start = time.UnixMicro(1_700_000_000_000_000)
)

func rate(count int64, per time.Duration) []Rate { return []Rate{{Count: count, Per: per}} }

func take(t *testing.T, m *Memory, now time.Time, key string, n int64, rates []Rate) (Hold, time.Duration) {
	t.Helper()
	h, wait, err := m.Take(ctx, now, "limit", key, n, rates)
	if err != nil {
		t.Fatal(err)
	}
	if (h == nil) != (wait > 0) {
		t.Fatalf("hold %v with wait %s", h, wait)
	}
	return h, wait
}

func TestTakeLetsTheBurstThroughThenOneASecond(t *testing.T) {
	m := New(0)
	r := rate(60, time.Minute)
	for i := range 60 {
		if h, wait := take(t, m, start, "k", 1, r); h == nil {
			t.Fatalf("number %d waits %s", i+1, wait)
		}
	}
	if h, wait := take(t, m, start, "k", 1, r); h != nil || wait != time.Second {
		t.Fatalf("number 61: %v, wait %s", h, wait)
	}
	if n, err := m.Peek(ctx, start.Add(2500*time.Millisecond), "limit", "k", r); n != 2 || err != nil {
		t.Errorf("after 2.5 s there are %d, %v", n, err)
	}
	if h, _ := take(t, m, start.Add(time.Second), "k", 1, r); h == nil {
		t.Error("refused after a second")
	}
	if h, _ := take(t, m, start, "other", 60, r); h == nil {
		t.Error("another key is limited, too")
	}
}

// Whatever is taken when: no window holds more than burst plus what came back
// in it; the wait that is told is exact; several rates are all or nothing.
func TestLimitProperties(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	type event struct {
		at time.Time
		n  int64
	}
	for round := range 200 {
		m := New(0)
		rates := make([]Rate, 1+rng.IntN(3))
		for i := range rates {
			rates[i] = Rate{Count: 1 + rng.Int64N(20), Per: time.Duration(1+rng.IntN(1000)) * time.Millisecond * time.Duration(i+1), Burst: rng.Int64N(2) * (5 + rng.Int64N(10))}
			rates[i].Per += time.Duration(i) * time.Microsecond // told apart by Per
		}
		most := burst(rates[0])
		for _, r := range rates {
			most = min(most, burst(r))
		}
		var kept []event
		now := start
		for range 100 {
			now = now.Add(time.Duration(rng.Int64N(200_000)) * time.Microsecond)
			n := 1 + rng.Int64N(most)
			before, err := m.Peek(ctx, now, "limit", "k", rates)
			if err != nil {
				t.Fatal(err)
			}
			h, wait := take(t, m, now, "k", n, rates)
			if (h != nil) != (n <= before) {
				t.Fatalf("round %d: peek said %d, take of %d gave %v", round, before, n, h)
			}
			if h == nil {
				if after, _ := m.Peek(ctx, now, "limit", "k", rates); after != before {
					t.Fatalf("round %d: a refused take changed %d to %d", round, before, after)
				}
				if h, _ := take(t, m, now.Add(wait-time.Microsecond), "k", n, rates); h != nil {
					t.Fatalf("round %d: there before the wait is over", round)
				}
				now = now.Add(wait)
				if h, wait = take(t, m, now, "k", n, rates); h == nil {
					t.Fatalf("round %d: not there after the wait, another %s", round, wait)
				}
			}
			if rng.IntN(3) == 0 {
				h.Release()
				h.Keep()
				h.Release()
				if after, _ := m.Peek(ctx, now, "limit", "k", rates); after < n {
					t.Fatalf("round %d: %d given back, %d there", round, n, after)
				}
				continue
			}
			kept = append(kept, event{now, n})
		}
		for _, r := range rates {
			for i := range kept {
				var sum int64
				for _, e := range kept[i:] {
					sum += e.n
					if most := burst(r) + e.at.Sub(kept[i].at).Microseconds()/interval(r); sum > most {
						t.Fatalf("round %d: %d in %s with %+v", round, sum, e.at.Sub(kept[i].at), r)
					}
				}
			}
		}
	}
}

func TestReleaseGivesBackOnceAndOnlyWhatIsLeft(t *testing.T) {
	r := rate(10, 10*time.Second)
	peek := func(m *Memory, now time.Time) int64 {
		n, err := m.Peek(ctx, now, "limit", "k", r)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	m := New(0)
	a, _ := take(t, m, start, "k", 4, r)
	b, _ := take(t, m, start, "k", 4, r)
	a.Release()
	a.Release()
	if n := peek(m, start); n != 6 {
		t.Errorf("after one release there are %d", n)
	}
	b.Keep()
	b.Release()
	if n := peek(m, start); n != 6 {
		t.Errorf("a kept hold was given back: %d", n)
	}

	m = New(0)
	a, _ = take(t, m, start, "k", 4, r)
	later := start.Add(4 * time.Second) // it has drained away
	take(t, m, later, "k", 10, r)
	a.Release()
	if n := peek(m, later); n != 0 {
		t.Errorf("room made of what had drained: %d", n)
	}

	m = New(0)
	a, _ = take(t, m, start, "k", 4, r)
	if err := m.Reset(ctx, "limit", "k"); err != nil {
		t.Fatal(err)
	}
	take(t, m, start, "k", 10, r)
	a.Release()
	if n := peek(m, start); n != 0 {
		t.Errorf("a hold from before a reset was given back: %d", n)
	}
}

func TestChangedRateKeepsTheDebt(t *testing.T) {
	m := New(0)
	take(t, m, start, "k", 60, rate(60, time.Minute))
	if n, _ := m.Peek(ctx, start, "limit", "k", rate(120, time.Minute)); n != 0 {
		t.Errorf("a doubled rate begins with %d", n)
	}
	if n, _ := m.Peek(ctx, start.Add(30*time.Second), "limit", "k", rate(120, time.Minute)); n != 60 {
		t.Errorf("half a minute later there are %d", n)
	}
}

func TestImpossibleLimits(t *testing.T) {
	m := New(0)
	for _, tt := range []struct {
		n int64
		r []Rate
	}{
		{1, nil}, {1, rate(0, time.Second)}, {1, rate(1, 0)}, {0, rate(1, time.Second)}, {-1, rate(1, time.Second)},
		{1, []Rate{{1, time.Second, 0}, {2, time.Second, 0}}}, {2, rate(1, time.Second)}, {1, []Rate{{1, time.Second, -1}}}, {1, rate(1, 400*24*time.Hour)},
	} {
		if h, _, err := m.Take(ctx, start, "l", "k", tt.n, tt.r); err == nil || h != nil {
			t.Errorf("%d of %v: %v, %v", tt.n, tt.r, h, err)
		}
	}
}

func TestLongKeysAreHashed(t *testing.T) {
	m := New(0)
	r := rate(1, time.Minute)
	a, b := strings.Repeat("a", 1<<20), strings.Repeat("a", 1<<20)+"b"
	take(t, m, start, a, 1, r)
	if h, _ := take(t, m, start, b, 1, r); h == nil {
		t.Error("two long keys are one")
	}
	if h, _ := take(t, m, start, a, 1, r); h != nil {
		t.Error("a long key is forgotten")
	}
	if st := m.Stats(); st.Bytes > 1000 {
		t.Errorf("long keys take %d octets", st.Bytes)
	}
}

func BenchmarkTake(b *testing.B) {
	m := New(0)
	r := rate(1_000_000_000, time.Second)
	b.ReportAllocs()
	for i := range b.N {
		h, _, err := m.Take(ctx, start.Add(time.Duration(i)*time.Microsecond), "limit", "198.51.100.7", 1, r)
		if err != nil || h == nil {
			b.Fatal(h, err)
		}
		h.Keep()
	}
}
