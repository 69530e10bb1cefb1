package main

import (
	"testing"
	"time"
)

func TestShift(t *testing.T) {
	const tick = 100 * time.Millisecond
	var s shift
	for i, step := range []struct {
		ticks    int
		used     time.Duration
		runnable uint64
		all      bool
	}{
		{1, 0, 0, false},
		{20, 50 * time.Millisecond, 2, false}, // half of one is what one can do
		{1, 90 * time.Millisecond, 0, true},
		{49, time.Millisecond, 0, true}, // a pause is not the end of the rush
		{1, 40 * time.Millisecond, 0, true},
		{49, time.Millisecond, 0, true},
		{1, time.Millisecond, 0, false},
		{1, time.Millisecond, 9, true}, // others have the processors: the queue tells
	} {
		for range step.ticks {
			if got := s.after(tick, step.used, step.runnable); got != step.all && step.ticks == 1 {
				t.Fatalf("step %d: all %v", i, got)
			}
		}
		if s.all != step.all {
			t.Fatalf("step %d: all %v at the end", i, s.all)
		}
	}
}
