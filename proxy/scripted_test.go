package proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"go.uber.org/goleak"

	"github.com/moongate/moongate/policy"
)

// scripted is an upstream that plays a script to each connection, in the order
// in which they come. A script's lines are
//
//	S: text    say it (with CR LF; lines in a row go out in one write)
//	R: text    say it without a line end, \r and \n spelled so
//	C: text    hear exactly this line
//	proxy ADDR hear a PROXY header for that client (or "proxy local")
//	alone      nothing more must be here than what was heard
//	hang       say nothing more, until the other side closes
//	close      close now
//	reset      close with a reset
//	wait NAME  until the test has closed that gate
//	tell NAME  close that gate: the test waits for it, see told
//	body       hear some of a message, whose end must not come
//	eof        the other side must close here, saying nothing more (no dot, RSET or QUIT)
//
// Behind its last line the other side may say QUIT and must close.
type scripted struct {
	t     testing.TB
	l     net.Listener
	wg    sync.WaitGroup
	mu    sync.Mutex
	conns []net.Conn
	gates map[string]chan struct{}
	count int
}

func startScripted(t testing.TB, scripts ...string) *scripted {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return playOn(t, l, scripts...)
}

// playOn is startScripted with a listener that the test has made. It is closed at the end of the test.
func playOn(t testing.TB, l net.Listener, scripts ...string) *scripted {
	s := &scripted{t: t, l: l, gates: map[string]chan struct{}{}}
	s.wg.Add(1)
	go s.accept(scripts)
	t.Cleanup(func() {
		l.Close()
		done := make(chan struct{})
		go func() { s.wg.Wait(); close(done) }()
		select {
		case <-done:
		case <-time.After(patience):
			t.Error("a scripted upstream was left open")
			s.mu.Lock()
			for _, c := range s.conns {
				c.Close()
			}
			s.mu.Unlock()
			<-done
		}
	})
	return s
}

func (s *scripted) gate(name string) chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.gates[name] == nil {
		s.gates[name] = make(chan struct{})
	}
	return s.gates[name]
}

// told calls f once the script has come to "tell NAME".
func (s *scripted) told(name string, f func()) {
	go func() {
		<-s.gate(name)
		f()
	}()
}

func (s *scripted) accepted() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.count
}

func (s *scripted) accept(scripts []string) {
	defer s.wg.Done()
	for {
		c, err := s.l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns = append(s.conns, c)
		n := s.count
		s.count++
		s.mu.Unlock()
		if n >= len(scripts) {
			s.t.Errorf("connection %d is one too many", n+1)
			c.Close()
			continue
		}
		s.wg.Add(1)
		go s.play(c, n, scripts[n])
	}
}

func (s *scripted) play(c net.Conn, n int, script string) {
	defer s.wg.Done()
	defer c.Close()
	r := bufio.NewReader(c)
	say := ""
	flush := func() {
		io.WriteString(c, say)
		say = ""
	}
	for line := range strings.SplitSeq(strings.TrimSpace(script), "\n") {
		line = strings.TrimLeft(line, " \t")
		verb, arg, _ := strings.Cut(line, " ")
		if verb == "" {
			continue
		}
		if verb != "S:" {
			flush()
		}
		switch verb {
		case "S:":
			say += arg + "\r\n"
		case "R:":
			io.WriteString(c, strings.NewReplacer(`\r`, "\r", `\n`, "\n").Replace(arg))
		case "C:":
			got, err := r.ReadString('\n')
			if got != arg+"\r\n" {
				s.t.Errorf("connection %d: heard %.200q (%v), want %q", n+1, got, err, arg)
				return
			}
		case "hang":
			io.Copy(io.Discard, r)
			return
		case "close":
			return
		case "reset":
			c.(*net.TCPConn).SetLinger(0)
			return
		case "wait":
			<-s.gate(arg)
		case "tell":
			close(s.gate(arg))
		case "alone":
			c.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			if b, _ := r.Peek(1); len(b) > 0 {
				s.t.Errorf("connection %d: heard more than one command", n+1)
			}
			c.SetReadDeadline(time.Time{})
		case "proxy":
			h, err := proxyproto.Read(r)
			if err != nil || h.Command.IsLocal() != (arg == "local") || !h.Command.IsLocal() && h.SourceAddr.String() != arg {
				s.t.Errorf("connection %d: heard %+v (%v), want PROXY %s", n+1, h, err, arg)
				return
			}
		case "body":
			rest, _ := io.ReadAll(r)
			got := decodeIn(s.t, newDecoder(bareReject, 0), string(rest))
			if len(rest) == 0 || got.end || strings.HasSuffix(string(rest), "QUIT\r\n") || strings.HasSuffix(string(rest), "RSET\r\n") {
				s.t.Errorf("connection %d: heard %.200q, want a body that breaks off", n+1, rest)
			}
			return
		case "eof":
			if rest, _ := io.ReadAll(r); len(rest) > 0 {
				s.t.Errorf("connection %d: heard %.200q, want a close", n+1, rest)
			}
			return
		default:
			s.t.Errorf("no such line in a script: %q", line)
		}
	}
	flush()
	if rest, _ := io.ReadAll(r); len(rest) > 0 && string(rest) != "QUIT\r\n" {
		s.t.Errorf("connection %d: heard %.200q behind the script", n+1, rest)
	}
}

// hop is a Hop towards the scripts. It is closed at the end of the test.
func (s *scripted) hop(change ...func(*Hop)) *Hop {
	h := &Hop{Address: s.l.Addr().String(), Hostname: "moon.example",
		Wait: patience, Connect: patience, Command: patience, Block: patience, Final: patience}
	for _, f := range change {
		f(h)
	}
	s.t.Cleanup(func() { h.Close() })
	return h
}

const opening = `
	S: 220 up.example ESMTP
	C: EHLO moon.example
	S: 250-up.example
	S: 250-PIPELINING
	S: 250-SIZE 1000000
	S: 250-XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE
	S: 250 8BITMIME
	`

const aMail = `
	C: MAIL FROM:<a@a.example>
	S: 250 2.1.0 Ok
	C: RCPT TO:<b@b.example>
	S: 250 2.1.5 Ok
	C: DATA
	S: 354 go on
	C: Subject: x
	C: 
	C: ..dot
	C: .
	S: 250 2.0.0 queued as 4711
	`

const aMessage = "Subject: x\r\n\r\n.dot\r\n"

func mustGet(t testing.TB, h *Hop, f *policy.Facts) Upstream {
	t.Helper()
	u, err := h.Get(context.Background(), f)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

func mustSay(t testing.TB, u Upstream, code int, verb, arg string) policy.Reply {
	t.Helper()
	if err := u.Send(verb, []byte(arg)); err != nil {
		t.Fatal(err)
	}
	r, err := u.Reply(context.Background())
	if err != nil || r.Code != code {
		t.Fatalf("%s %s: %s, %v; want %d", verb, arg, r, err, code)
	}
	return r
}

func mustData(t testing.TB, u Upstream) BodyWriter {
	t.Helper()
	w, r, err := u.Data(context.Background())
	if err != nil || w == nil {
		t.Fatal(w, r, err)
	}
	return w
}

// sendOne sends aMail.
func sendOne(t testing.TB, u Upstream) {
	t.Helper()
	mustSay(t, u, 250, "MAIL", "FROM:<a@a.example>")
	mustSay(t, u, 250, "RCPT", "TO:<b@b.example>")
	w := mustData(t, u)
	if _, err := io.WriteString(w, aMessage); err != nil {
		t.Fatal(err)
	}
	r, err := w.End(context.Background())
	if err != nil || string(r.Raw) != "250 2.0.0 queued as 4711\r\n" {
		t.Fatal(r, err)
	}
}

// oneMail sends aMail over a connection of the pool, which gets it back.
func oneMail(t testing.TB, h *Hop, f *policy.Facts) {
	t.Helper()
	u := mustGet(t, h, f)
	sendOne(t, u)
	u.Return()
}

// oneWaits sends aMail as soon as the pool has a connection for it. It returns
// when that is waited for; wait returns when all is done.
func oneWaits(t testing.TB, h *Hop) (wait func()) {
	var all sync.WaitGroup
	all.Go(func() {
		u, err := h.Get(context.Background(), stranger)
		if err != nil {
			t.Error(err)
			return
		}
		sendOne(t, u)
		u.Return()
	})
	for waiting := 0; waiting == 0; {
		h.pool.mu.Lock()
		waiting = len(h.pool.waiters)
		h.pool.mu.Unlock()
		runtime.Gosched()
	}
	return all.Wait
}

// awaitEmpty returns when the pool has given up all its connections.
func awaitEmpty(h *Hop) {
	for open := 1; open > 0; {
		time.Sleep(time.Millisecond) // the pool's own timer is what is waited for
		h.pool.mu.Lock()
		open = h.pool.open
		h.pool.mu.Unlock()
	}
}

// hopError is the error as it must be.
func hopError(t testing.TB, err error, op string) *HopError {
	t.Helper()
	var he *HopError
	if !errors.As(err, &he) {
		t.Fatalf("%v is no HopError (%s)", err, op)
	}
	if he.Op != op || he.Reply.IsZero() || he.Reply.Code/100 == 2 {
		t.Errorf("op %q, reply %s: %v; want op %q", he.Op, he.Reply, he, op)
	}
	return he
}

// noLeaks fails the test if a goroutine outlives it. Call it first.
func noLeaks(t testing.TB) {
	opt := goleak.IgnoreCurrent()
	t.Cleanup(func() {
		if err := leaks(opt); err != nil {
			t.Error(err)
		}
	})
}
