package lua

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// A few instructions have no bound of their own: a == b of two strings of megabytes, #t of a table with a gap, t[k] with a
// key as long. A million of them take minutes. Builtins pay for their length, but these are the VM's. So where instructions
// seem to be dear, the processor's time is looked at, and each costs as many as it took microseconds. Honest code takes a
// hundredth of that, on any machine.
//
// It is the time of this thread that counts, and nobody else runs on it meanwhile: a busy machine, which stretches the wall
// clock, makes nothing dear. The wall clock only says when a look is worth it.

// dearAfter is the time an instruction may take, on the average between two looks, before it is dear. Only a build with the
// race detector, where all code takes longer, changes it, and a test that wants no clock at all.
var dearAfter = 2 * time.Microsecond

// watchFor is how many looks without anything dear end the watch.
const watchFor = 16

// watch is what the meter knows of the time that instructions take.
type watch struct {
	looked time.Time     // when the last look was; zero if something else than instructions came between
	left   int           // looks until the watch ends; above 0 the goroutine has its thread for itself
	cpu    time.Duration // of the thread, at the last look
}

// look charges what the instructions since the last look have taken beyond their number.
func (m *Meter) look(now time.Time) {
	w := &m.watch
	limit := time.Duration(m.every) * dearAfter
	if w.left == 0 {
		if !w.looked.IsZero() && now.Sub(w.looked) > limit { // dear, or the machine is busy
			runtime.LockOSThread()
			w.left, w.cpu = watchFor, threadTime()
		}
		w.looked = now
		return
	}
	cpu := threadTime()
	took := cpu - w.cpu
	w.cpu = cpu
	if took > limit {
		m.left -= int64(took/time.Microsecond) - m.every
		w.left = watchFor
	} else if w.left--; w.left == 0 {
		m.Rest()
	}
}

// Rest ends a watch on the time that instructions take: a run that is over, or a builtin that is about to wait, calls it.
// A thread must not be kept for who waits, nor waiting be taken for work.
func (m *Meter) Rest() {
	if m.watch.left > 0 {
		runtime.UnlockOSThread()
	}
	m.watch = watch{}
}

// threadTime is the processor's time that this thread has taken.
func threadTime() time.Duration {
	var t unix.Timespec
	if unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t) != nil {
		return 0
	}
	return time.Duration(t.Nano())
}
