package logsink

import (
	"bytes"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap/zapcore"
)

var newline = []byte{'\n'}

const (
	// ringSize is how many bytes of lines wait for a slow reader. The last of
	// them may reach beyond it: the line of a message with many recipients is
	// longer than that, and no less owed.
	ringSize = 4 << 20

	// gather is the shortest time between two writes. A line after a quiet
	// moment is out at once; under load, when each write would wake somebody
	// for one line, they leave together.
	gather = 20 * time.Millisecond
)

// Ring is a zapcore.WriteSyncer that never blocks. Make it with newRing; Close
// ends its goroutine.
type Ring struct {
	out     io.Writer
	dropped atomic.Int64
	onDrop  func(n int64) // called by the writer when lines were dropped; it may log
	telling atomic.Bool   // it does: what it says is not dropped

	mu      sync.Mutex // guards what follows
	waiting []byte     // lines to be written
	busy    bool       // the writer holds lines that are not out yet
	closed  bool
	wake    *sync.Cond    // waiting has grown, or closed
	idle    *sync.Cond    // the writer has nothing left
	hurry   chan struct{} // ends the gathering
	ended   chan struct{}
}

var _ zapcore.WriteSyncer = (*Ring)(nil)

func newRing(out io.Writer, onDrop func(int64)) *Ring {
	r := &Ring{out: out, onDrop: onDrop, hurry: make(chan struct{}, 1), ended: make(chan struct{})}
	r.wake, r.idle = sync.NewCond(&r.mu), sync.NewCond(&r.mu)
	go r.drain()
	return r
}

// Write takes one line, or drops it. It never fails: nobody could act on it.
func (r *Ring) Write(line []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || len(r.waiting) >= ringSize && !r.telling.Load() {
		r.dropped.Add(1)
		return len(line), nil
	}
	r.waiting = append(r.waiting, line...)
	r.wake.Signal()
	if len(r.waiting) > ringSize/8 {
		r.hasten()
	}
	return len(line), nil
}

// hasten ends the gathering of lines, now or the next one.
func (r *Ring) hasten() {
	select {
	case r.hurry <- struct{}{}:
	default:
	}
}

// Dropped is how many lines were dropped since the start.
func (r *Ring) Dropped() int64 { return r.dropped.Load() }

// drain is the one writer. Two buffers change places: one is filled while the
// other is written.
func (r *Ring) drain() {
	defer close(r.ended)
	var spare []byte
	var told int64
	var last time.Time // of the last write
	pause := time.NewTimer(0)
	defer pause.Stop()
	r.mu.Lock()
	defer r.mu.Unlock()
	for {
		for len(r.waiting) == 0 && !r.closed {
			r.wake.Wait()
		}
		if len(r.waiting) == 0 {
			return
		}
		if left := gather - time.Since(last); left > 0 && !r.closed {
			r.mu.Unlock()
			pause.Reset(left)
			select {
			case <-pause.C:
			case <-r.hurry:
			}
			r.mu.Lock()
		}
		lines := r.waiting
		r.waiting, r.busy = spare[:0], true
		r.mu.Unlock()

		_, err := r.out.Write(lines)
		last = time.Now()
		failed := err != nil
		if failed { // nowhere to say so: counted, and told when it can be written again
			r.dropped.Add(int64(bytes.Count(lines, newline)))
		}
		if n := r.dropped.Load(); n > told && r.onDrop != nil && !failed {
			r.telling.Store(true)
			r.onDrop(n - told)
			r.telling.Store(false)
			told = n
		}

		r.mu.Lock()
		spare, r.busy = lines, false
		if cap(spare) > 64<<10 { // one flood must not cost memory for ever
			spare = nil
		}
		r.idle.Broadcast()
	}
}

// Sync waits until all lines are out, at most one second.
func (r *Ring) Sync() error {
	r.wait(time.Second)
	return nil
}

func (r *Ring) wait(limit time.Duration) {
	late := false
	timer := time.AfterFunc(limit, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		late = true
		r.idle.Broadcast()
	})
	defer timer.Stop()
	r.hasten()
	r.mu.Lock()
	defer r.mu.Unlock()
	for (len(r.waiting) > 0 || r.busy) && !late {
		r.idle.Wait()
	}
}

// Close writes what is left, for at most limit, and ends the ring. Later lines
// are dropped.
func (r *Ring) Close(limit time.Duration) {
	late := time.NewTimer(limit)
	defer late.Stop()
	r.wait(limit) // what is told of dropped lines has its chance, too
	r.mu.Lock()
	r.closed = true
	r.wake.Signal()
	r.mu.Unlock()
	r.hasten()
	select {
	case <-r.ended:
	case <-late.C: // the reader is stuck
	}
}
