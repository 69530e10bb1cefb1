package deploy

import (
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/moongate"
	"github.com/moongate/moongate/test/netns"
	"github.com/moongate/moongate/test/upstream"
)

// TestClientsName: the name that the upstream is told is forward-confirmed; without one it is
// [UNAVAILABLE], and with DNS in trouble [TEMPUNAVAIL], which costs a client at most one wait.
func TestClientsName(t *testing.T) {
	t.Parallel()
	moongate.Binary(t, true)
	if netns.Outside(t, "192.0.2.1/24") {
		return
	}
	const (
		wait  = 1500 * time.Millisecond // of a query
		slack = 20 * time.Second        // of a busy machine
		keeps = 5 * time.Second         // how long trouble is remembered

		temporary = "[TEMPUNAVAIL]"
	)
	up := upstream.Start(t, xscript)
	dns := serveDNS(t)
	p := setup{rest: fmt.Sprintf("[dns]\nservers = [%q]", dns.addr)}.start(t, "xclient", up.Addr)
	ask := func(from, want string, least, most time.Duration) string {
		t.Helper()
		begin := time.Now()
		c := client.Dial(t, p.Addr, from)
		if r := c.Reply(); !strings.HasPrefix(r, "220") {
			t.Fatalf("%s: %q", from, r)
		}
		if took := time.Since(begin); took < least || took > most {
			t.Errorf("%s: greeted after %v, want %v to %v", from, took, least, most)
		}
		c.Must("250", "EHLO client.example.com")
		c.Must("250", "MAIL FROM:<a@example.com>")
		c.Must("221", "QUIT")
		told := ""
		all, _ := up.Conns()
		for n := 1; n <= all; n++ {
			for _, line := range up.Lines(n) {
				if strings.HasPrefix(line, "XCLIENT ADDR="+from+" ") {
					told = line
				}
			}
		}
		return told
	}
	named := func(from, want string, least, most time.Duration) {
		t.Helper()
		told := ask(from, want, least, most)
		// A machine that is too busy for a question's time is DNS in trouble, for as long as that is remembered.
		for end := time.Now().Add(patience); want != temporary && strings.Contains(told, temporary) && time.Now().Before(end); {
			time.Sleep(100 * time.Millisecond)
			told = ask(from, want, least, most)
		}
		if !strings.Contains(told+" ", " NAME="+want+" ") || strings.Contains(told, "REVERSE_NAME=client") && want != "client.example" {
			t.Errorf("%s: %q, want NAME=%s", from, told, want)
		}
	}
	dns.set(net.ParseIP("192.0.2.10"), []byte("\x06client\x07example\x00"))
	named("192.0.2.10", "client.example", 0, slack)
	named("192.0.2.11", "[UNAVAILABLE]", 0, slack) // it has none

	dns.set(net.ParseIP("192.0.2.12"), []byte("\x05other\x07example\x00"))
	dns.set(net.ParseIP("192.0.2.13"), []byte("\x05other\x07example\x00")) // its name leads to .13 from now on
	named("192.0.2.12", "[UNAVAILABLE]", 0, slack)
	named("192.0.2.13", "other.example", 0, slack)

	dns.fail(dnsmessage.RCodeServerFailure, "11.2.0.192.in-addr.arpa.", "20.2.0.192.in-addr.arpa.", "broken.example.")
	named("192.0.2.20", temporary, 0, slack)
	dns.set(net.ParseIP("192.0.2.21"), []byte("\x06broken\x07example\x00"))
	named("192.0.2.21", temporary, 0, slack)

	dns.fail(silence, "silent.example.")
	for i := range 9 {
		last := 40 + i
		from, question := fmt.Sprintf("192.0.2.%d", last), fmt.Sprintf("%d.2.0.192.in-addr.arpa.", last)
		dns.fail(silence, question)
		begin := time.Now()
		named(from, temporary, wait/2, wait+slack)
		before := dns.asked(question)
		named(from, temporary, 0, wait+slack)
		n := dns.asked(question) - before
		if took := time.Since(begin); took >= keeps {
			t.Logf("two clients took %v: it may be forgotten by then", took)
			continue
		}
		if before == 0 || n > 0 {
			t.Errorf("a silent zone was asked %d times, and %d times again", before, n)
		}
		break
	}
	dns.set(net.ParseIP("192.0.2.31"), []byte("\x06silent\x07example\x00"))
	named("192.0.2.31", temporary, wait/2, wait+slack)

	// A dead resolver: each of many clients waits once, beside the others.
	dns.conn.Close()
	begin := time.Now()
	done := make(chan struct{})
	for i := range 20 {
		go func() {
			defer func() { done <- struct{}{} }()
			c, err := (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(fmt.Sprintf("192.0.2.%d", 100+i))}}).Dial("tcp", p.Addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(patience))
			var b [3]byte
			if _, err := c.Read(b[:]); err != nil || string(b[:]) != "220" {
				t.Errorf("%q, %v", b, err)
			}
		}()
	}
	for range 20 {
		<-done
	}
	if took := time.Since(begin); took > wait+slack {
		t.Errorf("with a dead resolver 20 clients were greeted after %v", took)
	}
}
