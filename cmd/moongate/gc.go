package main

import (
	"os"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
)

// The heap of a quiet moongate is some megabytes, and at Go's pace it would be
// collected hundreds of times a second under load. So a small heap may grow to
// easyHeap before it is looked at; a large one, of thousands of sessions that
// wait, is kept at little more than what lives.
const (
	easyHeap  = 64 << 20
	tightPace = 40 // per cent of what lives, once that is large
)

// pace sets the pace of the collector, and again after each collection. GOGC
// or GOMEMLIMIT in the environment mean that the operator does.
func pace() {
	if os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	debug.SetGCPercent(percent(0))
	afterCollection(func() { debug.SetGCPercent(percent(liveHeap())) })
}

// percent is how much a heap with that many live octets may grow.
func percent(live uint64) int {
	if live < 4<<20 {
		live = 4 << 20
	}
	if live >= easyHeap {
		return tightPace
	}
	return max(tightPace, int((easyHeap-live)*100/live))
}

func liveHeap() uint64 {
	s := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
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
