package state

import (
	"crypto/sha256"
	"hash/maphash"
	"sync"
	"sync/atomic"
	"time"
)

const (
	shards = 64
	// maxKey is the longest key kept as it is, in octets.
	maxKey = 256
	// overhead is what an entry costs besides its key and value: the entry,
	// its place in the map and in the list, rounded up.
	overhead = 192
	// DefaultBytes is the memory of a store made with 0.
	DefaultBytes = 128 << 20
)

// Memory is a store in the memory of this process. It is safe for concurrent
// use.
type Memory struct {
	seed    maphash.Seed
	budget  int64        // octets of one shard
	latest  atomic.Int64 // the latest time any call brought, in microseconds
	evicted atomic.Int64
	shards  [shards]shard
}

// New makes a store that uses about maxBytes octets, 0 meaning DefaultBytes.
func New(maxBytes int64) *Memory {
	if maxBytes <= 0 {
		maxBytes = DefaultBytes
	}
	m := &Memory{seed: maphash.MakeSeed(), budget: max(maxBytes/shards, 4*overhead)}
	for i := range m.shards {
		m.shards[i].init()
	}
	return m
}

// Stats says how full a store is.
type Stats struct {
	Keys, Bytes int64
	Evicted     int64 // keys forgotten for want of room, ever
}

// Stats counts keys and octets.
func (m *Memory) Stats() Stats {
	st := Stats{Evicted: m.evicted.Load()}
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		st.Keys += int64(len(s.entries))
		st.Bytes += s.bytes
		s.mu.Unlock()
	}
	return st
}

// Sweep drops all that has expired at now. Calls sweep by the way, so this is
// for a store that nobody asks.
func (m *Memory) Sweep(now time.Time) {
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		for _, e := range s.entries {
			if e.expired(now.UnixMicro()) {
				s.drop(e)
			}
		}
		s.mu.Unlock()
	}
}

// The kinds of entries; one name may stand for a limit and a counter.
const (
	kindLimit   = 'l'
	kindCounter = 'c'
	kindCache   = 'v'
)

// keyBuf holds the key of most entries without allocation.
type keyBuf [384]byte

// key is the entry's name in the map: kind, name, NUL, key.
func (b *keyBuf) key(kind byte, name, key string) []byte {
	k := append(b[:0], kind)
	k = append(k, name...)
	k = append(k, 0)
	if len(key) > maxKey {
		sum := sha256.Sum256([]byte(key))
		k = append(k, 0, 'h') // no key of 256 octets or less looks like it: it is 34 octets behind two NULs
		return append(k, sum[:]...)
	}
	return append(k, key...)
}

// lock finds the shard of a key and locks it.
func (m *Memory) lock(k []byte, now int64) *shard {
	for {
		was := m.latest.Load()
		if now <= was || m.latest.CompareAndSwap(was, now) {
			break
		}
	}
	s := &m.shards[maphash.Bytes(m.seed, k)%shards]
	s.mu.Lock()
	s.calls++
	if s.calls%16 == 0 {
		s.sweepSome(now)
	}
	return s
}

// shard is one part of the store.
type shard struct {
	mu      sync.Mutex
	entries map[string]*entry
	lru     entry // the list's ends: lru.next was used last, lru.prev is forgotten first
	bytes   int64
	calls   uint64
}

// entry is one limit's key, counter or cached value.
type entry struct {
	key        string
	prev, next *entry
	cells      []cell // limits
	count      int64  // counters
	value      []byte // caches; never changed once stored
	expires    int64  // microseconds; for limits the latest TAT
	size       int64
}

func (e *entry) expired(now int64) bool { return e.expires <= now }

func (s *shard) init() {
	s.entries = make(map[string]*entry)
	s.lru.next, s.lru.prev = &s.lru, &s.lru
}

// get returns the live entry, which becomes the last used one; nil if there is
// none.
func (s *shard) get(k []byte, now int64) *entry {
	e := s.entries[string(k)]
	if e == nil {
		return nil
	}
	if e.expired(now) {
		s.drop(e)
		return nil
	}
	e.unlink()
	s.front(e)
	return e
}

// put adds an entry; what is too much is forgotten.
func (m *Memory) put(s *shard, k []byte, e *entry) {
	e.key = string(k)
	s.entries[e.key] = e
	s.front(e)
	m.resize(s, e)
}

// resize accounts for an entry whose value changed.
func (m *Memory) resize(s *shard, e *entry) {
	size := int64(overhead + len(e.key) + len(e.value) + len(e.cells)*cellSize)
	s.bytes += size - e.size
	e.size = size
	for s.bytes > m.budget && s.lru.prev != e {
		s.drop(s.lru.prev)
		m.evicted.Add(1)
	}
}

func (s *shard) front(e *entry) {
	e.prev, e.next = &s.lru, s.lru.next
	e.prev.next, e.next.prev = e, e
}

func (e *entry) unlink() { e.prev.next, e.next.prev = e.next, e.prev }

func (s *shard) drop(e *entry) {
	e.unlink()
	delete(s.entries, e.key)
	s.bytes -= e.size
}

// sweepSome looks at a few entries, wherever the map begins: dead ones leave
// sooner or later at a cost that no call notices.
func (s *shard) sweepSome(now int64) {
	n := 0
	for _, e := range s.entries {
		if e.expired(now) {
			s.drop(e)
		}
		if n++; n == 32 {
			return
		}
	}
}
