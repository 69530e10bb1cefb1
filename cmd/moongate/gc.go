package main

import (
	"context"
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// The heap of a quiet moongate is some megabytes, and at Go's pace it would be
// collected hundreds of times a second under load. So a small heap may grow to
// easyHeap before it is looked at; a large one, of thousands of sessions that
// wait, is kept at little more than what lives.
const (
	easyHeap  = 64 << 20
	tightPace = 25 // per cent of what lives, once that is large

	easyStacks = 48 << 20 // stacks together, before they are looked at
	look       = 100 * time.Millisecond
	atMost     = time.Second // between two collections for the stacks' sake
)

// pace sets the pace of the collector, and again after each collection. GOGC
// or GOMEMLIMIT in the environment mean that the operator does.
func pace() {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	set := func(live, stacks uint64) {
		debug.SetMemoryLimit(int64(ceiling(live, stacks)))
		debug.SetGCPercent(percent(live, stacks))
	}
	set(0, 0)
	afterCollection(func() { set(sample("/gc/heap/live:bytes"), sample("/gc/scan/stack:bytes")) })
}

// ceiling is what the process may grow to before the pace is set again. Between a
// collection and that, the last pace counts: a heap that was small and is not
// any more would grow to the sixteenfold.
func ceiling(live, stacks uint64) uint64 {
	return max(3*easyHeap, 2*(live+stacks)+easyHeap)
}

// shrink collects, and gives what is free back to the system, while the stacks
// grow: stacks shrink in a collection only, and new ones do not bring one
// about. Thousands of sessions that have each been busy for a moment would keep
// what they needed then.
func shrink(ctx context.Context) {
	t := time.NewTicker(look)
	defer t.Stop()
	settled, last := uint64(easyStacks), time.Time{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			stacks := sample("/memory/classes/heap/stacks:bytes")
			if stacks < settled { // the crowd has gone
				settled = max(easyStacks, stacks)
			}
			if stacks < settled+settled/10 || time.Since(last) < atMost {
				continue
			}
			debug.FreeOSMemory()
			last = time.Now()
			settled = max(easyStacks, sample("/memory/classes/heap/stacks:bytes"))
		}
	}
}

// percent is how much a heap with that many live octets may grow, in per cent of
// them and of the stacks: that is how Go counts.
func percent(live, stacks uint64) int {
	live = max(live, 4<<20)
	room := live * tightPace / 100
	if live < easyHeap {
		room = max(room, easyHeap-live)
	}
	return int(max(1, room*100/(live+stacks)))
}

// sample reads a metric of the runtime.
func sample(name string) uint64 {
	s := []metrics.Sample{{Name: name}}
	metrics.Read(s)
	return s[0].Value.Uint64()
}

// afterCollection calls f after each collection, from the goroutine of
// cleanups: an object that nobody holds is gone after one.
func afterCollection(f func()) {
	type canary struct{ _ [16]byte }
	var arm func(int)
	arm = func(int) {
		f()
		c := new(canary)
		runtime.AddCleanup(c, arm, 0)
	}
	runtime.AddCleanup(new(canary), arm, 0)
}
