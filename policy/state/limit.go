package state

import (
	"context"
	"fmt"
	"time"
)

// Rate is the Rate of package policy: Count in Per, Burst at once (0 means
// Count).
type Rate = struct {
	Count int64
	Per   time.Duration
	Burst int64
}

// Hold is the Hold of package policy.
type Hold = interface {
	Keep()
	Release()
}

// cell is one rate of one key. Cells are told apart by Per, so that a reload
// may change a rate's count, add a rate or reorder them, and the debt stays.
type cell struct {
	per int64 // microseconds
	tat int64
}

const cellSize = 16

// maxIntervals bounds burst and n, so that no product overflows: 2^31 times an
// interval of a day is 5,900 years.
const maxIntervals = 1 << 31

// interval is the time between two, in microseconds, rounded up: a limit errs
// on its own side.
func interval(r Rate) int64 {
	return max((r.Per.Microseconds()+r.Count-1)/r.Count, 1)
}

func burst(r Rate) int64 {
	if r.Burst > 0 {
		return r.Burst
	}
	return r.Count
}

// check refuses rates that mean nothing.
func check(rates []Rate, n int64) error {
	if len(rates) == 0 {
		return fmt.Errorf("limit without a rate")
	}
	for i, r := range rates {
		for _, other := range rates[:i] {
			if other.Per.Microseconds() == r.Per.Microseconds() {
				return fmt.Errorf("two rates in %s", r.Per)
			}
		}
		switch {
		case r.Count <= 0 || r.Count > maxIntervals, r.Per < time.Microsecond, r.Per > 366*24*time.Hour, r.Burst < 0 || r.Burst > maxIntervals:
			return fmt.Errorf("rate %d in %s with burst %d", r.Count, r.Per, r.Burst)
		case interval(r) > (1<<62)/burst(r):
			return fmt.Errorf("burst %d is too large for %d in %s", r.Burst, r.Count, r.Per)
		case n > burst(r):
			return fmt.Errorf("%d is more than %d, which is all that a limit of %d in %s ever has", n, burst(r), r.Count, r.Per)
		}
	}
	return nil
}

// Take reserves n of every rate for key, all or nothing. If one of them has
// less, hold is nil and wait says when n would be there. Taking more than a
// limit ever has is an error.
func (m *Memory) Take(_ context.Context, now time.Time, limit, key string, n int64, rates []Rate) (hold Hold, wait time.Duration, err error) {
	if n <= 0 {
		return nil, 0, fmt.Errorf("take of %d", n)
	}
	if err := check(rates, n); err != nil {
		return nil, 0, err
	}
	var buf keyBuf
	k, at := buf.key(kindLimit, limit, key), now.UnixMicro()
	s := m.lock(k, at)
	defer s.mu.Unlock()
	e := s.get(k, at)
	var short int64
	for _, r := range rates {
		iv := interval(r)
		short = max(short, e.tat(r, at)+n*iv-at-burst(r)*iv)
	}
	if short > 0 {
		return nil, time.Duration(short) * time.Microsecond, nil
	}
	if e == nil {
		e = &entry{cells: make([]cell, 0, len(rates))}
	}
	h := &held{m: m, key: e.key, e: e}
	if len(rates) == 1 {
		h.took = h.one[:0]
	}
	for _, r := range rates {
		iv := interval(r)
		to := e.tat(r, at) + n*iv
		e.set(r.Per.Microseconds(), to)
		h.took = append(h.took, share{per: r.Per.Microseconds(), cost: n * iv, drained: to})
	}
	if e.key == "" {
		m.put(s, k, e)
		h.key = e.key
	} else {
		m.resize(s, e)
	}
	return h, 0, nil
}

// Peek returns how many could be taken now.
func (m *Memory) Peek(_ context.Context, now time.Time, limit, key string, rates []Rate) (int64, error) {
	if err := check(rates, 0); err != nil {
		return 0, err
	}
	var buf keyBuf
	k, at := buf.key(kindLimit, limit, key), now.UnixMicro()
	s := m.lock(k, at)
	defer s.mu.Unlock()
	e := s.get(k, at)
	least := int64(maxIntervals)
	for _, r := range rates {
		iv := interval(r)
		least = min(least, (at+burst(r)*iv-e.tat(r, at))/iv)
	}
	return max(least, 0), nil
}

// Reset forgets the key of the limit; what was taken before gives nothing back.
func (m *Memory) Reset(_ context.Context, limit, key string) error {
	var buf keyBuf
	k := buf.key(kindLimit, limit, key)
	s := m.lock(k, 0)
	defer s.mu.Unlock()
	if e := s.entries[string(k)]; e != nil {
		s.drop(e)
	}
	return nil
}

// tat is the arrival time of a rate, at least now. It is safe on nil.
func (e *entry) tat(r Rate, now int64) int64 {
	if e != nil {
		for _, c := range e.cells {
			if c.per == r.Per.Microseconds() {
				return max(c.tat, now)
			}
		}
	}
	return now
}

func (e *entry) set(per, tat int64) {
	e.expires = max(e.expires, tat)
	for i := range e.cells {
		if e.cells[i].per == per {
			e.cells[i].tat = tat
			return
		}
	}
	e.cells = append(e.cells, cell{per, tat})
}

// held is what one Take took.
type held struct {
	m    *Memory
	key  string
	e    *entry
	took []share
	one  [1]share
	done bool
}

// share is what was taken of one rate: it has drained away at drained, having
// begun cost microseconds before.
type share struct{ per, cost, drained int64 }

// Keep leaves what was taken.
func (h *held) Keep() { h.done = true }

// Release gives back what was taken and has not drained away since. After Keep
// or a Release it does nothing.
func (h *held) Release() {
	if h.done {
		return
	}
	h.done = true
	var buf keyBuf
	k := append(buf[:0], h.key...)
	s := h.m.lock(k, 0)
	defer s.mu.Unlock()
	if s.entries[string(k)] != h.e { // forgotten meanwhile
		return
	}
	now := h.m.latest.Load()
	for _, t := range h.took {
		back := min(max(t.drained-now, 0), t.cost)
		for i := range h.e.cells {
			if c := &h.e.cells[i]; c.per == t.per {
				c.tat -= back
			}
		}
	}
	h.e.expires = 0
	for _, c := range h.e.cells {
		h.e.expires = max(h.e.expires, c.tat)
	}
}
