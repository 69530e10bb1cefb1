package proxy

import (
	"net"
	"time"

	"github.com/moongate/moongate/internal/socket"
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
	if s.cause != "quit" || s.in.Buffered() > 0 || !socket.PeerOf(s.conn).Silent() { // the sweeper looks through one of its own
		return false
	}
	s.out.bye()
	s.srv.sweep.forget(s) // which would find it closed, and the client gone
	s.conn.Close()
	return true
}

// writeLast is a Write behind which the connection will be closed at once.
func writeLast(c net.Conn, b []byte) (int, error) {
	if s, ok := c.(*socket.Conn); ok {
		return s.WriteLast(b)
	}
	return c.Write(b)
}
