package milter

import (
	"net"
	"strings"
	"testing"

	"github.com/emersion/go-milter"

	"github.com/moongate/moongate/milter/wire"
	"github.com/moongate/moongate/policy"
)

// What an MTA said on one connection is not known on the next, which the same
// goroutine serves: no macro, no octet of a frame that was cut, no answer that
// nobody fetched.
func TestHandForgets(t *testing.T) {
	var f facts
	srv, _ := serverOf(f.rules(policy.Mail)...)
	m := dial(t, srv, all)
	m.hello()
	m.send(wire.Macros{For: milter.CodeMail, Pairs: []string{"{auth_authen}", "alice"}})
	m.want("c", wire.Mail{From: "<a@example.net>"})
	m.c.Write([]byte{0, 0, 1, 0, 'M', '<'})
	m.c.(*net.TCPConn).CloseWrite()
	m.closed()
	for range 3 { // whichever goroutine serves them
		m = call(t, m.c.RemoteAddr(), all)
		m.hello()
		m.want("c", wire.Mail{From: "<b@example.net>"})
		m.send(wire.Signal{Code: milter.CodeQuit})
		m.closed()
	}
	seen := f.lines()
	if len(seen) != 4 || !strings.Contains(seen[0], "user=alice") {
		t.Fatalf("%q", seen)
	}
	for _, line := range seen[1:] {
		if line != "mail client.example[192.0.2.1] client.example from=b@example.net" {
			t.Errorf("%q", line)
		}
	}
}

// What a connection made large does not stay.
func TestHandKeepsLittle(t *testing.T) {
	h, c := newHand(), &conn{}
	h.lend(c)
	c.out = make([]byte, 1<<16)
	c.macros.set(milter.CodeMail, []string{"i", "4711"})
	h.clear(c)
	if h.out != nil || len(h.macros) != 0 {
		t.Errorf("%d octets of answers and %d macros stay", cap(h.out), len(h.macros))
	}
}

// A crew keeps so many hands that wait, and none once it has been sent home.
func TestCrewEnds(t *testing.T) {
	var w crew
	hands := make([]*hand, resting+1)
	for i := range hands {
		hands[i] = newHand()
		if kept := w.back(hands[i]); kept != (i < resting) {
			t.Fatalf("hand %d is kept: %v", i, kept)
		}
	}
	w.leave()
	for i, h := range hands[:resting] {
		if _, work := <-h.next; work {
			t.Errorf("hand %d has work", i)
		}
	}
	if w.back(newHand()) {
		t.Error("a hand waits for ever")
	}
}
