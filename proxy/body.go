package proxy

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/moongate/moongate/policy"
)

const (
	bodyBuffer = 32 << 10
	bodyAge    = 5 * time.Second // what a slow client sent is not kept back longer
	earlyWait  = 2 * time.Second // for the rest of a reply whose beginning is here
)

var bodyPool = sync.Pool{New: func() any { return new([bodyBuffer]byte) }}

var (
	errEarly = errors.New("upstream spoke before the final dot")
	longAgo  = time.Unix(1, 0) // a deadline that ends a wait now
)

// body writes a message behind DATA. What fits one buffer goes out with the
// dot in one write. Of a bigger one the read side is watched meanwhile: an
// upstream that refuses or goes away in the middle is noticed, even if it
// reads no more and the writer is stuck.
type body struct {
	c    *conn
	ctx  context.Context // of Data: it bounds the writes up to End
	stop func() bool
	enc  encoder
	buf  *[bodyBuffer]byte
	n    int
	last time.Time // of the last write to the socket
	err  error

	spoke atomic.Bool // the watcher saw octets or an end
	done  chan struct{}
}

func newBody(ctx context.Context, c *conn, stop func() bool) *body {
	b := &body{c: c, ctx: ctx, stop: stop, last: time.Now(), buf: bodyPool.Get().(*[bodyBuffer]byte)}
	b.enc.w = (*bodyOut)(b)
	return b
}

func (b *body) Write(p []byte) (int, error) {
	if b.err != nil {
		return 0, b.err
	}
	n, err := b.enc.Write(p)
	if err == nil && b.n > 0 && time.Since(b.last) >= bodyAge {
		err = b.flush(true)
	}
	if err != nil {
		return n, b.fail(err)
	}
	return n, nil
}

// bodyOut is where the encoder writes: the buffer.
type bodyOut body

func (o *bodyOut) Write(p []byte) (int, error) {
	b := (*body)(o)
	for rest := p; len(rest) > 0; {
		if b.n == bodyBuffer {
			if err := b.flush(true); err != nil {
				return 0, err
			}
		}
		k := copy(b.buf[b.n:], rest)
		b.n += k
		rest = rest[k:]
	}
	return len(p), nil
}

// flush writes the buffer. more: it is not the last one.
func (b *body) flush(more bool) error {
	if more && b.done == nil {
		b.done = make(chan struct{})
		b.c.rd.SetDeadline(time.Time{})
		go b.watchUpstream()
	}
	b.c.nc.SetWriteDeadline(time.Now().Add(b.c.hop.block()))
	if b.spoke.Load() { // looked at behind SetWriteDeadline: see watchUpstream
		return errEarly
	}
	_, err := b.c.nc.Write(b.buf[:b.n])
	b.n, b.last = 0, time.Now()
	if b.spoke.Load() {
		return errEarly
	}
	return err
}

// watchUpstream waits until the upstream says something or goes away, and then
// frees a writer that is stuck. End and fail end it.
func (b *body) watchUpstream() {
	defer close(b.done)
	if err := b.c.rd.Watch(); errors.Is(err, os.ErrDeadlineExceeded) {
		return // b.unwatch wants the reader back
	}
	b.spoke.Store(true)
	b.c.nc.SetWriteDeadline(longAgo)
}

// unwatch ends the watcher and takes the reader back.
func (b *body) unwatch() {
	if b.done == nil {
		return
	}
	b.c.rd.SetDeadline(longAgo)
	<-b.done
}

func (b *body) End(ctx context.Context) (policy.Reply, error) {
	if b.err != nil {
		return policy.Reply{}, b.err
	}
	if err := b.enc.End(); err != nil {
		return policy.Reply{}, b.fail(err)
	}
	b.unwatch()
	// From here on Data's context, the client's, has no say any more: with the
	// dot on its way his leaving must not lose the reply. docs/mail.md 12.
	if !b.stop() || b.spoke.Load() || !b.c.Alive() {
		return policy.Reply{}, b.fail(errEarly)
	}
	defer b.c.guard(ctx)()
	if err := b.flush(false); err != nil {
		// The last octet of the dot did not leave: this message cannot have
		// been taken.
		return policy.Reply{}, b.fail(err)
	}
	r, err := b.c.read(ctx, b.c.hop.final())
	if err == nil && r.Code/100 == 3 {
		err = fmt.Errorf("%w: %s", errStrange, r)
	}
	b.close()
	if err != nil {
		b.c.Abort()
		if cause := context.Cause(ctx); cause != nil {
			err = fmt.Errorf("%w: %w", cause, err)
		}
		b.err = &HopError{Op: "dot", Reply: hopUnsure, Said: r, Err: err, Ambiguous: true}
		return policy.Reply{}, b.err
	}
	b.c.ended(r)
	b.err = b.c.misuse()
	return r, nil
}

func (b *body) Abort() {
	b.c.Abort()
	b.unwatch()
	b.close()
	if b.err == nil {
		b.err = b.c.misuse()
	}
}

// fail ends the body without a dot. If the upstream said why, that is the
// reply.
func (b *body) fail(err error) error {
	b.unwatch()
	e := &HopError{Op: "body", Reply: hopDown, Err: err}
	if cause := context.Cause(b.ctx); cause != nil {
		e.Err = cause
	} else if r, rerr := b.c.read(b.ctx, earlyWait); rerr == nil {
		e.Said, e.Early = r, r.Refuses()
		switch { // as of a reply to the dot: hopSaid
		case r.Code == 421 && !b.c.hop.KnowsClient(): // docs/mail.md 11
			e.Reply = hopBusy
		case r.Refuses() && !ourFault(r.Code): // docs/mail.md 20
			e.Reply, e.Verdict = r, true
		}
	}
	b.c.Abort()
	b.close()
	b.err = e
	return e
}

// close gives the buffer back and ends the guard.
func (b *body) close() {
	if b.buf != nil {
		bodyPool.Put(b.buf)
		b.buf, b.n = nil, 0
		b.stop()
	}
}

func (c *conn) misuse() error { return &HopError{Op: "body", Reply: hopDown, Err: errMisuse} }
