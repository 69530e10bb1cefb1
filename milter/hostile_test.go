package milter

import (
	"slices"
	"strings"
	"testing"

	"github.com/emersion/go-milter"

	"github.com/moongate/moongate/milter/wire"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/message"
	"github.com/moongate/moongate/policy/policytest"
)

// Hostile octets end their connection; the next one is served.
func TestHostile(t *testing.T) {
	srv, logs := serverOf()
	m := dial(t, srv, all)
	addr := m.c.RemoteAddr()
	for _, in := range []string{
		"\x00\x00\x00\x00", "\xff\xff\xff\xffB", "\x00\x00\x00\x01Z", "\x00\x00\x00\x01C", "\x00\x00\x00\x02Mx", "\x00\x00\x00\x01O",
		"GET / HTTP/1.1\r\n\r\n", "\x00\x00\x00\x03H\x00\x00",
	} {
		for _, offer := range []wire.Options{{}, all} {
			h := call(t, addr, offer)
			if _, err := h.c.Write([]byte(in)); err != nil {
				t.Fatal(err)
			}
			h.closed()
			who := h.c.LocalAddr().String()
			if l := logs.FilterMessage("milter: connection ended").All(); len(l) == 0 || l[len(l)-1].ContextMap()[policy.KeyPeer] != who {
				t.Errorf("%q from %s is not logged with its peer", in, who)
			}
		}
	}
	m.hello()
	m.want("c", wire.Mail{From: "<a@example.net>"})
	if n := logs.FilterMessage("panic").Len(); n != 0 {
		t.Errorf("%d panics", n)
	}
}

// Addresses are checked as the SMTP door checks them.
func TestMalformedAddress(t *testing.T) {
	srv, _ := serverOf(policytest.Always(policy.Mail, policy.Verdict{}), policytest.Always(policy.Rcpt, policy.Verdict{}))
	m := dial(t, srv, all)
	m.hello()
	m.want("y 501 5.1.7 Bad sender address syntax", wire.Mail{From: "<a@b@example.net>"})
	m.want("c", wire.Mail{From: "<a@example.net>"})
	m.want("y 501 5.1.3 Bad recipient address syntax", wire.Rcpt{To: "<a b@example.net>"})
	m.want("c", wire.Rcpt{To: `<"a b"@example.net>`})
	m.message("x\r\n", "Subject: x")
	if _, a := m.end(); a != "a" {
		t.Errorf("end: %q", a)
	}
}

// Where no answer is waited for, the refusal of a sender comes with the answer
// to RCPT; a program that submits hears of any address at the end.
func TestMalformedAddressUnheard(t *testing.T) {
	const sender, recipient = "y 501 5.1.7 Bad sender address syntax (once)", "y 501 5.1.3 Bad recipient address syntax (once)"
	begin := func(rules ...*policy.Rule) *mta {
		srv, _ := serverOf(rules...)
		srv.Env.Footer = "(once)"
		m := dial(t, srv, all)
		m.hello()
		return m
	}
	end := func(m *mta, want string) {
		t.Helper()
		m.message("x\r\n", "Subject: x")
		if _, a := m.end(); a != want {
			t.Errorf("end: got %q, want %q", a, want)
		}
	}
	m := begin(policytest.Always(policy.Rcpt, policy.Verdict{}))
	m.want("c", wire.Mail{From: "<a@b@example.net>"})
	for range 2 {
		m.want(sender, wire.Rcpt{To: "<b@example.net>"})
	}
	m.want("c", wire.Mail{From: "<a@example.net>"})
	m.want("c", wire.Rcpt{To: "<b@example.net>"})
	end(m, "a")

	// Nobody asks about recipients, and yet one that is malformed is refused, and
	// refused alone.
	for _, rules := range [][]*policy.Rule{nil, {policytest.Always(policy.Message, policy.Verdict{})}} {
		m = begin(rules...)
		m.want("c", wire.Mail{From: "<a@example.net>"})
		m.want(recipient, wire.Rcpt{To: "<a b@example.net>"})
		m.want(recipient, wire.Rcpt{To: "<jürgen@example.net>"})
		m.want("c", wire.Rcpt{To: "<b@example.net>"})
		end(m, "a")
	}

	// Postfix calls a refusal of RCPT a configuration error here, and the mail is
	// stuck.
	m = begin(policytest.Always(policy.Rcpt, policy.Verdict{}))
	m.send(wire.Signal{Code: milter.CodeQuitNewConn})
	m.send(wire.Macros{For: milter.CodeConn, Pairs: []string{"v", "Postfix 3.7.11"}})
	m.want("c", wire.Connect{Host: "localhost", Family: milter.FamilyInet, Addr: "127.0.0.1"})
	m.want("c", wire.Helo{Name: "localhost"})
	m.want("c", wire.Mail{From: "<a@b@example.net>"})
	m.want("c", wire.Rcpt{To: "<b@example.net>"})
	end(m, sender)
	m.want("c", wire.Mail{From: "<a@example.net>"})
	m.want("c", wire.Rcpt{To: "<a b@example.net>"})
	m.want("c", wire.Rcpt{To: "<b@example.net>"})
	end(m, recipient)
}

// A panic in a rule is the rule's failure, one in the room ends the connection
// and not the process.
func TestPanic(t *testing.T) {
	srv, _ := serverOf(policytest.Rule(policy.Mail, func(*policy.Session, *policy.Event) (policy.Verdict, error) { panic("rule") }))
	m := dial(t, srv, all)
	m.hello()
	if a := m.ask(wire.Mail{From: "<a@example.net>"}); !strings.HasPrefix(a, "y 451 4.3.0 ") {
		t.Errorf("a rule that panics: %q", a)
	}
	env, logs := policytest.Env(policy.Milter)
	good := env.Engine
	bad := true
	env.Engine = policy.EngineFunc(func(f *policy.Facts) *policy.Rules {
		if f.Remote.IsValid() && bad {
			panic("engine")
		}
		return good.Rules(f)
	})
	srv = &Server{Env: env}
	m = dial(t, srv, all)
	m.send(wire.Connect{Host: "x", Family: milter.FamilyInet, Addr: "192.0.2.1"})
	m.closed()
	if logs.FilterMessage("panic").Len() == 0 {
		t.Error("the panic is not in the log")
	}
}

// A message that cannot be kept, or a header without end, is refused and
// nothing else happens.
func TestLimits(t *testing.T) {
	srv, _ := serverOf(policytest.Always(policy.Message, policy.Verdict{}))
	srv.MaxHeader = 100
	m := dial(t, srv, all)
	m.hello()
	m.want("c", wire.Mail{From: "<a@example.net>"})
	m.want("c", wire.Rcpt{To: "<b@example.org>"})
	m.message("x\r\n", "Subject: "+strings.Repeat("x", 100))
	if _, a := m.end(); a != "y 552 5.3.4 Message header is too large" {
		t.Errorf("end: %q", a)
	}
	srv.MaxHeader = 0
	for _, more := range []int{0, 1} { // than fit
		m.want("c", wire.Mail{From: "<a@example.net>"})
		m.want("c", wire.Rcpt{To: "<b@example.org>"})
		m.message("x\r\n", slices.Repeat([]string{"X:"}, message.MaxFields+more)...)
		if _, a := m.end(); a != []string{"a", "y 552 5.3.4 Message header is too large"}[more] {
			t.Errorf("%d fields: %q", message.MaxFields+more, a)
		}
	}
	srv.MaxHeader = 100
	m.want("c", wire.Mail{From: "<a@example.net>"})
	m.want("c", wire.Rcpt{To: "<b@example.org>"})
	m.message("x\r\n", "Subject: x")
	if _, a := m.end(); a != "a" {
		t.Errorf("the next message: %q", a)
	}
}
