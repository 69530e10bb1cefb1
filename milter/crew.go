package milter

import (
	"sync"

	"github.com/moongate/moongate/milter/wire"
)

// A crew is the goroutines that serve connections. Most MTAs open one for each
// client, for a few milliseconds; a goroutine that stays has the stack that Lua
// needs and the memory that a connection needs, and need not grow them again.
type crew struct {
	mu   sync.Mutex
	rest []*hand // those without work; who came last is the next to go
	gone bool
}

// resting is how many of a crew may wait for work. A stack that rests is cut
// down by the collector.
const resting = 32

// A hand is one goroutine of a crew, and what it keeps from one connection to
// the next.
type hand struct {
	next   chan *conn
	r      *wire.Reader
	macros macros
	out    []byte
}

func newHand() *hand {
	return &hand{next: make(chan *conn, 1), r: wire.NewReader(nil), macros: make(macros)}
}

// lend gives a connection what it needs.
func (h *hand) lend(c *conn) {
	c.r, c.macros, c.out = h.r, h.macros, h.out
	c.r.Reset(c.nc)
}

// clear takes back what a connection had and forgets what it left there.
func (h *hand) clear(c *conn) {
	h.r.Reset(nil)
	clear(h.macros)
	h.out = c.out[:0]
	if cap(h.out) > 4<<10 {
		h.out = nil
	}
}

// serve gives a connection to a hand.
func (w *crew) serve(c *conn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if n := len(w.rest); n > 0 {
		h := w.rest[n-1]
		w.rest[n-1] = nil
		w.rest = w.rest[:n-1]
		h.next <- c
		return
	}
	h := newHand()
	h.next <- c
	go w.work(h)
}

// work is the goroutine of a hand.
func (w *crew) work(h *hand) {
	for c := range h.next {
		c.serve(h)
		if !w.back(h) {
			return
		}
	}
}

// back reports whether there will be work for h.
func (w *crew) back(h *hand) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.gone || len(w.rest) >= resting {
		return false
	}
	w.rest = append(w.rest, h)
	return true
}

// leave sends those home who rest; the others go when their connection has ended.
func (w *crew) leave() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.gone = true
	for _, h := range w.rest {
		close(h.next)
	}
	w.rest = nil
}
