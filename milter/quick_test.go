package milter

import (
	"net"
	"slices"
	"testing"
	"time"

	"github.com/moongate/moongate/milter/wire"
)

// An MTA that writes small packets with Nagle's algorithm on, as Postfix does,
// and waits for no answer is not held up: each message took 40 ms and more when
// its packets waited for a delayed acknowledgement. On a busy machine some take
// long whatever we do, but not all of them.
func TestNoDelay(t *testing.T) {
	srv, _ := serverOf()
	m := dial(t, srv, all)
	m.c.(*net.TCPConn).SetNoDelay(false)
	m.hello()
	var times []time.Duration
	for range 101 {
		start := time.Now()
		m.want("c", wire.Mail{From: "<a@example.net>"})
		m.want("c", wire.Rcpt{To: "<b@example.org>"})
		m.message("", "Subject: x", "From: a@example.net")
		if _, a := m.end(); a != "a" {
			t.Fatalf("end: %q", a)
		}
		times = append(times, time.Since(start))
	}
	slices.Sort(times)
	if few := times[len(times)/10]; few > 30*time.Millisecond {
		t.Errorf("nine of ten messages took %v and more: %v", few, times)
	}
}
