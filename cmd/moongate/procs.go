package main

import (
	"context"
	"os"
	"runtime"
	"syscall"
	"time"
)

// A milter shares its machine with an MTA that does most of the work. With more
// than one processor Go wakes a second thread for each packet that arrives, to
// look for work that is not there. So while it is not busy it uses one; all are
// there within a tenth of a second of the first need.
const (
	rushShare  = 60 // per cent of one processor, from which on all are used
	rushQueue  = 8  // goroutines that could run and do not, the same
	quietShare = 30 // per cent of one processor, below which one is enough,
	quietFor   = 5 * time.Second
)

// shift is how many processors are wanted just now.
type shift struct {
	all   bool
	quiet time.Duration // since the last moment that was not
}

// after tells what was seen in an interval: the processor time that was used,
// and how many goroutines wait to run. It reports whether all are wanted.
func (s *shift) after(interval, used time.Duration, runnable uint64) bool {
	share := int(100 * used / interval)
	switch {
	case share >= rushShare || runnable > rushQueue:
		s.all, s.quiet = true, 0
	case share >= quietShare:
		s.quiet = 0
	default:
		if s.quiet += interval; s.quiet >= quietFor {
			s.all = false
		}
	}
	return s.all
}

// roster sets how many processors a moongate uses that is a milter and nothing
// else, until ctx ends. GOMAXPROCS in the environment means that the operator
// does.
func roster(ctx context.Context) {
	if os.Getenv("GOMAXPROCS") != "" {
		return
	}
	defer runtime.SetDefaultGOMAXPROCS()
	runtime.GOMAXPROCS(1)
	var s shift
	all, last, used := false, time.Now(), cpuTime()
	t := time.NewTicker(look)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			spent := cpuTime()
			want := s.after(max(now.Sub(last), time.Millisecond), spent-used, sample("/sched/goroutines/runnable:goroutines"))
			last, used = now, spent
			switch {
			case want && !all:
				runtime.SetDefaultGOMAXPROCS()
			case !want && all:
				runtime.GOMAXPROCS(1)
			}
			all = want
		}
	}
}

// cpuTime is the processor time of this process so far.
func cpuTime() time.Duration {
	var r syscall.Rusage
	if syscall.Getrusage(syscall.RUSAGE_SELF, &r) != nil {
		return 0
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
