package state

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestCounter(t *testing.T) {
	m := New(0)
	add := func(now time.Time, n, want int64) {
		t.Helper()
		if got, err := m.Add(ctx, now, "c", "k", n, time.Minute); got != want || err != nil {
			t.Errorf("Add(%d) = %d, %v, want %d", n, got, err, want)
		}
	}
	add(start, 0, 0)
	add(start, 2, 2)
	add(start.Add(30*time.Second), 3, 5)
	add(start.Add(59*time.Second), 0, 5)
	add(start.Add(60*time.Second), 1, 1) // a minute after the first Add
	add(start.Add(61*time.Second), math.MaxInt64, math.MaxInt64)
	if _, err := m.Add(ctx, start, "c", "k", 1, 0); err == nil {
		t.Error("no time to live is taken")
	}
}

func TestCache(t *testing.T) {
	m := New(0)
	if v, err := m.Get(ctx, start, "c", "k"); v != nil || err != nil {
		t.Errorf("nothing stored: %q, %v", v, err)
	}
	value := []byte("one")
	if ok, err := m.Set(ctx, start, "c", "k", value, time.Minute, true); !ok || err != nil {
		t.Fatalf("first: %v, %v", ok, err)
	}
	value[0] = 'X'
	if ok, _ := m.Set(ctx, start, "c", "k", []byte("two"), time.Minute, true); ok {
		t.Error("onlyNew replaces")
	}
	if v, _ := m.Get(ctx, start, "c", "k"); string(v) != "one" {
		t.Errorf("got %q", v)
	}
	if v, _ := m.Get(ctx, start.Add(time.Minute), "c", "k"); v != nil {
		t.Errorf("expired, got %q", v)
	}
	if ok, _ := m.Set(ctx, start.Add(time.Minute), "c", "k", nil, time.Minute, true); !ok {
		t.Error("an expired value is in the way")
	}
	if v, _ := m.Get(ctx, start.Add(time.Minute), "c", "k"); v == nil || len(v) != 0 {
		t.Errorf("the empty value is %v", v)
	}
	if _, err := m.Set(ctx, start, "c", "k", make([]byte, MaxValue+1), time.Minute, false); err == nil {
		t.Error("a huge value is taken")
	}
}

// Names and kinds do not meet.
func TestNamesAreApart(t *testing.T) {
	m := New(0)
	m.Set(ctx, start, "a", "bc", []byte("x"), time.Minute, false)
	if v, _ := m.Get(ctx, start, "ab", "c"); v != nil {
		t.Error("a bc is ab c")
	}
	if n, _ := m.Add(ctx, start, "a", "bc", 1, time.Minute); n != 1 {
		t.Error("a counter meets a cache")
	}
}

func TestFullStoreForgetsTheLeastRecent(t *testing.T) {
	m := New(1 << 20)
	for i := range 20_000 {
		m.Set(ctx, start, "c", fmt.Sprint(i), []byte(strings.Repeat("v", 100)), time.Hour, false)
		m.Get(ctx, start, "c", "0") // in use
	}
	st := m.Stats()
	if st.Bytes > 1<<20 || st.Keys < 1000 || st.Evicted != 20_000-st.Keys {
		t.Errorf("%+v", st)
	}
	if v, _ := m.Get(ctx, start, "c", "0"); v == nil {
		t.Error("the key in use was forgotten")
	}
	if v, _ := m.Get(ctx, start, "c", "1"); v != nil {
		t.Error("the oldest key is still there")
	}
}

func TestExpiredKeysLeave(t *testing.T) {
	m := New(0)
	r := rate(10, time.Second)
	for i := range 10_000 {
		m.Take(ctx, start, "l", fmt.Sprint(i), 1, r)
	}
	later := start.Add(time.Hour)
	for i := range 30_000 { // by the way
		m.Get(ctx, later, "c", fmt.Sprint(i))
	}
	if st := m.Stats(); st.Keys > 500 {
		t.Errorf("calls swept too little: %+v", st)
	}
	m.Sweep(later)
	if st := m.Stats(); st.Keys != 0 || st.Bytes != 0 {
		t.Errorf("after Sweep: %+v", st)
	}
}

// Many sessions at one key: what was granted is exactly the burst.
func TestManyGoroutines(t *testing.T) {
	m := New(1 << 20)
	var wg sync.WaitGroup
	var mu sync.Mutex
	kept := 0
	for g := range 8 {
		wg.Go(func() {
			for i := range 1000 {
				m.Add(ctx, start, "c", "all", 1, time.Hour)
				m.Set(ctx, start, "v", fmt.Sprint(g, i), []byte("x"), time.Minute, false)
				h, _, err := m.Take(ctx, start, "l", "k", 1, rate(500, time.Hour))
				if err != nil {
					t.Error(err)
				}
				if h == nil {
					continue
				}
				if i%3 == 0 {
					h.Release()
					continue
				}
				h.Keep()
				mu.Lock()
				kept++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if kept != 500 {
		t.Errorf("%d kept", kept)
	}
	if n, _ := m.Add(ctx, start, "c", "all", 0, time.Hour); n != 8000 {
		t.Errorf("counted %d", n)
	}
}
