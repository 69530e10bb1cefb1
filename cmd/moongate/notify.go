package main

import (
	"net"
	"os"
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
