package proxy

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/moongate/moongate/policy"
)

// pool holds the connections to one hop. Those in use and those that wait
// count together towards MaxConns. With identity none and xforward any session
// may use a waiting one; with proxy and xclient it belongs to the session that
// it was dialled for.
type pool struct {
	mu      sync.Mutex
	open    int     // connections, dials under way included
	idle    []*conn // waiting, oldest first
	waiters []*waiter
	closed  bool
	reaper  *time.Timer
}

// waiter is a session that waits for a connection.
type waiter struct {
	ready chan *conn // nil: dial, a place is kept for you
}

var (
	errFull      = errors.New("no free connection")
	errHopClosed = errors.New("hop is closed")
)

// take returns a waiting connection fit for f, or nil with a place to dial.
func (h *Hop) take(ctx context.Context, f *policy.Facts) (*conn, error) {
	p := &h.pool
	p.mu.Lock()
	if p.closed {
		p.mu.Unlock()
		return nil, &HopError{Op: "wait", Reply: hopDown, Err: errHopClosed}
	}
	if c := h.match(f); c != nil {
		p.mu.Unlock()
		return c, nil
	}
	if p.open < h.maxConns() {
		p.open++
		h.Metrics.opened(p.open)
		p.mu.Unlock()
		return nil, nil
	}
	if len(p.idle) > 0 { // another session's: this one needs the place more
		c := p.idle[0]
		p.idle = p.idle[1:]
		p.mu.Unlock()
		c.quit()
		c.destroy()
		return nil, nil // its place
	}
	w := &waiter{ready: make(chan *conn, 1)}
	p.waiters = append(p.waiters, w)
	p.mu.Unlock()
	return h.await(ctx, w)
}

func (h *Hop) await(ctx context.Context, w *waiter) (*conn, error) {
	t := time.NewTimer(h.wait() / 8 * 7) // the rest is for the greeting
	defer t.Stop()
	err := errFull
	select {
	case c := <-w.ready:
		return c, nil
	case <-t.C:
	case <-ctx.Done():
		err = context.Cause(ctx)
	}
	p := &h.pool
	p.mu.Lock()
	for i, x := range p.waiters {
		if x == w {
			p.waiters = append(p.waiters[:i], p.waiters[i+1:]...)
			p.mu.Unlock()
			h.Metrics.waited()
			return nil, &HopError{Op: "wait", Reply: hopBusy, Err: err}
		}
	}
	p.mu.Unlock()
	return <-w.ready, nil // given in the same moment
}

// match takes a waiting connection that f may use. The newest one first: the
// oldest get to retire.
func (h *Hop) match(f *policy.Facts) *conn {
	p := &h.pool
	for i := len(p.idle) - 1; i >= 0; i-- {
		c := p.idle[i]
		if h.KnowsClient() && c.owner.ID != f.ID {
			continue
		}
		p.idle = append(p.idle[:i], p.idle[i+1:]...)
		return c
	}
	return nil
}

// spare reports whether a connection waits that any client may use.
func (h *Hop) spare() bool {
	if h.KnowsClient() {
		return false
	}
	h.pool.mu.Lock()
	defer h.pool.mu.Unlock()
	return len(h.pool.idle) > 0
}

// wanted reports whether somebody waits for a connection.
func (h *Hop) wanted() bool {
	h.pool.mu.Lock()
	defer h.pool.mu.Unlock()
	return len(h.pool.waiters) > 0
}

// put makes a connection wait for its next use.
func (h *Hop) put(c *conn) {
	p := &h.pool
	p.mu.Lock()
	if p.closed || h.KnowsClient() && len(p.waiters) > 0 {
		p.mu.Unlock()
		c.quit()
		h.drop(c)
		return
	}
	if len(p.waiters) > 0 {
		w := p.waiters[0]
		p.waiters = p.waiters[1:]
		p.mu.Unlock()
		w.ready <- c
		return
	}
	c.idle = time.Now()
	p.idle = append(p.idle, c)
	if p.reaper == nil {
		p.reaper = time.AfterFunc(h.idleAfter(), h.reap)
	}
	p.mu.Unlock()
}

// drop closes a connection and gives its place away.
func (h *Hop) drop(c *conn) {
	c.destroy()
	h.leave()
}

// leave gives a place away.
func (h *Hop) leave() {
	p := &h.pool
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiters) > 0 && !p.closed {
		w := p.waiters[0]
		p.waiters = p.waiters[1:]
		w.ready <- nil
		return
	}
	p.open--
	h.Metrics.opened(p.open)
}

// reap retires connections that have waited long enough, and comes again while
// any is waiting.
func (h *Hop) reap() {
	p := &h.pool
	now := time.Now()
	var old []*conn
	next := time.Duration(0)
	p.mu.Lock()
	keep := p.idle[:0]
	for _, c := range p.idle {
		left := min(h.idleAfter()-now.Sub(c.idle), h.maxAge()-now.Sub(c.born))
		if left <= 0 || p.closed {
			old = append(old, c)
			continue
		}
		keep = append(keep, c)
		if next == 0 || left < next {
			next = left
		}
	}
	clear(p.idle[len(keep):])
	p.idle = keep
	if next > 0 && !p.closed {
		p.reaper.Reset(next)
	} else {
		p.reaper = nil
	}
	p.mu.Unlock()
	h.retire(old)
}

// retire says QUIT on each and closes it. Side by side: an upstream that hangs
// costs the time of one.
func (h *Hop) retire(old []*conn) {
	var wg sync.WaitGroup
	for _, c := range old {
		wg.Go(func() {
			c.quit()
			h.drop(c)
		})
	}
	wg.Wait()
}

// Forget closes the connection kept for that session, if there is one. Called
// when a session ends.
func (h *Hop) Forget(sessionID string) {
	if !h.KnowsClient() {
		return
	}
	p := &h.pool
	p.mu.Lock()
	var c *conn
	for i, x := range p.idle {
		if x.owner.ID == sessionID {
			c = x
			p.idle = append(p.idle[:i], p.idle[i+1:]...)
			break
		}
	}
	p.mu.Unlock()
	if c != nil {
		c.quit()
		h.drop(c)
	}
}

// Close closes the waiting connections; those in use are closed when they are
// returned. Get fails from now on.
func (h *Hop) Close() error {
	p := &h.pool
	p.mu.Lock()
	p.closed = true
	old := p.idle
	p.idle = nil
	if p.reaper != nil {
		p.reaper.Stop()
		p.reaper = nil
	}
	p.mu.Unlock()
	h.retire(old)
	h.breaker.stop()
	return nil
}
