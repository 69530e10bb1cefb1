package milter

import (
	"errors"
	"sync"
	"time"
)

// A breaker spares sessions the wait for a filter that is down, or that takes
// connections and answers no more: after breakAfter failures in a row one
// attempt a second is let through.
type breaker struct {
	mu    sync.Mutex
	fails int
	ill   bool // one of them was in a conversation: that it takes connections says nothing
	next  time.Time
}

const (
	breakAfter = 5
	probeEvery = time.Second
)

var errBreaker = errors.New("not tried again yet after several failures")

// allow reports whether the filter may be tried now.
func (b *breaker) allow() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fails < breakAfter {
		return true
	}
	now := time.Now()
	if now.Before(b.next) {
		return false
	}
	b.next = now.Add(probeEvery)
	return true
}

// failed notes that the filter could not be reached, or not be asked to the end.
func (b *breaker) failed(reached bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ill = b.ill || reached
	if b.fails++; b.fails == breakAfter {
		b.next = time.Now().Add(probeEvery)
	}
}

// reached notes that the filter was told of a client and has answered: one that
// was only away is back.
func (b *breaker) reached() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.ill {
		b.fails = 0
	}
}

// served notes that the filter has done its work: it has judged a message, or
// decided something before.
func (b *breaker) served() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.fails, b.ill = 0, false
}
