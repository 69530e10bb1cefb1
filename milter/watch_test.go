package milter

import (
	"net"
	"sync"
	"testing"

	"github.com/emersion/go-milter"

	"github.com/moongate/moongate/milter/wire"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/policytest"
)

// A peer that has said all and only listens now is answered.
func TestHalfClose(t *testing.T) {
	srv, logs := serverOf()
	var gate sync.Mutex
	rules := srv.Env.Engine
	srv.Env.Engine = policy.EngineFunc(func(f *policy.Facts) *policy.Rules {
		gate.Lock()
		defer gate.Unlock()
		return rules.Rules(f)
	})
	m := dial(t, srv, all)
	m.hello()
	gate.Lock() // MAIL waits here, and nobody looks at the connection
	m.send(wire.Mail{From: "<a@example.net>"})
	m.send(wire.Rcpt{To: "<b@example.org>"})
	m.send(wire.Header{Name: "Subject", Value: " x"})
	m.send(wire.Signal{Code: milter.CodeEOH})
	m.send(wire.End{})
	err := m.c.(*net.TCPConn).CloseWrite()
	gate.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range "ca" {
		if f := m.next(); rune(f.Code) != want {
			t.Errorf("answer %c, want %c", f.Code, want)
		}
	}
	m.closed()
	ended(t, srv)
	if l := audited(t, logs); l["verdict"] != "accepted" {
		t.Errorf("audit line: %v", l)
	}
}

// One that is gone has heard nothing, so nothing has happened.
func TestClosedBeforeAnswer(t *testing.T) {
	asked, goOn := make(chan struct{}), make(chan struct{})
	hold := &holdSpy{done: make(chan string, 1)}
	srv, logs := serverOf(policytest.Rule(policy.Message, func(_ *policy.Session, ev *policy.Event) (policy.Verdict, error) {
		ev.Hold(hold)
		close(asked)
		<-goOn // most likely before anybody looks whether the MTA is there
		return policy.Verdict{}, nil
	}))
	m := dial(t, srv, all)
	m.hello()
	m.want("c", wire.Mail{From: "<a@example.net>"})
	m.want("c", wire.Rcpt{To: "<b@example.org>"})
	m.message("x\r\n", "Subject: x")
	m.send(wire.End{})
	<-asked
	m.c.Close()
	close(goOn)
	if got := <-hold.done; got != "released" {
		t.Errorf("what was taken is %s", got)
	}
	ended(t, srv)
	if l := audited(t, logs); l["verdict"] != "aborted" {
		t.Errorf("audit line: %v", l)
	}
}
