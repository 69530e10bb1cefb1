package proxy

import (
	"context"
	"sync"
	"time"

	"github.com/moongate/moongate/policy"
)

// After breakerAfter failures in a row the breaker opens; while it is open one
// dial in breakerEvery is let through.
const (
	breakerAfter = 3
	breakerEvery = time.Second
)

// breaker knows whether an upstream can be reached at all. It counts failed
// dials and greetings, and nothing that an upstream says afterwards. The zero
// breaker is closed.
type breaker struct {
	mu       sync.Mutex
	failures int       // in a row
	busy     bool      // the last of them: it is there, and takes nobody
	last     time.Time // of the last dial that was let through
	stopped  bool
	cancel   context.CancelFunc // of the probe that is under way
	probes   sync.WaitGroup
}

func (b *breaker) open() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.failures >= breakerAfter
}

// allow reports whether a dial may be tried now.
func (b *breaker) allow() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.turn()
}

func (b *breaker) turn() bool {
	if b.failures < breakerAfter {
		return true
	}
	now := time.Now()
	if now.Sub(b.last) < breakerEvery {
		return false
	}
	b.last = now
	return true
}

// failed counts a failure and reports whether it opened the breaker.
func (b *breaker) failed(busy bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.failures++
	b.busy, b.last = busy, time.Now()
	return b.failures == breakerAfter
}

// succeeded closes the breaker and reports whether it was open.
func (b *breaker) succeeded() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.failures >= breakerAfter
	b.failures = 0
	return was
}

// refusal is what a client hears whose dial was not let through: what the last
// one heard that was.
func (b *breaker) refusal() policy.Reply {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.busy {
		return hopBusy
	}
	return hopDown
}

// probe lets dial run beside, if none is under way and the last attempt was a
// second ago.
func (b *breaker) probe(dial func(context.Context) error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	now := time.Now()
	if b.stopped || b.cancel != nil || now.Sub(b.last) < breakerEvery {
		return
	}
	b.last = now
	ctx, cancel := context.WithCancel(context.Background())
	b.cancel = cancel
	b.probes.Add(1)
	go b.run(ctx, dial)
}

func (b *breaker) run(ctx context.Context, dial func(context.Context) error) {
	defer b.probes.Done()
	dial(ctx) // it tells us how it went
	b.mu.Lock()
	defer b.mu.Unlock()
	b.cancel()
	b.cancel = nil
}

// stop ends a probe and waits for its end.
func (b *breaker) stop() {
	b.mu.Lock()
	b.stopped = true
	if b.cancel != nil {
		b.cancel()
	}
	b.mu.Unlock()
	b.probes.Wait()
}
