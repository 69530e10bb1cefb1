package proxy

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"
)

// A connection that waits with the reply to its RSET unread says QUIT, too: a
// reset without one is "lost connection" in the upstream's log.
func TestQuitBehindReset(t *testing.T) {
	noLeaks(t)
	s := startScripted(t, opening+`
		C: MAIL FROM:<a@a.example>
		S: 250 2.1.0 Ok
		C: RSET
		S: 250 2.0.0 Ok
		C: QUIT`)
	h := s.hop()
	u := mustGet(t, h, stranger)
	mustSay(t, u, 250, "MAIL", "FROM:<a@a.example>")
	u.Return()
	for c := u.(*conn); c.Alive(); { // until the reply to RSET is here
		time.Sleep(time.Millisecond)
	}
	h.Close()
}

// writeLast writes all, also of what does not fit the socket.
func TestWriteLast(t *testing.T) {
	for _, size := range []int{0, 1, 100, 16 << 10, 8 << 20} {
		ours, theirs := tcpPair(t)
		want := bytes.Repeat([]byte("0123456789abcde\n"), size/16+1)[:size]
		go func() {
			defer ours.Close()
			ours.SetWriteDeadline(time.Now().Add(patience))
			if n, err := writeLast(ours, want); n != size || err != nil {
				t.Errorf("%d of %d written, %v", n, size, err)
			}
		}()
		got, err := io.ReadAll(theirs)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d octets of %d came, %v", len(got), size, err)
		}
	}
}

// A client that does not read costs no more than the deadline.
func TestWriteLastDeadline(t *testing.T) {
	ours, _ := tcpPair(t)
	ours.SetWriteDeadline(time.Now().Add(50 * time.Millisecond))
	if _, err := writeLast(ours, make([]byte, 32<<20)); err == nil || !err.(net.Error).Timeout() {
		t.Errorf("%v, want a timeout", err)
	}
}
