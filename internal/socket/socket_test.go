package socket

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience is how long a test waits for what must come.
const patience = 20 * time.Second

// listen opens a socket of this kind: "tcp", "unix", or one of them with
// " listener", whose connections a Listener accepts.
func listen(t testing.TB, kind string) net.Listener {
	t.Helper()
	network, _, own := strings.Cut(kind, " ")
	address := "127.0.0.1:0"
	if network == "unix" {
		address = t.TempDir() + "/s"
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	if own {
		l = Listen(l)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

// pair is a connection of this kind: ours as the rooms see it, and the peer's.
func pair(t testing.TB, kind string) (*Conn, net.Conn) {
	t.Helper()
	l := listen(t, kind)
	defer l.Close()
	theirs, err := net.Dial(l.Addr().Network(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	ours := New(c).(*Conn)
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	ours.SetDeadline(time.Now().Add(patience))
	theirs.SetDeadline(time.Now().Add(patience))
	return ours, theirs
}

func each(t *testing.T, f func(t *testing.T, kind string)) {
	for _, kind := range []string{"tcp", "unix", "tcp listener", "unix listener"} {
		t.Run(kind, func(t *testing.T) { f(t, kind) })
	}
}

// All octets come through in both directions, also more than the socket holds.
func TestBytes(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		for _, write := range []func(*Conn, []byte) (int, error){(*Conn).Write, (*Conn).WriteLast} {
			for _, size := range []int{0, 1, 100, most, most + 1, 8 << 20} {
				ours, theirs := pair(t, kind)
				want := bytes.Repeat([]byte("0123456789abcde\n"), size/16+1)[:size]
				var wg sync.WaitGroup
				wg.Go(func() {
					got, err := io.ReadAll(theirs)
					if err != nil || !bytes.Equal(got, want) {
						t.Errorf("%d octets of %d came, %v", len(got), size, err)
					}
				})
				wg.Go(func() {
					got, err := io.ReadAll(ours)
					if err != nil || !bytes.Equal(got, want) {
						t.Errorf("%d octets of %d came back, %v", len(got), size, err)
					}
				})
				theirs.Write(want)
				theirs.(interface{ CloseWrite() error }).CloseWrite()
				if n, err := write(ours, want); n != size || err != nil {
					t.Errorf("%d of %d written, %v", n, size, err)
				}
				if err := ours.CloseWrite(); err != nil {
					t.Error(err)
				}
				wg.Wait()
			}
		}
	})
}

// The errors are those of net, in its form.
func TestErrors(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		same := func(what string, c *Conn, do func(net.Conn) error, is error) {
			t.Helper()
			got := do(c)
			if _, accepted := c.Conn.(*stream); accepted {
				var op *net.OpError
				if !errors.As(got, &op) || !errors.Is(got, is) || op.Err.Error() != is.Error() {
					t.Errorf("%s: %v", what, got)
				}
			} else if plain := do(c.Conn); !errors.Is(got, is) || got.Error() != plain.Error() {
				t.Errorf("%s: %v, net says %v", what, got, plain)
			}
		}
		read := func(c net.Conn) error { _, err := c.Read(make([]byte, 1)); return err }
		write := func(c net.Conn) error { _, err := c.Write(make([]byte, 32<<20)); return err }

		ours, theirs := pair(t, kind)
		ours.SetDeadline(time.Now().Add(-time.Second))
		same("read too late", ours, read, os.ErrDeadlineExceeded)
		same("write too late", ours, write, os.ErrDeadlineExceeded)
		ours.SetDeadline(time.Now().Add(50 * time.Millisecond))
		same("nobody writes", ours, read, os.ErrDeadlineExceeded)
		ours.SetDeadline(time.Now().Add(50 * time.Millisecond))
		same("nobody reads", ours, write, os.ErrDeadlineExceeded)
		if n, err := ours.Read(nil); n != 0 || err != nil {
			t.Errorf("reading nothing: %d, %v", n, err)
		}
		ours.SetDeadline(time.Now().Add(patience))
		theirs.Close()
		if _, err := io.Copy(ours, bytes.NewReader(make([]byte, 32<<20))); !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("writing to nobody: %v", err)
		}
		ours.Close()
		same("read closed", ours, read, net.ErrClosed)
		same("write closed", ours, write, net.ErrClosed)
	})
}

// A Read that waits is ended by a deadline and by Close.
func TestWaitEnds(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		for name, end := range map[string]func(*Conn){
			"deadline": func(c *Conn) { c.SetReadDeadline(time.Now()) },
			"close":    func(c *Conn) { c.Close() },
		} {
			ours, _ := pair(t, kind)
			done := make(chan error)
			go func() { _, err := ours.Read(make([]byte, 1)); done <- err }()
			end(ours)
			if err := <-done; err == nil {
				t.Errorf("%s: read", name)
			}
		}
	})
}

// Two writers do not mix their octets.
func TestWriters(t *testing.T) {
	ours, theirs := pair(t, "tcp")
	const size = 1 << 20
	var wg sync.WaitGroup
	for _, b := range []byte("ab") {
		wg.Go(func() { ours.Write(bytes.Repeat([]byte{b}, size)) })
	}
	got := make([]byte, 2*size)
	if _, err := io.ReadFull(theirs, got); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	if bytes.Count(got[:size], got[:1]) != size || bytes.Count(got[size:], got[size:size+1]) != size {
		t.Error("the octets of two writes are mixed")
	}
}

// What is no socket is left as it is, and is not looked at.
func TestNoSocket(t *testing.T) {
	a, b := net.Pipe()
	defer a.Close()
	defer b.Close()
	if New(a) != a || NewQuick(a) != a {
		t.Error("a pipe became a socket")
	}
	for _, p := range []*Peer{nil, PeerOf(a)} {
		if v, err := p.Look(); v != 0 || err != nil || p.Known() || !p.Silent() {
			t.Errorf("%v, %v", v, err)
		}
	}
}

type encrypted struct{ net.Conn }

func (e encrypted) NetConn() net.Conn { return e.Conn }

// What a look shows of a peer, and that nothing is read by it.
func TestPeer(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		ours, theirs := pair(t, kind)
		p := PeerOf(encrypted{ours})
		until := func(want View) {
			t.Helper()
			for start := time.Now(); ; time.Sleep(time.Millisecond) {
				got, err := p.Look()
				if got == want && err == nil {
					return
				}
				if time.Since(start) > patience {
					t.Fatalf("%b, %v; want %b", got, err, want)
				}
			}
		}
		if !p.Known() || !p.Silent() {
			t.Error("a new connection is not silent")
		}
		theirs.Write([]byte("x"))
		until(Data)
		theirs.(interface{ CloseWrite() error }).CloseWrite()
		until(Data | Ended)
		ours.Read(make([]byte, 1))
		until(Ended)
		ours.CloseWrite()
		until(Ended | Lost)
		if p.Silent() {
			t.Error("silent, and lost")
		}
		ours.Close()
		if _, err := p.Look(); err == nil || p.Silent() {
			t.Error("our own closed side is not told of")
		}
	})
}

// A read and a write allocate nothing.
func TestAllocations(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		ours, theirs := pair(t, kind)
		in, out := make([]byte, 64), make([]byte, 64)
		p := PeerOf(ours)
		if n := testing.AllocsPerRun(100, func() {
			theirs.Write(out)
			ours.Read(in)
			ours.Write(in)
			theirs.Read(out)
			p.Silent()
		}); n > 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

func BenchmarkPingPong(b *testing.B) {
	for _, kind := range []string{"net", "ours"} {
		b.Run(kind, func(b *testing.B) {
			ours, theirs := pair(b, "tcp")
			var c net.Conn = ours
			if kind == "net" {
				c = ours.Conn
			}
			go io.Copy(struct{ io.Writer }{theirs}, struct{ io.Reader }{theirs})
			p := make([]byte, 64)
			b.ReportAllocs()
			for b.Loop() {
				c.Write(p)
				io.ReadFull(c, p)
			}
			ours.Close()
		})
	}
}
