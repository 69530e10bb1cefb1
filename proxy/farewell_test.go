package proxy

import (
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
