package socket

import (
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// A View is what a look at a peer shows. None of it: the peer is silent.
type View uint8

const (
	Data  View = 1 << iota // octets wait to be read
	Ended                  // nothing follows them: the peer has closed its direction
	Lost                   // both directions are over: a reset, or an error
)

// A Peer is looked at through its socket, of which nothing is read. It has one
// user at a time.
type Peer struct {
	raw   syscall.RawConn // nil: cannot be looked at
	look  func(fd uintptr)
	shown View
}

// PeerOf is the other side of c, or of what c encrypts for.
func PeerOf(c net.Conn) *Peer {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = t.NetConn()
	}
	p := &Peer{}
	if s, ok := c.(syscall.Conn); ok {
		if raw, err := s.SyscallConn(); err == nil {
			p.raw, p.look = raw, p.see
		}
	}
	return p
}

// Known reports whether the peer can be looked at: whether c is a socket.
func (p *Peer) Known() bool { return p != nil && p.raw != nil }

// Silent reports whether the connection is open and has nothing to read, as far
// as can be seen.
func (p *Peer) Silent() bool {
	v, err := p.Look()
	return v == 0 && err == nil
}

// Look shows the peer as it is now. One that cannot be looked at seems silent.
// An error says that our own side is closed.
func (p *Peer) Look() (View, error) {
	if p == nil || p.raw == nil {
		return 0, nil
	}
	p.shown = 0
	err := p.raw.Control(p.look)
	return p.shown, err
}

func (p *Peer) see(fd uintptr) {
	events, errno := poll(fd, unix.POLLIN|unix.POLLRDHUP)
	if errno != 0 {
		return
	}
	waits := events&unix.POLLIN != 0
	if events&unix.POLLRDHUP != 0 {
		p.shown |= Ended
		n, errno := unread(fd) // POLLIN tells of the end, too
		waits = errno != 0 || n > 0
	}
	if waits {
		p.shown |= Data
	}
	if events&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) != 0 {
		p.shown |= Lost
	}
}
