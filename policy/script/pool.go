package script

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"time"
)

const (
	maxAge  = 5 * time.Minute // Lua tables and registries never shrink
	maxUses = 10_000
	// lookEvery is how many calls of a state pass between two looks at ages.
	lookEvery = 16
)

// pool holds the states of one version. At most max exist; who finds none free
// waits within his own deadline.
type pool struct {
	make func() (*state, error)
	max  int

	asking atomic.Int64 // states that wait for a lookup

	mu      sync.Mutex
	free    []*state // the last one was used last
	live    int
	closed  bool
	waiting []chan *state // each gets a state, or nil: leave to make one
}

// get borrows a state. A zero deadline means none.
func (p *pool) get(ctx context.Context, deadline time.Time) (*state, error) {
	p.mu.Lock()
	if n := len(p.free); n > 0 {
		x := p.free[n-1]
		p.free = p.free[:n-1]
		p.mu.Unlock()
		return x, nil
	}
	if p.live < p.max {
		p.live++
		p.mu.Unlock()
		return p.fresh()
	}
	turn := make(chan *state, 1)
	p.waiting = append(p.waiting, turn)
	p.mu.Unlock()

	var late <-chan time.Time
	if !deadline.IsZero() {
		t := time.NewTimer(time.Until(deadline))
		defer t.Stop()
		late = t.C
	}
	var err error
	select {
	case x := <-turn:
		return p.taken(x)
	case <-late:
		err = errNoState
	case <-ctx.Done():
		err = errors.New("the client is gone")
	}
	p.mu.Lock()
	for i, t := range p.waiting {
		if t == turn {
			p.waiting = append(p.waiting[:i], p.waiting[i+1:]...)
			p.mu.Unlock()
			return nil, err
		}
	}
	p.mu.Unlock()
	return p.taken(<-turn) // it came in the same moment
}

func (p *pool) taken(x *state) (*state, error) {
	if x == nil {
		return p.fresh()
	}
	return x, nil
}

// fresh makes a state for which live has been counted.
func (p *pool) fresh() (*state, error) {
	x, err := p.make()
	if err != nil {
		p.gone()
		return nil, err
	}
	return x, nil
}

// put takes a state back. One that failed, or is old, is dropped.
func (p *pool) put(x *state) {
	look := x.uses%lookEvery == 0 // the clock costs as much as a small rule
	if x.Dead() || x.uses >= maxUses || look && time.Since(x.born) > maxAge {
		x.Close()
		p.gone()
		return
	}
	p.mu.Lock()
	if len(p.waiting) > 0 {
		turn := p.waiting[0]
		p.waiting = p.waiting[1:]
		p.mu.Unlock()
		turn <- x
		return
	}
	if p.closed {
		p.live--
		p.mu.Unlock()
		x.Close()
		return
	}
	p.free = append(p.free, x)
	// After a burst the states at the bottom are not asked any more.
	var old *state
	if idle := p.free[0]; look && idle != x && time.Since(idle.born) > maxAge {
		old = idle
		p.free = append(p.free[:0], p.free[1:]...)
		p.live--
	}
	p.mu.Unlock()
	if old != nil {
		old.Close()
	}
}

// gone uncounts a state; the next in line may make one.
func (p *pool) gone() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.waiting) > 0 {
		turn := p.waiting[0]
		p.waiting = p.waiting[1:]
		turn <- nil
		return
	}
	p.live--
}

// states says how many exist.
func (p *pool) states() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.live
}

// close lets the pool drain: free states are dropped now, borrowed ones when
// they come back. Transactions that began with this version can still borrow.
func (p *pool) close() {
	p.mu.Lock()
	free := p.free
	p.free, p.closed = nil, true
	p.live -= len(free)
	p.mu.Unlock()
	for _, x := range free {
		x.Close()
	}
}
