package proxy

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// poller looks at a socket without reading from it.
type poller struct {
	raw   syscall.RawConn // nil: cannot be looked at
	look  func(fd uintptr)
	ready bool
}

// watch makes the poller look at c, or at what c encrypts for.
func (p *poller) watch(c net.Conn) {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = t.NetConn()
	}
	s, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	raw, _ := s.SyscallConn()
	p.watchRaw(raw)
}

func (p *poller) watchRaw(raw syscall.RawConn) { p.raw, p.look = raw, p.peek }

// silent reports whether the socket is open and has nothing to read. One that
// cannot be looked at counts as silent.
func (p *poller) silent() bool {
	if p.raw == nil {
		return true
	}
	p.ready = false
	err := p.raw.Control(p.look)
	return err == nil && !p.ready
}

func (p *poller) peek(fd uintptr) {
	fds := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN | unix.POLLRDHUP}}
	n, err := unix.Poll(fds[:], 0)
	p.ready = n > 0 && err == nil
}
