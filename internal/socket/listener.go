package socket

import (
	"encoding/binary"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A Listener accepts as a Conn reads. What it accepts is a Conn, without probes
// for a peer that is gone (each wait has its deadline) and without Nagle's
// algorithm.
type Listener struct {
	net.Listener // the address, and the file of a unix socket
	file         *os.File
	raw          syscall.RawConn
	accept       accept
}

// An accept is one Accept under way.
type accept struct {
	mu    sync.Mutex
	call  func(fd uintptr) bool
	fd    int
	from  unix.RawSockaddrAny
	errno syscall.Errno
}

// Listen makes a Listener of a listening socket, which it owns from then on,
// and returns any other listener as it is.
func Listen(l net.Listener) net.Listener {
	s, ok := l.(interface{ File() (*os.File, error) })
	if !ok {
		return l
	}
	f, err := s.File()
	if err != nil {
		return l
	}
	raw, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return l
	}
	ours := &Listener{Listener: l, file: f, raw: raw}
	ours.accept.call = ours.accept.take
	return ours
}

func (a *accept) take(fd uintptr) bool {
	for {
		size := uint32(unsafe.Sizeof(a.from))
		n, _, errno := syscall.RawSyscall6(unix.SYS_ACCEPT4, fd, uintptr(unsafe.Pointer(&a.from)), uintptr(unsafe.Pointer(&size)),
			unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0, 0)
		switch errno {
		case unix.EINTR, unix.ECONNABORTED: // a client that has gone again
			continue
		case unix.EAGAIN:
			return false
		}
		a.fd, a.errno = int(n), errno
		return true
	}
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	fd, peer, err := l.next()
	if err != nil {
		return nil, &net.OpError{Op: "accept", Net: l.Addr().Network(), Addr: l.Addr(), Err: err}
	}
	_, tcp := l.Addr().(*net.TCPAddr)
	if tcp {
		noDelay(fd)
	}
	s := &stream{File: os.NewFile(uintptr(fd), l.Addr().Network()), listener: l.Addr(), peer: peer}
	if s.raw, err = s.File.SyscallConn(); err != nil {
		s.File.Close()
		return nil, err
	}
	return open(s, s.raw, tcp), nil
}

func (l *Listener) next() (fd int, peer netip.AddrPort, err error) {
	a := &l.accept
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := l.raw.Read(a.call); err != nil {
		return 0, peer, waiting(err)
	}
	if a.errno != 0 {
		return 0, peer, os.NewSyscallError("accept4", a.errno)
	}
	return a.fd, addrPort(&a.from), nil
}

// addrPort is the address of a TCP peer, not valid for any other.
func addrPort(from *unix.RawSockaddrAny) netip.AddrPort {
	switch from.Addr.Family {
	case unix.AF_INET:
		in := (*unix.RawSockaddrInet4)(unsafe.Pointer(from))
		return netip.AddrPortFrom(netip.AddrFrom4(in.Addr), hostOrder(in.Port))
	case unix.AF_INET6:
		in := (*unix.RawSockaddrInet6)(unsafe.Pointer(from))
		return netip.AddrPortFrom(netip.AddrFrom16(in.Addr), hostOrder(in.Port))
	}
	return netip.AddrPort{}
}

// hostOrder is a port that stands in memory as it does on the wire.
func hostOrder(port uint16) uint16 {
	return binary.BigEndian.Uint16((*[2]byte)(unsafe.Pointer(&port))[:])
}

// Lost says why nobody can connect any more, see Place.
func (l *Listener) Lost() error {
	if inner, ok := l.Listener.(interface{ Lost() error }); ok {
		return inner.Lost()
	}
	return nil
}

// Close implements net.Listener.
func (l *Listener) Close() error {
	l.file.Close()
	return l.Listener.Close()
}

// A stream is an accepted socket: what of a net.Conn a Conn does not do itself.
type stream struct {
	*os.File // waits for it, with deadlines
	raw      syscall.RawConn
	listener net.Addr
	peer     netip.AddrPort // as it was when it came: the kernel forgets one that is gone
}

// LocalAddr implements net.Conn.
func (s *stream) LocalAddr() net.Addr { return s.addr(unix.Getsockname) }

// RemoteAddr implements net.Conn.
func (s *stream) RemoteAddr() net.Addr {
	if s.peer.IsValid() {
		return net.TCPAddrFromAddrPort(s.peer)
	}
	return s.addr(unix.Getpeername)
}

// addr asks the socket; one that is closed has the listener's address.
func (s *stream) addr(ask func(fd int) (unix.Sockaddr, error)) net.Addr {
	addr := s.listener
	s.raw.Control(func(fd uintptr) {
		sa, err := ask(int(fd))
		if err != nil {
			return
		}
		switch sa := sa.(type) {
		case *unix.SockaddrInet4:
			addr = &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}
		case *unix.SockaddrInet6:
			addr = &net.TCPAddr{IP: sa.Addr[:], Port: sa.Port}
		case *unix.SockaddrUnix:
			addr = &net.UnixAddr{Name: sa.Name, Net: "unix"}
		}
	})
	return addr
}

// Close implements net.Conn.
func (s *stream) Close() error {
	if err := s.File.Close(); err != nil {
		return &net.OpError{Op: "close", Net: s.listener.Network(), Source: s.listener, Err: waiting(err)}
	}
	return nil
}

// SyscallConn implements syscall.Conn.
func (s *stream) SyscallConn() (syscall.RawConn, error) { return s.raw, nil }

// CloseWrite ends the stream to the peer and goes on reading.
func (s *stream) CloseWrite() error {
	var errno syscall.Errno
	if err := s.raw.Control(func(fd uintptr) { errno = shutdown(fd, unix.SHUT_WR) }); err != nil {
		return err
	}
	if errno != 0 {
		return os.NewSyscallError("shutdown", errno)
	}
	return nil
}
