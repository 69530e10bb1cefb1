package relay

import (
	"io"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/moongate/moongate/test/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what must come.
const patience = time.Minute

func TestCut(t *testing.T) {
	const talk = "NOOP\r\nQUIT\r\n"
	for n := range len(talk) + 1 {
		up := upstream.Start(t, "")
		r := Start(t, up.Addr)
		r.Cut(n, n%2 == 1)
		c, err := net.Dial("tcp", r.Addr)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(patience))
		io.WriteString(c, talk)
		io.ReadAll(c)
		c.Close()
		if !up.Wait(patience, func() bool { all, open := up.Conns(); return all == 1 && open == 0 }) {
			t.Errorf("cut at %d: the server's connection does not end", n)
		}
		if got := string(up.Bytes(1)); got != talk[:n] {
			t.Errorf("cut at %d let %q pass", n, got)
		}
		if got := r.Sent(); len(got) != 1 || string(got[0]) != talk[:n] {
			t.Errorf("cut at %d: recorded %q", n, got)
		}
	}
}

func TestWhole(t *testing.T) {
	up := upstream.Start(t, "")
	r := Start(t, up.Addr)
	c, err := net.Dial("tcp", r.Addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	io.WriteString(c, "NOOP\r\n")
	c.(*net.TCPConn).CloseWrite()
	out, _ := io.ReadAll(c)
	if string(out) != "220 upstream.example ESMTP\r\n250 2.0.0 Ok\r\n" {
		t.Errorf("%q", out)
	}
}
