package main

import (
	"os"
	"os/signal"
	"syscall"
)

// signals are what an operator says to a running process. The two kinds have a
// channel each: a storm of SIGHUP (log rotation, a nervous script) must neither
// crowd out a SIGTERM nor be taken for a second one, which cuts messages off.
type signals struct {
	reload chan os.Signal // one waits while another is obeyed; more say nothing new
	end    chan os.Signal // the first one drains, a second one closes at once
}

// heed makes signals ours to answer, to the end of the process: one that comes
// while it is closing must not turn its exit code 0 into a death by signal.
func heed() signals {
	s := signals{make(chan os.Signal, 1), make(chan os.Signal, 2)}
	signal.Notify(s.reload, syscall.SIGHUP)
	signal.Notify(s.end, os.Interrupt, syscall.SIGTERM)
	return s
}
