package main

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/moongate/moongate/internal/socket"
)

// Nobody has to ask: a door whose file is gone is open again at the next look, and
// the socket that nobody finds is closed.
func TestDoorsAreLookedAfter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	p := place{table: "listener[0]", Place: socket.Place{Address: "unix:" + path}}
	synctest.Test(t, func(t *testing.T) {
		l, err := p.Listen()
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		h := &house{log: zap.NewNop(), ctx: ctx, doors: []*door{{place: p, l: l, serve: func(net.Listener) error { <-ctx.Done(); return nil }}}}
		h.setPhase("")
		h.work.Go(func() { h.lookAfterDoors(ctx) })
		time.Sleep(lookEvery + time.Second)
		if h.doors[0].listener() != l {
			t.Error("it was there")
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		time.Sleep(lookEvery)
		if _, err := os.Lstat(path); err != nil || h.doors[0].listener() == l || h.health() != nil {
			t.Errorf("it is not open: %v, %v", err, h.health())
		}
		time.Sleep(lastCalls)
		if _, err := l.Accept(); err == nil {
			t.Error("the old socket is open")
		}
		h.setPhase("stopped")
		os.Remove(path)
		time.Sleep(2 * lookEvery)
		if _, err := os.Lstat(path); err == nil {
			t.Error("it is opened behind the end")
		}
		cancel()
		h.work.Wait()
		h.doors[0].listener().Close()
	})
}
