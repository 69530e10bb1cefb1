package milter

import (
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/emersion/go-milter"

	"github.com/moongate/moongate/milter/wire"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/policytest"
)

// A peer that is no MTA makes us hold little: what no SMTP command could have
// said ends its connection, and macros are kept only for commands that there
// are.
func TestMacrosBounded(t *testing.T) {
	srv, _ := serverOf()
	for _, cmd := range []wire.Command{
		wire.Macros{For: milter.CodeMail, Pairs: make([]string, 2000)},
		wire.Macros{For: milter.CodeMail, Pairs: []string{"i", strings.Repeat("x", 1<<17)}},
		wire.Mail{From: "<a@example.net>", Args: make([]string, 2000)},
		wire.Mail{From: "<a@example.net>", Args: []string{strings.Repeat("x", 1<<15)}},
		wire.Rcpt{To: "<a@example.net>", Args: make([]string, 2000)},
		wire.Rcpt{To: "<a@example.net>", Args: []string{strings.Repeat("x", 1<<15)}},
	} {
		m := dial(t, srv, all)
		m.hello()
		f, _ := cmd.Frame()
		b, _ := f.Append(nil)
		m.c.Write(b) // the connection may end before all of it is written
		m.closed()
	}
	m := dial(t, srv, all)
	before := heap()
	value := strings.Repeat("x", 1<<15)
	for code := range 256 {
		m.send(wire.Macros{For: milter.Code(code), Pairs: []string{"{daemon_name}", value}})
	}
	m.hello()                     // all of it has been read when RCPT is answered
	m.send(wire.Mail{From: "<>"}) // it has what was said for MAIL
	m.want("c", wire.Rcpt{To: "<b@example.org>"})
	if grown := heap() - before; grown > 2<<20 {
		t.Errorf("%d octets are kept of 256 macro packets", grown)
	}
}

// heap is what is in use, garbage left out.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

// A message has as many recipients as at the SMTP door, refused ones too, and
// more are for another time.
func TestRecipientsBounded(t *testing.T) {
	srv, logs := serverOf(policytest.Rule(policy.Rcpt, func(_ *policy.Session, ev *policy.Event) (policy.Verdict, error) {
		if ev.Rcpt.In.Local == "u1" {
			return policytest.Reject("no"), nil
		}
		return policy.Verdict{}, nil
	}))
	srv.MaxRcpts = 3
	m := dial(t, srv, all)
	m.hello()
	for range 2 {
		m.want("c", wire.Mail{From: "<a@example.net>"})
		for n, want := range []string{"c", "y 550 5.7.1 no", "c", "y 452 4.5.3 Too many recipients", "y 452 4.5.3 Too many recipients"} {
			m.want(want, wire.Rcpt{To: "<u" + strconv.Itoa(n) + "@example.org>"})
		}
		m.message("x\r\n", "Subject: x")
		if _, a := m.end(); a != "a" {
			t.Errorf("end: %q", a)
		}
	}
	if n := logs.FilterMessage("refuse").Len(); n != 6 {
		t.Errorf("%d refuse lines, want 6", n)
	}

	// A local program sends no recipient another time, so it has more room, and a
	// refusal at RCPT would leave the mail stuck: it gets the message back.
	m.send(wire.Signal{Code: milter.CodeQuitNewConn})
	m.send(wire.Macros{For: milter.CodeConn, Pairs: []string{"v", "Postfix 3.7.11"}})
	m.want("c", wire.Connect{Host: "localhost", Family: milter.FamilyInet, Addr: "127.0.0.1"})
	m.want("c", wire.Helo{Name: "localhost"})
	m.want("c", wire.Mail{From: "<a@example.net>"})
	for n := range 100*srv.MaxRcpts + 1 {
		m.want("c", wire.Rcpt{To: "<v" + strconv.Itoa(n) + "@example.org>"})
	}
	m.message("x\r\n", "Subject: x")
	if _, a := m.end(); a != "y 554 5.5.3 Too many recipients" {
		t.Errorf("end: %q", a)
	}
}
