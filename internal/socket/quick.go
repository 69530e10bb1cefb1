package socket

import (
	"net"
	"sync/atomic"
)

// A Quick acknowledges what it has read when it is about to wait for more
// without having answered. Both Postfix and libmilter write several small
// packets in a row, with Nagle's algorithm on: each waits for the
// acknowledgement of the one before, and the kernel's delayed acknowledgement
// makes that 40 ms, four times a message. An answer carries the
// acknowledgement itself.
type Quick struct {
	*Conn
	owes atomic.Bool // octets were read, and nothing was written since
}

// NewQuick makes a Quick of a TCP connection, and of any other what New does.
func NewQuick(c net.Conn) net.Conn {
	c = New(c)
	if s, ok := c.(*Conn); ok && s.tcp {
		return &Quick{Conn: s}
	}
	return c
}

// Read implements net.Conn. The option does not last, so it is set each time.
func (c *Quick) Read(p []byte) (int, error) {
	if c.owes.Load() {
		c.raw.Control(quickAck)
	}
	n, err := c.Conn.Read(p)
	c.owes.Store(n > 0)
	return n, err
}

// Write implements net.Conn.
func (c *Quick) Write(p []byte) (int, error) {
	c.owes.Store(false)
	return c.Conn.Write(p)
}
