package milter

import (
	"testing"
	"time"

	"github.com/emersion/go-milter"

	"github.com/moongate/moongate/milter/wire"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/policytest"
)

// What libmilter ignores or answers where there is no session ends none.
func TestBetweenSessions(t *testing.T) {
	srv, logs := serverOf(policytest.Always(policy.Unknown, policytest.Reject("no")))
	m := dial(t, srv, all)
	idle := func() {
		t.Helper()
		m.send(wire.Signal{Code: milter.CodeAbort})
		m.want("c", wire.Unknown{Line: "WIZ"})
		m.send(wire.Signal{Code: milter.CodeQuitNewConn})
	}
	idle()
	m.hello()
	m.want("y 550 5.7.1 no", wire.Unknown{Line: "WIZ"})
	m.send(wire.Signal{Code: milter.CodeQuitNewConn})
	idle()
	m.hello()
	m.want("c", wire.Mail{From: "<a@example.net>"})
	m.send(wire.Signal{Code: milter.CodeQuit})
	m.closed()
	ended(t, srv)
	if n := logs.FilterMessage("disconnect").Len(); n != 2 {
		t.Errorf("%d disconnect lines, want 2", n)
	}
	if n := logs.FilterMessage("milter: connection ended").Len(); n != 0 {
		t.Error("the connection ended with an error")
	}
}

// A peer that says nothing is no MTA, which negotiates at once.
func TestNegotiatesSoon(t *testing.T) {
	srv, _ := serverOf()
	srv.Opening = time.Millisecond
	m := dial(t, srv, wire.Options{})
	m.closed()
	m = call(t, m.c.RemoteAddr(), wire.Options{})
	srv2, _ := serverOf()
	if wait := srv2.opening(); wait < 10*time.Second || wait > 2*time.Minute {
		t.Errorf("a peer may be silent for %v", wait)
	}
	m.closed()
}
