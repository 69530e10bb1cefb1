package state

import (
	"context"
	"errors"
	"math"
	"time"
)

// MaxValue is the largest cached value, in octets.
const MaxValue = 64 << 10

var (
	errTTL   = errors.New("a time to live must be at least a microsecond")
	errValue = errors.New("a cached value has at most 65536 octets")
)

// Add adds n to a counter, which begins at 0 and expires ttl after its first
// Add. With n = 0 it only reads. Totals stop at the ends of int64.
func (m *Memory) Add(_ context.Context, now time.Time, counter, key string, n int64, ttl time.Duration) (total int64, err error) {
	if ttl < time.Microsecond {
		return 0, errTTL
	}
	var buf keyBuf
	k, at := buf.key(kindCounter, counter, key), now.UnixMicro()
	s := m.lock(k, at)
	defer s.mu.Unlock()
	e := s.get(k, at)
	switch {
	case e != nil:
		e.count = addCapped(e.count, n)
	case n == 0:
		return 0, nil
	default:
		e = &entry{count: n, expires: at + ttl.Microseconds()}
		m.put(s, k, e)
	}
	return e.count, nil
}

func addCapped(a, b int64) int64 {
	switch c := a + b; {
	case b > 0 && c < a:
		return math.MaxInt64
	case b < 0 && c > a:
		return math.MinInt64
	default:
		return c
	}
}

// Get returns a cached value, nil if there is none. The caller must not change
// it.
func (m *Memory) Get(_ context.Context, now time.Time, cache, key string) ([]byte, error) {
	var buf keyBuf
	k, at := buf.key(kindCache, cache, key), now.UnixMicro()
	s := m.lock(k, at)
	defer s.mu.Unlock()
	if e := s.get(k, at); e != nil {
		return e.value, nil
	}
	return nil, nil
}

// Set stores a copy of value for ttl. With onlyNew it does not replace one, and
// reports whether it stored.
func (m *Memory) Set(_ context.Context, now time.Time, cache, key string, value []byte, ttl time.Duration, onlyNew bool) (stored bool, err error) {
	switch {
	case ttl < time.Microsecond:
		return false, errTTL
	case len(value) > MaxValue:
		return false, errValue
	}
	value = append([]byte{}, value...) // never nil: an empty value is a value
	var buf keyBuf
	k, at := buf.key(kindCache, cache, key), now.UnixMicro()
	s := m.lock(k, at)
	defer s.mu.Unlock()
	e := s.get(k, at)
	if e != nil && onlyNew {
		return false, nil
	}
	if e == nil {
		m.put(s, k, &entry{value: value, expires: at + ttl.Microseconds()})
		return true, nil
	}
	e.value, e.expires = value, at+ttl.Microseconds()
	m.resize(s, e)
	return true, nil
}
