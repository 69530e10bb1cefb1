package proxy

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moongate/moongate/policy"
)

// Many sessions, few connections, and everything that can go wrong: no place is
// lost, none is given twice, and what was promised was taken.
func TestPoolStress(t *testing.T) {
	for _, id := range []Identity{IdentityNone, IdentityProxy} {
		t.Run(fmt.Sprint(id), func(t *testing.T) {
			noLeaks(t)
			up := newRecordingUpstream(t, -1, func(u *recordingUpstream) { u.proxied, u.discard = id == IdentityProxy, true })
			t.Cleanup(up.close)
			h := &Hop{Address: up.l.Addr().String(), Identity: id, Hostname: "moon.example", MaxConns: 4, Wait: 2 * patience}
			var wg sync.WaitGroup
			var taken atomic.Int32
			for i := range 32 {
				wg.Go(func() {
					rnd := rand.New(rand.NewPCG(uint64(i), 7))
					f := &policy.Facts{ID: fmt.Sprint(i)}
					defer h.Forget(f.ID)
					for range 20 {
						stressOnce(t, h, f, rnd, &taken)
					}
				})
			}
			wg.Wait()
			h.pool.mu.Lock()
			open, idle, waiters := h.pool.open, len(h.pool.idle), len(h.pool.waiters)
			h.pool.mu.Unlock()
			if open != idle || waiters != 0 || open > 4 {
				t.Errorf("%d open, %d idle, %d waiting", open, idle, waiters)
			}
			h.Close()
			if messages, _, _, _ := up.got(); len(messages) < int(taken.Load()) || len(messages) == 0 {
				t.Errorf("%d messages were promised, %d arrived", taken.Load(), len(messages))
			}
		})
	}
}

func stressOnce(t *testing.T, h *Hop, f *policy.Facts, rnd *rand.Rand, taken *atomic.Int32) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if rnd.IntN(10) == 0 {
		time.AfterFunc(time.Duration(rnd.IntN(3000))*time.Microsecond, cancel)
	}
	u, err := h.Get(ctx, f)
	if err != nil {
		if ctx.Err() == nil {
			t.Error(err)
		}
		return
	}
	defer u.Return()
	u.Send("MAIL", []byte("FROM:<>"))
	u.Send("RCPT", []byte("TO:<a@b.example>"))
	for range 2 {
		if _, err := u.Reply(ctx); err != nil {
			return
		}
	}
	switch rnd.IntN(8) {
	case 0:
		u.Abort()
		return
	case 1:
		return // an open transaction
	}
	w, _, err := u.Data(ctx)
	if err != nil {
		return
	}
	for range rnd.IntN(3) {
		if _, err := w.Write(make([]byte, 20000)); err != nil {
			return
		}
	}
	if rnd.IntN(8) == 0 {
		return // an open body
	}
	if r, err := w.End(context.Background()); err == nil && r.Code == 250 {
		taken.Add(1)
	}
}
