package milter

import (
	"errors"
	"net"
	"sync"
	"syscall"
	"testing"

	"github.com/emersion/go-milter"

	"github.com/moongate/moongate/internal/socket"
	"github.com/moongate/moongate/milter/wire"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/policytest"
)

// A poorListener has no descriptors for a while.
type poorListener struct {
	net.Listener
	mu   sync.Mutex
	fail int
}

func (l *poorListener) Accept() (net.Conn, error) {
	l.mu.Lock()
	fail := l.fail > 0
	l.fail--
	l.mu.Unlock()
	if fail {
		return nil, &net.OpError{Op: "accept", Net: "tcp", Err: syscall.EMFILE}
	}
	return l.Listener.Accept()
}

// Running out of descriptors does not end the listener.
func TestAcceptFails(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv, logs := serverOf()
	done := make(chan error, 1)
	go func() { done <- srv.Serve(&poorListener{Listener: l, fail: 4}) }()
	m := call(t, l.Addr(), all)
	m.hello()
	srv.Close()
	if err := <-done; !errors.Is(err, ErrServerClosed) {
		t.Errorf("serve: %v", err)
	}
	if n := logs.FilterMessage("milter: accept failed").Len(); n != 4 {
		t.Errorf("%d lines about it, want 4", n)
	}
	ended(t, srv)
	if err := srv.Serve(l); !errors.Is(err, ErrServerClosed) {
		t.Errorf("serve after close: %v", err)
	}
}

// A listener that is closed leaves nothing behind, and the others go on: a unix
// socket whose file is lost is replaced while we serve.
func TestListenerIsReplaced(t *testing.T) {
	srv, _ := serverOf()
	let := func() {}
	for range 3 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		l = socket.Listen(l)
		done := make(chan error, 1)
		go func() { done <- srv.Serve(l) }()
		call(t, l.Addr(), all).hello()
		let()
		srv.mu.Lock()
		if len(srv.ls) != 1 {
			t.Errorf("it knows %d listeners", len(srv.ls))
		}
		srv.mu.Unlock()
		let = func() {
			l.Close()
			if err := <-done; errors.Is(err, ErrServerClosed) {
				t.Errorf("serve: %v", err)
			}
		}
	}
	let()
	srv.Close()
	ended(t, srv)
}

// An MTA that waits for an answer to each chunk of the body and knows SKIP
// sends no more of a message that is decided.
func TestSkip(t *testing.T) {
	offer := all
	offer.Protocol &^= milter.OptNoBodyReply
	srv, _ := serverOf(policytest.Always(policy.Mail, policy.Verdict{Action: policy.Discard}), policytest.Always(policy.Message, policy.Verdict{}))
	m := dial(t, srv, offer)
	m.hello()
	m.want("c", wire.Mail{From: "<a@example.net>"})
	m.want("c", wire.Rcpt{To: "<b@example.org>"})
	m.message("", "Subject: x")
	m.want("s", wire.Body{Chunk: []byte("x\r\n")})
	if _, a := m.end(); a != "d" {
		t.Errorf("end: %q", a)
	}
	offer.Protocol &^= milter.OptSkip
	m = dial(t, srv, offer)
	m.hello()
	m.want("c", wire.Mail{From: "<a@example.net>"})
	m.want("c", wire.Rcpt{To: "<b@example.org>"})
	m.message("", "Subject: x")
	m.want("c", wire.Body{Chunk: []byte("x\r\n")})
	if _, a := m.end(); a != "d" {
		t.Errorf("end: %q", a)
	}
}

// What comes for a message when there is none is never let pass.
func TestOrphans(t *testing.T) {
	var rules []*policy.Rule
	for _, h := range everyHook {
		rules = append(rules, policytest.Always(h, policy.Verdict{}))
	}
	offer := all
	offer.Protocol &^= milter.OptNoBodyReply | milter.OptNoHeaderReply
	srv, _ := serverOf(rules...)
	m := dial(t, srv, offer)
	m.hello()
	for _, cmd := range []wire.Command{
		wire.Rcpt{To: "<b@example.org>"}, wire.Signal{Code: milter.CodeData}, wire.Header{Name: "A", Value: "b"},
		wire.Signal{Code: milter.CodeEOH}, wire.Body{Chunk: []byte("x")}, wire.End{},
	} {
		m.want("t", cmd)
	}
	m.want("c", wire.Mail{From: "<a@example.net>"})
	m.want("c", wire.Rcpt{To: "<b@example.org>"})
	m.message("x\r\n", "A: b")
	if _, a := m.end(); a != "a" {
		t.Errorf("end: %q", a)
	}
	m.want("t", wire.End{}) // a second end
}
