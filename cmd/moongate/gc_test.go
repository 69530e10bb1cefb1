package main

import (
	"runtime"
	"testing"
	"time"
)

func TestPace(t *testing.T) {
	for _, tt := range []struct {
		live, stacks uint64
		want         int
	}{
		{0, 0, 1500}, {4 << 20, 0, 1500}, {16 << 20, 0, 300}, {16 << 20, 16 << 20, 150}, {32 << 20, 0, 100},
		{60 << 20, 0, tightPace}, {64 << 20, 64 << 20, tightPace / 2}, {1 << 30, 0, tightPace},
	} {
		if got := percent(tt.live, tt.stacks); got != tt.want {
			t.Errorf("%d MB live, stacks %d MB: %d %%, want %d", tt.live>>20, tt.stacks>>20, got, tt.want)
		}
	}
}

// What may be there before the pace is set again is more than the pace itself
// wants, and no multiple of it.
func TestCeiling(t *testing.T) {
	for _, mb := range []uint64{0, 4, 30, 60, 64, 100, 1 << 10} {
		live := mb << 20
		goal := live + live*uint64(percent(live, 0))/100
		if got := ceiling(live, 0); got < goal+easyHeap/2 || got > 3*max(live, easyHeap) {
			t.Errorf("%d MB live: %d MB, the pace wants %d", mb, got>>20, goal>>20)
		}
	}
}

func TestAfterCollection(t *testing.T) {
	called := make(chan struct{}, 1)
	afterCollection(func() { // to the end of this process: it must never block
		select {
		case called <- struct{}{}:
		default:
		}
	})
	for range 3 { // again and again
		for done := false; !done; {
			runtime.GC() // one that begins before the next object is there finds nothing
			select {
			case <-called:
				done = true
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
}
