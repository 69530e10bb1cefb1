package milter

import (
	"net"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"
)

// A quickConn acknowledges what it has read when it is about to wait for more
// without having answered. Both Postfix and libmilter write several small
// packets in a row, with Nagle's algorithm on: each waits for the
// acknowledgement of the one before, and the kernel's delayed acknowledgement
// makes that 40 ms, four times a message. An answer carries the
// acknowledgement itself.
type quickConn struct {
	net.Conn
	raw  syscall.RawConn
	owes atomic.Bool // octets were read, and nothing was written since
}

// quick makes a quickConn of a TCP connection and returns any other as it is.
func quick(c net.Conn) net.Conn {
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return c
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return c
	}
	return &quickConn{Conn: c, raw: raw}
}

// Read implements net.Conn. The option does not last, so it is set each time.
func (c *quickConn) Read(p []byte) (int, error) {
	if c.owes.Load() {
		c.raw.Control(quickAck)
	}
	n, err := c.Conn.Read(p)
	c.owes.Store(n > 0)
	return n, err
}

// Write implements net.Conn.
func (c *quickConn) Write(p []byte) (int, error) {
	c.owes.Store(false)
	return c.Conn.Write(p)
}

// SyscallConn implements syscall.Conn.
func (c *quickConn) SyscallConn() (syscall.RawConn, error) { return c.raw, nil }

func quickAck(fd uintptr) { unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) }
