package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/sys/unix"

	"github.com/moongate/moongate/policy"
)

// banner reads the first line that a server says.
func banner(t *testing.T, c net.Conn) string {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(patience))
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return line
}

// counted is the value of a counter.
func counted(t *testing.T, reg *prometheus.Registry, name string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatal("there is no ", name)
	return 0
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// deaf is an address at which nobody listens: connections to it are refused, and
// nobody else can be given its port. listens makes it one at which somebody does.
func deaf(t *testing.T) (address string, listens func() net.Listener) {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		t.Fatal(err)
	}
	f := os.NewFile(uintptr(fd), "deaf")
	t.Cleanup(func() { f.Close() })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	self, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address = fmt.Sprintf("127.0.0.1:%d", self.(*unix.SockaddrInet4).Port)
	return address, func() net.Listener {
		if err := unix.Listen(fd, 16); err != nil {
			t.Fatal(err)
		}
		l, err := net.FileListener(f)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
}

// serveOn serves, and returns the connection of a first client and what Serve
// will say.
func serveOn(t *testing.T, srv *Server, l net.Listener) (net.Conn, chan error) {
	t.Helper()
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, served
}

func TestServeAndClose(t *testing.T) {
	srv := door(t, newRecordingUpstream(t, -1))
	l := listen(t)
	c, served := serveOn(t, srv, l)
	if got := banner(t, c); got != "220 gate.example ESMTP\r\n" {
		t.Fatalf("banner %q", got)
	}
	if n := srv.Sessions(); n != 1 {
		t.Errorf("%d sessions", n)
	}
	srv.Close()
	if err := <-served; err != ErrServerClosed {
		t.Errorf("Serve returned %v", err)
	}
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the client is still connected")
	}
	if err := srv.Serve(listen(t)); err != ErrServerClosed {
		t.Errorf("Serve after Close returned %v", err)
	}
}

// tiredListener runs out of file descriptors a few times.
type tiredListener struct {
	net.Listener
	tired atomic.Int32
}

func (l *tiredListener) Accept() (net.Conn, error) {
	if l.tired.Add(-1) >= 0 {
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

func TestAcceptErrorsPass(t *testing.T) {
	srv := door(t, newRecordingUpstream(t, -1))
	reg := prometheus.NewRegistry()
	srv.Metrics = NewMetrics(reg)
	l := &tiredListener{Listener: listen(t)}
	l.tired.Store(3)
	c, served := serveOn(t, srv, l)
	banner(t, c)
	if n := counted(t, reg, "moongate_accept_failures_total"); n != 3 {
		t.Errorf("%v failures counted", n)
	}
	srv.Close()
	<-served
}

func TestConnectionLimits(t *testing.T) {
	for _, tt := range []struct {
		name          string
		limits        Limits
		first, second string
		refused       bool
	}{
		{"all", Limits{Connections: 1}, "192.0.2.1", "198.51.100.1", true},
		{"one network", Limits{PerNetwork: 1}, "192.0.2.1", "192.0.2.9", true},
		{"two networks", Limits{PerNetwork: 1}, "192.0.2.1", "192.0.3.1", false},
		{"one /64", Limits{PerNetwork: 1}, "2001:db8::1", "2001:db8::2", true},
		{"two /64", Limits{PerNetwork: 1}, "2001:db8::1", "2001:db8:0:1::1", false},
		{"neighbours are not counted", Limits{PerNetwork: 1}, "127.0.0.1", "127.0.0.1", false},
		{"forwarders neither", Limits{PerNetwork: 1}, "203.0.113.1", "203.0.113.1", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			srv := door(t, newRecordingUpstream(t, -1))
			srv.Limits = tt.limits
			core, logs := observer.New(zap.InfoLevel)
			srv.Log = zap.New(core)
			srv.XForward = []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
			connect := func(ip string) (net.Conn, chan struct{}) {
				ours, theirs := tcpPair(t)
				done := make(chan struct{})
				go func() {
					defer close(done)
					srv.ServeConn(ours, policy.Facts{Remote: netip.MustParseAddrPort(netip.MustParseAddr(ip).String() + ":1")})
				}()
				return theirs, done
			}
			if strings.Contains(tt.first, ":") {
				connect = func(ip string) (net.Conn, chan struct{}) {
					ours, theirs := tcpPair(t)
					done := make(chan struct{})
					go func() {
						defer close(done)
						srv.ServeConn(ours, policy.Facts{Remote: netip.AddrPortFrom(netip.MustParseAddr(ip), 1)})
					}()
					return theirs, done
				}
			}
			a, _ := connect(tt.first)
			defer a.Close()
			if got := banner(t, a); got[:3] != "220" {
				t.Fatalf("the first one hears %q", got)
			}
			b, done := connect(tt.second)
			want := "220"
			if tt.refused {
				want = "421"
			}
			if got := banner(t, b); got[:3] != want {
				t.Errorf("the second one hears %q, want %s", got, want)
			}
			b.Close()
			within(t, done, "session")
			for _, l := range logs.FilterMessage("refuse").All() { // the log says what was said
				if f := l.ContextMap(); !strings.HasPrefix(fmt.Sprint(f["reply"]), "421 4.3.2 ") || f["by"] != "moongate" || f["cause"] == "" {
					t.Errorf("the log says %v", f)
				}
			}
			if n := logs.FilterMessage("refuse").Len(); (n == 1) != tt.refused {
				t.Errorf("%d lines of a refusal", n)
			}
		})
	}
}

// TestShutdownCutsAtTheEnd: what is still open when the time is over is closed,
// and the upstream gets no dot.
func TestShutdownCutsAtTheEnd(t *testing.T) {
	u := newRecordingUpstream(t, -1)
	srv := door(t, u)
	c, done := begin(t, srv)
	defer c.Close()
	io.WriteString(c, envelope+"Subject: half\r\n\r\nhalf of a message\r\n")
	r := bufio.NewReader(c)
	for line := ""; !strings.HasPrefix(line, "354"); {
		c.SetReadDeadline(time.Now().Add(patience))
		var err error
		if line, err = r.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := srv.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown returned %v", err)
	}
	within(t, done, "session")
	if messages, _, _, _ := u.got(); len(messages) != 0 {
		t.Errorf("the upstream has %q", messages)
	}
}

func TestShutdownWithoutClients(t *testing.T) {
	srv := door(t, newRecordingUpstream(t, -1))
	if err := srv.Shutdown(context.Background()); err != nil {
		t.Error(err)
	}
	ours, theirs := tcpPair(t)
	go srv.ServeConn(ours, local())
	if got := banner(t, theirs); got[:3] != "421" {
		t.Errorf("a client that comes too late hears %q", got)
	}
	theirs.Close()
}

// TestPanicEndsOneSession: that client hears 421, the others live.
func TestPanicEndsOneSession(t *testing.T) {
	u := newRecordingUpstream(t, -1)
	srv := door(t, u)
	reg := prometheus.NewRegistry()
	srv.Env.Metrics = policy.NewMetrics(reg)
	srv.PTR = func(ctx context.Context, a netip.Addr) (string, bool) {
		if a == netip.MustParseAddr("192.0.2.2") {
			panic("resolver")
		}
		return "", false
	}
	other, done := begin(t, srv)
	defer other.Close()
	banner(t, other)
	ours, theirs := tcpPair(t)
	srv.ServeConn(ours, policy.Facts{Remote: netip.MustParseAddrPort("192.0.2.2:1")})
	if got := banner(t, theirs); got[:3] != "421" {
		t.Errorf("the client hears %q", got)
	}
	theirs.Close()
	if n := counted(t, reg, "moongate_panics_total"); n != 1 {
		t.Errorf("%v panics counted", n)
	}
	fmt.Fprintf(other, "QUIT\r\n")
	within(t, done, "the other session")
}

// TestClientGoneEndsTheWait: a client that reset its connection, or closed it
// with nothing left to do, is noticed while a rule waits; one that only closed
// its side behind a whole message is not.
func TestClientGoneEndsTheWait(t *testing.T) {
	for _, tt := range []struct {
		name  string
		hook  policy.Hook
		send  string
		leave func(net.Conn)
		gone  bool
	}{
		{"closed at rcpt", policy.Rcpt, "HELO c\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.org>\r\n", closeIt, true},
		{"half-closed at rcpt", policy.Rcpt, "HELO c\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.org>\r\n", halfClose, true},
		{"half-closed with commands queued", policy.Rcpt, "HELO c\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.org>\r\nQUIT\r\n", halfClose, false},
		{"reset at rcpt", policy.Rcpt, "HELO c\r\nMAIL FROM:<>\r\nRCPT TO:<b@example.org>\r\n", resetIt, true},
		{"half-closed behind a message", policy.Message, envelope + wire(letter), halfClose, false},
		{"reset behind a message", policy.Message, envelope + wire(letter), resetIt, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			u := newRecordingUpstream(t, -1)
			asked := make(chan struct{})
			go2 := make(chan struct{})
			gone := make(chan bool, 1)
			rule := opinion(tt.hook)
			rule.Timeout = patience
			rule.Evaluator = evalFunc(func(ctx context.Context, _ *policy.Session, _ *policy.Event) (policy.Verdict, error) {
				close(asked)
				select {
				case <-ctx.Done():
					gone <- true
				case <-go2:
					gone <- false
				}
				return policy.Verdict{}, nil
			})
			srv := door(t, u, rule)
			c, done := begin(t, srv)
			io.WriteString(c, tt.send)
			<-asked
			tt.leave(c)
			if !tt.gone {
				// Long enough for the sweeper to have looked several times.
				tick := srv.sweep.tick.Load()
				for srv.sweep.tick.Load() < tick+4 {
					time.Sleep(10 * time.Millisecond)
				}
				close(go2)
			}
			select {
			case got := <-gone:
				if got != tt.gone {
					t.Errorf("the rule was told that the client is gone: %v", got)
				}
			case <-time.After(patience):
				t.Error("the rule was left waiting")
				close(go2)
			}
			if !tt.gone {
				c.SetReadDeadline(time.Now().Add(patience))
				io.Copy(io.Discard, c)
			}
			c.Close()
			within(t, done, "session")
			messages, _, _, _ := u.got()
			if want := !tt.gone && tt.hook == policy.Message; (len(messages) == 1) != want {
				t.Errorf("%d messages arrived", len(messages))
			}
		})
	}
}

func closeIt(c net.Conn)   { c.Close() }
func halfClose(c net.Conn) { c.(*net.TCPConn).CloseWrite() }
func resetIt(c net.Conn)   { c.(*net.TCPConn).SetLinger(0); c.Close() }

// TestIdleSessionHoldsNoBuffer: between commands the replies hold no
// memory (the reader has its own test).
func TestIdleSessionHoldsNoBuffer(t *testing.T) {
	srv := door(t, newRecordingUpstream(t, -1))
	c, done := begin(t, srv)
	r := bufio.NewReader(c)
	c.SetDeadline(time.Now().Add(patience))
	r.ReadString('\n')
	fmt.Fprintf(c, "HELO c\r\n")
	r.ReadString('\n')
	var s *session
	held := false
	for parked := false; !parked; time.Sleep(time.Millisecond) {
		srv.mu.Lock()
		for s = range srv.sessions {
		}
		srv.mu.Unlock()
		s.mu.Lock()
		parked, held = s.idle, s.out.buf != nil // as it was when it parked
		s.mu.Unlock()
	}
	srv.Shutdown(context.Background())
	within(t, done, "session")
	if held {
		t.Error("the reply buffer is held")
	}
	c.Close()
}

// TestLogRulesRunForAClientThatIsGone: whatever the end of a transaction, its
// log rules are told.
func TestLogRulesRunForAClientThatIsGone(t *testing.T) {
	asked := make(chan struct{})
	waits := opinion(policy.Rcpt)
	waits.Timeout = patience
	waits.Evaluator = evalFunc(func(ctx context.Context, _ *policy.Session, _ *policy.Event) (policy.Verdict, error) {
		close(asked)
		<-ctx.Done()
		return policy.Verdict{}, ctx.Err()
	})
	told := make(chan error, 1)
	logs := opinion(policy.Done)
	logs.Evaluator = evalFunc(func(ctx context.Context, _ *policy.Session, ev *policy.Event) (policy.Verdict, error) {
		told <- ctx.Err()
		return policy.Verdict{}, nil
	})
	srv := door(t, newRecordingUpstream(t, -1), waits, logs)
	c, done := begin(t, srv)
	io.WriteString(c, "HELO c\r\nMAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\n")
	<-asked
	resetIt(c)
	within(t, done, "session")
	select {
	case err := <-told:
		if err != nil {
			t.Error("its context is over:", err)
		}
	default:
		t.Error("the log rule did not run")
	}
}

// TestWaitingSessionsAreSmall: a thousand sessions that wait for a rule cost
// little memory each.
func TestWaitingSessionsAreSmall(t *testing.T) {
	const clients = 1000
	var asked sync.WaitGroup
	asked.Add(clients)
	release := make(chan struct{})
	rule := opinion(policy.Mail)
	rule.Evaluator = evalFunc(func(context.Context, *policy.Session, *policy.Event) (policy.Verdict, error) {
		asked.Done()
		<-release
		return policy.Verdict{Action: policy.Reject, Reply: policy.Say(550, policy.Status{5, 7, 1}, "no")}, nil
	})
	srv := door(t, newRecordingUpstream(t, -1), rule)
	srv.Limits.Connections = clients
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	conns := make([]net.Conn, clients)
	ends := make([]chan struct{}, clients)
	for i := range conns {
		conns[i], ends[i] = begin(t, srv)
		io.WriteString(conns[i], "HELO c\r\nMAIL FROM:<a@example.net>\r\n")
	}
	asked.Wait()
	runtime.GC()
	runtime.GC() // pools are emptied by the second one
	runtime.ReadMemStats(&after)
	each := (int64(after.HeapAlloc+after.StackInuse) - int64(before.HeapAlloc+before.StackInuse)) / clients
	t.Logf("%d octets each, with both ends of the connection", each)
	if each > 32<<10 {
		t.Errorf("%d octets each", each)
	}
	close(release)
	for i, c := range conns {
		c.Close()
		within(t, ends[i], "session")
	}
}

// A hasteListener hands over all clients that wait, one behind the other, and
// remembers how many descriptors that took at most.
type hasteListener struct {
	net.Listener
	wait       []net.Conn
	open, most atomic.Int32
}

func (l *hasteListener) Accept() (net.Conn, error) {
	if len(l.wait) == 0 {
		return l.Listener.Accept()
	}
	c := &heldConn{Conn: l.wait[0], l: l}
	l.wait = l.wait[1:]
	if n := l.open.Add(1); n > l.most.Load() {
		l.most.Store(n)
	}
	return c, nil
}

// A heldConn is one of its clients.
type heldConn struct {
	net.Conn
	l    *hasteListener
	once sync.Once
}

func (c *heldConn) Close() error {
	c.once.Do(func() { c.l.open.Add(-1) })
	return c.Conn.Close()
}

// TestBurst: clients that are too many never hold more descriptors than there
// are for those that are served and those that are told, however many come at
// once.
func TestBurst(t *testing.T) {
	srv := door(t, newRecordingUpstream(t, -1))
	srv.Limits.Connections, srv.Limits.Turned = 5, 3
	l := &hasteListener{Listener: listen(t)}
	var clients []net.Conn
	for range 200 {
		ours, theirs := tcpPair(t)
		l.wait, clients = append(l.wait, ours), append(clients, theirs)
	}
	c, served := serveOn(t, srv, l)
	c.SetReadDeadline(time.Now().Add(patience))
	if got, err := io.ReadAll(c); err == nil && len(got) > 0 && string(got[:3]) != "421" { // he is the last one
		t.Errorf("one more hears %q", got)
	}
	if n := l.most.Load(); n > 5+3+1 {
		t.Errorf("%d descriptors were taken at once, want at most 9", n)
	}
	for _, c := range clients {
		c.Close()
	}
	srv.Close()
	<-served
}
