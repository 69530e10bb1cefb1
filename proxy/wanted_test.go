package proxy

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/moongate/moongate/policy"
)

// talker is a client that waits for each answer.
type talker struct {
	t *testing.T
	net.Conn
	r    *bufio.Reader
	done chan struct{}
}

func talk(t *testing.T, srv *Server) *talker {
	c, done := begin(t, srv)
	t.Cleanup(func() { c.Close() })
	k := &talker{t, c, bufio.NewReader(c), done}
	k.hears("220")
	k.say("HELO c", "250")
	return k
}

func (k *talker) hears(code string) {
	k.t.Helper()
	k.SetReadDeadline(time.Now().Add(patience))
	if line, err := k.r.ReadString('\n'); err != nil || !strings.HasPrefix(line, code) {
		k.t.Fatalf("heard %q (%v), want %s", line, err, code)
	}
}

func (k *talker) say(line, code string) {
	k.t.Helper()
	io.WriteString(k, line+"\r\n")
	k.hears(code)
}

// TestIdleTransactions: clients that begin transactions and fall silent do not
// keep the upstream from the others; a message under way is not cut for them.
func TestIdleTransactions(t *testing.T) {
	u := newRecordingUpstream(t, -1)
	srv := door(t, u)
	srv.Hop.MaxConns, srv.Hop.Wait = 5, patience
	srv.Timeouts.Stress = 30 * time.Millisecond
	begun := talk(t, srv)
	begun.say("MAIL FROM:<a@example.net>", "250")
	begun.say("RCPT TO:<b@example.org>", "250")
	begun.say("DATA", "354")
	var silent []*talker
	for range 4 {
		k := talk(t, srv)
		k.say("MAIL FROM:<a@example.net>", "250")
		silent = append(silent, k)
	}
	var served []*talker
	for range 4 { // each in the place of one of them
		k := talk(t, srv)
		k.say("MAIL FROM:<c@example.net>", "250")
		k.say("RCPT TO:<d@example.org>", "250")
		k.say("DATA", "354")
		served = append(served, k)
	}
	for _, k := range silent {
		k.hears("421 4.4.2 Timeout")
		k.Close()
		within(t, k.done, "session")
	}
	for _, k := range append(served, begun) {
		io.WriteString(k, letter)
		k.say(".", "250")
		k.say("QUIT", "221")
		within(t, k.done, "session")
	}
	if messages, _, _, _ := u.got(); len(messages) != 5 {
		t.Errorf("%d messages are delivered, want 5", len(messages))
	}
}

// TestParkHolding: how long a session may be silent that holds an upstream
// connection.
func TestParkHolding(t *testing.T) {
	type room struct {
		ctx    context.Context
		hop    *Hop
		client net.Conn
	}
	waits := func(r room) { // one who waits for a connection, for 26 s
		go r.hop.take(r.ctx, stranger)
		synctest.Wait()
	}
	for _, tt := range []struct {
		name string
		do   func(r room)
		err  error
		took time.Duration
	}{
		{"nobody wants it", func(room) {}, os.ErrDeadlineExceeded, 5 * time.Minute},
		{"wanted from the start", waits, errWanted, 10 * time.Second},
		{"wanted later", func(r room) { time.Sleep(100*time.Second + time.Millisecond); waits(r) }, errWanted, 101 * time.Second},
		{"nobody wants it any more", func(r room) { waits(r); r.hop.leave() }, os.ErrDeadlineExceeded, 5 * time.Minute},
		{"a command in time", func(r room) { waits(r); time.Sleep(9 * time.Second); io.WriteString(r.client, "NOOP\r\n") }, nil, 9 * time.Second},
		{"a command after long", func(r room) { time.Sleep(4 * time.Minute); io.WriteString(r.client, "NOOP\r\n") }, nil, 4 * time.Minute},
		{"one that comes slowly", func(r room) {
			for _, c := range "NOOP\r\n" {
				time.Sleep(40 * time.Second)
				io.WriteString(r.client, string(c))
			}
		}, nil, 4 * time.Minute},
		{"octets alone are no command", func(r room) {
			waits(r)
			for range 20 {
				io.WriteString(r.client, "N")
				time.Sleep(time.Second)
			}
		}, errWanted, 10 * time.Second},
		{"nor is a line without end", func(r room) {
			waits(r)
			io.WriteString(r.client, strings.Repeat("N", 2*maxCommand))
		}, os.ErrDeadlineExceeded, 10 * time.Second},
		{"its end comes later", func(r room) {
			time.Sleep(time.Minute + 900*time.Millisecond)
			io.WriteString(r.client, strings.Repeat("N", 2*maxCommand))
			time.Sleep(9 * time.Second)
			io.WriteString(r.client, "\r\n")
		}, errLong, time.Minute + 9900*time.Millisecond},
		{"the client goes", func(r room) { time.Sleep(time.Minute); r.client.Close() }, io.EOF, time.Minute},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				hop := &Hop{MaxConns: 1, Wait: patience}
				hop.pool.open = 1
				s := &session{srv: &Server{}, set: Settings{Hop: hop}.prepared(), conn: ours, in: newLines(ours), policy: &policy.Session{Ctx: t.Context()}}
				s.policy.Tx = &policy.Transaction{}
				s.relay.up = &conn{hop: hop}
				defer s.in.Release()
				start := time.Now()
				done := make(chan struct{})
				go func() {
					defer close(done)
					tt.do(room{t.Context(), hop, theirs})
				}()
				line, err := s.next()
				if took := time.Since(start); took != tt.took || !errors.Is(err, tt.err) {
					t.Errorf("%q, %v after %v; want %v after %v", line, err, took, tt.err, tt.took)
				}
				if err == nil && string(line) != "NOOP" {
					t.Errorf("the command is %q", line)
				}
				ours.Close()
				<-done
			})
		})
	}
}
