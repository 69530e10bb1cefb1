package milter

import (
	"net"
	"testing"
	"time"

	"github.com/moongate/moongate/milter/wire"
)

// An MTA that writes small packets with Nagle's algorithm on, as Postfix does,
// and waits for no answer is not held up: 50 messages took 2 s when
// each packet waited for a delayed acknowledgement.
func TestNoDelay(t *testing.T) {
	srv, _ := serverOf()
	m := dial(t, srv, all)
	m.c.(*net.TCPConn).SetNoDelay(false)
	m.hello()
	start := time.Now()
	for range 50 {
		m.want("c", wire.Mail{From: "<a@example.net>"})
		m.want("c", wire.Rcpt{To: "<b@example.org>"})
		m.message("", "Subject: x", "From: a@example.net")
		if _, a := m.end(); a != "a" {
			t.Fatalf("end: %q", a)
		}
	}
	if took := time.Since(start); took > 1500*time.Millisecond {
		t.Errorf("50 messages took %v", took)
	}
}
