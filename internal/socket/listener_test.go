package socket

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

func eachListener(t *testing.T, f func(t *testing.T, l net.Listener)) {
	for _, kind := range []string{"tcp listener", "unix listener"} {
		t.Run(kind, func(t *testing.T) { f(t, listen(t, kind)) })
	}
}

// dial connects to l and returns both sides.
func dial(t *testing.T, l net.Listener) (ours, theirs net.Conn) {
	t.Helper()
	theirs, err := net.Dial(l.Addr().Network(), l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { theirs.Close() })
	ours, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close() })
	theirs.SetDeadline(time.Now().Add(patience))
	return ours, theirs
}

// The addresses are those of the socket, and Nagle's algorithm is off.
func TestAccepted(t *testing.T) {
	eachListener(t, func(t *testing.T, l net.Listener) {
		ours, theirs := dial(t, l)
		if got, want := ours.LocalAddr().String(), theirs.RemoteAddr().String(); got != want {
			t.Errorf("local address %s, want %s", got, want)
		}
		if tcp := l.Addr().Network() == "tcp"; tcp {
			if got, want := ours.RemoteAddr().String(), theirs.LocalAddr().String(); got != want {
				t.Errorf("remote address %s, want %s", got, want)
			}
			ours.(*Conn).raw.Control(func(fd uintptr) {
				if on, err := syscall.GetsockoptInt(int(fd), syscall.IPPROTO_TCP, syscall.TCP_NODELAY); on == 0 || err != nil {
					t.Errorf("TCP_NODELAY is %d, %v", on, err)
				}
			})
		}
		if _, quick := NewQuick(ours).(*Quick); quick != (l.Addr().Network() == "tcp") {
			t.Errorf("quick: %v", quick)
		}
		ours.Close()
		if ours.LocalAddr() == nil || ours.RemoteAddr() == nil {
			t.Error("a closed connection has no address")
		}
		if err := ours.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closing twice: %v", err)
		}
	})
}

// A peer that is gone, whom the kernel knows no more, keeps his address: it is
// not ours.
func TestPeerThatIsGone(t *testing.T) {
	for _, where := range []string{"127.0.0.1:0", "[::1]:0", "[::]:0"} {
		plain, err := net.Listen("tcp", where)
		if err != nil {
			t.Logf("no IPv6 here: %v", err)
			continue
		}
		l := Listen(plain)
		t.Cleanup(func() { l.Close() })
		ours, theirs := dial(t, l)
		want := theirs.LocalAddr().String()
		theirs.(*net.TCPConn).SetLinger(0) // a reset
		theirs.Close()
		_, err = ours.Read(make([]byte, 1))
		if !errors.Is(err, syscall.ECONNRESET) || !strings.Contains(err.Error(), "->"+want+": ") {
			t.Errorf("%s: %v, and the peer was %s", where, err, want)
		}
		if got := ours.RemoteAddr().String(); got != want {
			t.Errorf("%s: remote address %s, want %s", where, got, want)
		}
	}
}

// Close ends an Accept that waits, and removes the file of a unix socket.
func TestListenerClose(t *testing.T) {
	eachListener(t, func(t *testing.T, l net.Listener) {
		done := make(chan error)
		go func() { _, err := l.Accept(); done <- err }()
		l.Close()
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Errorf("the Accept that waited: %v", err)
		}
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("an Accept behind it: %v", err)
		}
		if _, err := net.Dial(l.Addr().Network(), l.Addr().String()); err == nil {
			t.Error("somebody listens still")
		}
		if _, err := os.Lstat(l.Addr().String()); err == nil {
			t.Error("the socket's file has stayed")
		}
	})
}

// Without descriptors an Accept fails as that of net does, and the next one
// takes the client that has waited.
func TestListenerExhausted(t *testing.T) {
	eachListener(t, func(t *testing.T, l net.Listener) {
		theirs, err := net.Dial(l.Addr().Network(), l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer theirs.Close()
		var was syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &was); err != nil {
			t.Fatal(err)
		}
		none := was
		none.Cur = 3
		if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &none); err != nil {
			t.Fatal(err)
		}
		_, err = l.Accept()
		syscall.Setrlimit(syscall.RLIMIT_NOFILE, &was)
		if !errors.Is(err, syscall.EMFILE) {
			t.Errorf("%v", err)
		}
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	})
}

// What is no socket stays what it is.
func TestListenOther(t *testing.T) {
	other := struct{ net.Listener }{}
	if Listen(other) != net.Listener(other) {
		t.Error("it became a Listener")
	}
}

// The peer of a parted connection sees its end at once, and the descriptor is
// given back; a Close in between does no harm.
func TestPart(t *testing.T) {
	each(t, func(t *testing.T, kind string) {
		for _, early := range []bool{false, true} {
			ours, theirs := pair(t, kind)
			Part(ours)
			if _, err := theirs.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("the peer reads: %v", err)
			}
			if early {
				ours.Close()
			}
			for start := time.Now(); ; time.Sleep(time.Millisecond) { // there is no event to wait for
				if _, err := ours.Write([]byte("x")); errors.Is(err, net.ErrClosed) {
					break
				}
				if time.Since(start) > patience {
					t.Fatal("the descriptor is not given back")
				}
			}
			Part(ours)
		}
		a, b := net.Pipe()
		defer b.Close()
		Part(a)
		if _, err := a.Write(nil); err != io.ErrClosedPipe {
			t.Errorf("a pipe that parted: %v", err)
		}
	})
}

// However many connections part at once, few descriptors wait to be given back.
func TestPartMany(t *testing.T) {
	for range 4 * mostParted {
		ours, _ := pair(t, "unix")
		Part(ours)
		parted.mu.Lock()
		n := len(parted.conns)
		parted.mu.Unlock()
		if n >= mostParted {
			t.Fatalf("%d descriptors wait", n)
		}
	}
}
