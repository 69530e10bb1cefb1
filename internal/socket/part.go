package socket

import (
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// soon is how long the descriptor of a parted connection may stay.
const soon = 20 * time.Millisecond

// mostParted is how many of them there may be: when connections come and go in a
// flood, those that are over must not take the descriptors of the others.
const mostParted = 16

// parted are connections that are over, whose descriptors are given back
// together: the runtime brackets close as it does every call that may block.
var parted struct {
	mu    sync.Mutex
	conns []net.Conn
}

// Part ends a connection at once in both directions, and gives its descriptor
// back a moment later, together with those of others. A connection that is no
// socket is closed.
func Part(c net.Conn) {
	s, ok := c.(interface{ part() bool })
	if !ok || !s.part() {
		c.Close()
		return
	}
	parted.mu.Lock()
	parted.conns = append(parted.conns, c)
	n := len(parted.conns)
	parted.mu.Unlock()
	switch n {
	case 1:
		time.AfterFunc(soon, giveBack)
	case mostParted:
		giveBack()
	}
}

// giveBack closes what has parted; when little has, it is a goroutine of its own.
func giveBack() {
	parted.mu.Lock()
	conns := parted.conns
	parted.conns = nil
	parted.mu.Unlock()
	for _, c := range conns {
		c.Close()
	}
}

// part ends both directions of the socket; false says that it is closed.
func (c *Conn) part() bool {
	return c.raw.Control(func(fd uintptr) { shutdown(fd, unix.SHUT_RDWR) }) == nil
}
