package proxy

import (
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/moongate/moongate/policy"
)

// turnAwayTime is how long a client that was refused at the door may take to
// read it and go.
const turnAwayTime = 2 * time.Second

// turnAway says a last word to a client and closes: the write side first, then
// what the client still says is read away, so that no reset destroys the reply
// on its way (RFC 1122 4.2.2.13).
func turnAway(c net.Conn, p policy.Reply) {
	defer c.Close()
	c.SetDeadline(time.Now().Add(turnAwayTime))
	if _, err := c.Write(p.Append(nil)); err != nil {
		return
	}
	linger(c)
}

// linger closes the write side and reads what still comes, until the client
// closes, turnAwayTime passes or much has come.
func linger(c net.Conn) {
	half, ok := c.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	c.SetReadDeadline(time.Now().Add(turnAwayTime))
	var b [512]byte
	for range 1 << 12 {
		if _, err := c.Read(b[:]); err != nil {
			return
		}
	}
}

// part ends a session whose client said QUIT and nothing behind it: the 221 and
// the end of the connection leave in one segment, and nobody waits for anybody.
// It reports false, and does nothing, if the client has said more: closed over
// octets unread, a socket is reset, and a reset may overtake the reply.
func (s *session) part() bool {
	var look poller
	look.watchRaw(s.watch.raw)
	if s.cause != "quit" || s.in.Buffered() > 0 || !look.silent() {
		return false
	}
	s.out.bye()
	s.srv.sweep.forget(s) // which would find it closed, and the client gone
	s.conn.Close()
	return true
}

// writeLast is a Write behind which the connection will be closed at once: of a
// TCP connection the kernel keeps the octets for that moment, so that they
// travel with the end of the stream.
func writeLast(c net.Conn, b []byte) (n int, err error) {
	if tcp, ok := c.(*net.TCPConn); ok {
		if raw, err := tcp.SyscallConn(); err == nil {
			raw.Write(func(fd uintptr) bool {
				n, _ = unix.SendmsgN(int(fd), b, nil, nil, unix.MSG_MORE|unix.MSG_NOSIGNAL)
				return true
			})
		}
	}
	if n == len(b) {
		return n, nil
	}
	m, err := c.Write(b[n:]) // all of it, or what a full socket did not take
	return n + m, err
}
