package milter

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// A quickConn acknowledges at once what it reads. Both Postfix and libmilter
// write several small packets without waiting for an answer, with Nagle's
// algorithm on: each waits for the acknowledgement of the one before, and the
// kernel's delayed acknowledgement makes that 40 ms, four times a message.
type quickConn struct {
	net.Conn
	raw syscall.RawConn
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
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.raw.Control(quickAck)
	}
	return n, err
}

func quickAck(fd uintptr) { unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_QUICKACK, 1) }
