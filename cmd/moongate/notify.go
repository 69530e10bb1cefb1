package main

import (
	"net"
	"os"
	"strconv"
	"time"
)

// notify tells systemd how we are (sd_notify(3), Type=notify). Without
// NOTIFY_SOCKET nobody asked, and a failure is nobody's loss: systemd then acts
// as if it had not been told.
func notify(state string) {
	name := os.Getenv("NOTIFY_SOCKET")
	if name == "" {
		return
	}
	if name[0] == '@' { // the abstract namespace
		name = "\x00" + name[1:]
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		return
	}
	defer c.Close()
	c.Write([]byte(state))
}

// watchdog says when systemd wants to hear that we still answer (WatchdogSec=, see
// sd_watchdog_enabled(3)): twice in its time. Nobody wants to: never. Who answers
// signals is who tells, since he who hangs answers none.
func watchdog() <-chan time.Time {
	if pid := os.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return nil
	}
	usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || usec <= 0 || os.Getenv("NOTIFY_SOCKET") == "" {
		return nil
	}
	return time.Tick(time.Duration(usec) * time.Microsecond / 2)
}
