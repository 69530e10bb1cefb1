package socket

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// A Conn is a TCP or unix stream socket. What it embeds keeps the deadlines,
// the addresses and Close.
type Conn struct {
	net.Conn
	raw         syscall.RawConn
	tcp         bool
	read, write transfer
}

// A transfer is one Read or Write under way: its call is bound once, so that
// none allocates.
type transfer struct {
	mu    sync.Mutex
	call  func(fd uintptr) bool // false: wait until the socket is ready
	p     []byte
	flags uintptr
	n     int
	errno syscall.Errno
}

// New makes a Conn of a socket and returns any other connection as it is.
func New(c net.Conn) net.Conn {
	_, tcp := c.(*net.TCPConn)
	if _, local := c.(*net.UnixConn); !tcp && !local {
		return c
	}
	raw, err := c.(syscall.Conn).SyscallConn()
	if err != nil {
		return c
	}
	return open(c, raw, tcp)
}

func open(c net.Conn, raw syscall.RawConn, tcp bool) *Conn {
	s := &Conn{Conn: c, raw: raw, tcp: tcp}
	s.read.call, s.write.call = s.read.recv, s.write.send
	return s
}

func (t *transfer) recv(fd uintptr) bool {
	t.n, t.errno = Recv(fd, t.p)
	return t.errno != unix.EAGAIN
}

func (t *transfer) send(fd uintptr) bool {
	for len(t.p) > 0 {
		n, errno := send(fd, t.p, t.flags)
		if errno != 0 {
			t.errno = errno
			return errno != unix.EAGAIN
		}
		t.n, t.p = t.n+n, t.p[n:]
	}
	t.errno = 0
	return true
}

// run makes the call with these octets, waiting as wait does.
func (t *transfer) run(wait func(func(fd uintptr) bool) error, p []byte, flags uintptr) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.p, t.flags, t.n, t.errno = p, flags, 0, 0
	err := wait(t.call)
	t.p = nil
	if err == nil && t.errno != 0 {
		err = t.errno
	}
	return t.n, err
}

// Read implements net.Conn.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := c.read.run(c.raw.Read, p, 0)
	if err != nil {
		return 0, c.failed("read", err)
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) { return c.put(p, 0) }

// WriteLast is a Write behind which the connection will be closed at once: of a
// TCP connection the kernel keeps the octets for that moment, so that they
// travel with the end of the stream.
func (c *Conn) WriteLast(p []byte) (int, error) { return c.put(p, unix.MSG_MORE) }

func (c *Conn) put(p []byte, flags uintptr) (int, error) {
	n, err := c.write.run(c.raw.Write, p, flags)
	if err != nil {
		return n, c.failed("write", err)
	}
	return n, nil
}

// CloseWrite ends the stream to the peer and goes on reading.
func (c *Conn) CloseWrite() error {
	return c.Conn.(interface{ CloseWrite() error }).CloseWrite()
}

// SyscallConn implements syscall.Conn.
func (c *Conn) SyscallConn() (syscall.RawConn, error) { return c.raw, nil }

// failed gives an error the form that net gives it.
func (c *Conn) failed(op string, err error) error {
	var raw *net.OpError
	switch errno, ok := err.(syscall.Errno); {
	case ok:
		err = os.NewSyscallError(op, errno)
	case errors.As(err, &raw):
		err = raw.Err
	default:
		err = waiting(err)
	}
	local := c.LocalAddr()
	return &net.OpError{Op: op, Net: local.Network(), Source: local, Addr: c.RemoteAddr(), Err: err}
}

// waiting gives an error of the poller, which an accepted socket has as it is,
// the form that net gives it.
func waiting(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return os.ErrDeadlineExceeded
	}
	return net.ErrClosed
}
