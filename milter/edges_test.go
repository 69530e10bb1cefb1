package milter

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-milter"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/moongate/moongate/milter/wire"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/message"
	"github.com/moongate/moongate/policy/policytest"
)

// Who the client is, in the words of Postfix and of Sendmail.
func TestFacts(t *testing.T) {
	for _, tc := range []struct {
		name   string
		cmd    wire.Connect
		macros []string
		want   string // client, stranger, local
	}{
		{"Postfix, a name", wire.Connect{Host: "Mail.Example", Family: milter.FamilyInet, Port: 1, Addr: "192.0.2.1"}, nil, "mail.example[192.0.2.1] true invalid AddrPort"},
		{"Postfix, no name", wire.Connect{Host: "[192.0.2.1]", Family: milter.FamilyInet, Addr: "192.0.2.1"}, nil, "unknown[192.0.2.1] true invalid AddrPort"},
		{"unknown", wire.Connect{Host: "unknown", Family: milter.FamilyInet, Addr: "192.0.2.1"}, nil, "unknown[192.0.2.1] true invalid AddrPort"},
		{"IPv6 of Postfix", wire.Connect{Host: "[2001:db8::1]", Family: milter.FamilyInet6, Addr: "2001:db8::1"}, nil, "unknown[2001:db8::1] true invalid AddrPort"},
		{"IPv6 of Sendmail", wire.Connect{Host: "a.example.", Family: milter.FamilyInet6, Addr: "IPv6:2001:db8::1"}, []string{"{client_resolve}", "OK"}, "a.example[2001:db8::1] true invalid AddrPort"},
		{"a name that is not confirmed", wire.Connect{Host: "a.example", Family: milter.FamilyInet, Addr: "192.0.2.1"}, []string{"{client_resolve}", "FORGED"}, "unknown[192.0.2.1] true invalid AddrPort"},
		{"loopback", wire.Connect{Host: "localhost", Family: milter.FamilyInet, Addr: "127.0.0.1"}, []string{"{daemon_addr}", "127.0.0.1", "{daemon_port}", "25"}, "localhost[127.0.0.1] false 127.0.0.1:25"},
		{"IPv4 in IPv6", wire.Connect{Host: "a.example", Family: milter.FamilyInet6, Addr: "::ffff:192.0.2.1"}, []string{"{if_addr}", "IPv6:2001:db8::9"}, "a.example[192.0.2.1] true [2001:db8::9]:0"},
		{"a local socket", wire.Connect{Host: "localhost", Family: milter.FamilyUnix, Addr: "/run/x"}, nil, "local false invalid AddrPort"},
		{"no address", wire.Connect{Host: "unknown", Family: milter.FamilyUnknown}, nil, "unknown[unknown] true invalid AddrPort"},
		{"a broken address", wire.Connect{Host: "x", Family: milter.FamilyInet, Addr: "300.1"}, nil, "x[unknown] true invalid AddrPort"},
	} {
		var got string
		srv, _ := serverOf(policytest.Rule(policy.Connect, func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
			got = s.ClientName() + map[bool]string{true: " true ", false: " false "}[s.Stranger] + s.Local.String()
			return policy.Verdict{}, nil
		}))
		m := dial(t, srv, all)
		m.send(wire.Macros{For: milter.CodeConn, Pairs: tc.macros})
		m.want("c", tc.cmd)
		if got != tc.want {
			t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
		}
	}
}

// A body for which there is no room is refused for now, and the room is given
// back with the message.
func TestSpoolFull(t *testing.T) {
	srv, _ := serverOf(policytest.Always(policy.Message, policy.Verdict{}))
	srv.Pool = &message.Pool{MaxBytes: 100_000}
	m := dial(t, srv, all)
	m.hello()
	for _, tc := range []struct {
		size int
		want string
	}{{90_000, "a"}, {200_000, "y 452 4.3.1 Insufficient system storage"}, {90_000, "a"}} {
		m.want("c", wire.Mail{From: "<a@example.net>"})
		m.want("c", wire.Rcpt{To: "<b@example.org>"})
		m.message(strings.Repeat("x", tc.size), "Subject: x")
		if _, a := m.end(); a != tc.want {
			t.Errorf("%d octets: %q", tc.size, a)
		}
	}
	m.want("c", wire.Mail{From: "<a@example.net>"})
	m.want("c", wire.Rcpt{To: "<b@example.org>"})
	m.message("half a body", "Subject: x")
	m.send(wire.Signal{Code: milter.CodeAbort})
	m.send(wire.Signal{Code: milter.CodeQuit})
	m.closed()
	if n := srv.Pool.InUse(); n != 0 {
		t.Errorf("%d octets are still held", n)
	}
}

// Use gives another Env to sessions that begin later.
func TestUse(t *testing.T) {
	srv, _ := serverOf(policytest.Always(policy.Mail, policytest.Reject("old")))
	first := dial(t, srv, all)
	first.hello()
	env, _ := policytest.Env(policy.Milter, policytest.Always(policy.Mail, policytest.Reject("new")))
	env.SoftBounce = true
	srv.Use(env)
	second := call(t, first.c.RemoteAddr(), all)
	second.hello()
	first.want("y 550 5.7.1 old", wire.Mail{From: "<a@example.net>"})
	second.want("y 450 4.7.1 new", wire.Mail{From: "<a@example.net>"})
}

// Shutdown closes what does not end when its time is over.
func TestShutdownOutOfTime(t *testing.T) {
	srv, logs := serverOf(policytest.Always(policy.Rcpt, policy.Verdict{})) // so that RCPT is answered
	m := dial(t, srv, all)
	m.hello()
	m.want("c", wire.Mail{From: "<a@example.net>"})
	m.want("c", wire.Rcpt{To: "<b@example.org>"}) // a message is under way now
	m.message("", "Subject: x")
	m.send(wire.Macros{For: milter.CodeEOB, Pairs: []string{"i", "Q"}})
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := srv.Shutdown(ctx); err != context.DeadlineExceeded {
		t.Errorf("shutdown: %v", err)
	}
	m.closed()
	if n := logs.FilterMessage("message").Len(); n != 1 {
		t.Errorf("%d audit lines of the message that was cut, want 1", n)
	}
}

// Both faces count.
func TestMetrics(t *testing.T) {
	reg := prometheus.NewRegistry()
	metrics := NewMetrics(reg)
	srv, _ := serverOf(policytest.Always(policy.Mail, policytest.Reject("no")))
	srv.Metrics = metrics
	m := dial(t, srv, all)
	m.c.Write([]byte{0, 0, 0, 0})
	m.closed()
	nobody := "unix:" + t.TempDir() + "/s"
	good := asFilter(t, policytest.Always(policy.Mail, policytest.Reject("no")))
	for _, f := range []*Filter{{Label: "good", Address: good, Metrics: metrics}, {Label: "away", Address: nobody, Metrics: metrics}} {
		d := doorOf(t, t.Context(), []policy.Filter{f})
		d.done(converse(d))
		d.close()
	}
	if err := srv.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := map[string]float64{}
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, s := range f.GetMetric() {
			key := f.GetName()
			for _, l := range s.GetLabel() {
				key += " " + l.GetValue()
			}
			switch {
			case s.GetCounter() != nil:
				got[key] = s.GetCounter().GetValue()
			case s.GetGauge() != nil:
				got[key] = s.GetGauge().GetValue()
			}
		}
	}
	want := map[string]float64{"moongate_milter_broken_total": 1, "moongate_milter_connections": 0, "moongate_milter_refused_total": 0,
		"moongate_filter_failures_total away":        2, // at connect and MAIL
		"moongate_filter_verdicts_total reject good": 1} // an on_error is no answer
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// What a filter hears of messages that went no further, and of clients without
// a name or an address.
func TestFilterAborts(t *testing.T) {
	var f facts
	addr := asFilter(t, f.rules(policy.Connect, policy.Mail, policy.Rcpt, policy.Message)...)
	d := doorOf(t, t.Context(), []policy.Filter{&Filter{Address: addr}})
	d.s.PTR, d.s.Remote = "", netip.MustParseAddrPort("[2001:db8::1]:25000")
	d.connect()
	d.helo("one")
	d.mail("reset@example.net")
	d.s.Tell(&policy.Event{Hook: policy.Reset})
	d.mail("refused@example.net")
	d.s.Tell(&policy.Event{Hook: policy.Answered, Verb: "MAIL", Reply: policy.Say(550, policy.NoStatus, "upstream says no"), By: policy.ByUpstream})
	d.mail("helo@example.net")
	d.s.Tell(&policy.Event{Hook: policy.Reset, Cause: "EHLO"})
	d.helo("two\x00")
	d.mail("whole@example.net")
	d.rcpt("b@example.net")
	if v := d.message("Subject: with\x00NUL\r\n", "x\r\n"); v.Decided() {
		t.Error(say(v))
	}
	d.close()
	who := "unknown[2001:db8::1] "
	want := []string{"connect " + who, "mail " + who + "one from=reset@example.net", "mail " + who + "one from=refused@example.net",
		"mail " + who + "one from=helo@example.net", "mail " + who + "two from=whole@example.net",
		"rcpt " + who + "two from=whole@example.net to=b@example.net", "message " + who + "two from=whole@example.net fields=1 size=23"}
	if diff := cmp.Diff(want, f.lines()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	d = doorOf(t, t.Context(), []policy.Filter{&Filter{Address: addr}})
	d.s.Remote = netip.AddrPort{}
	if v := converse(d); v.Decided() {
		t.Errorf("a client without an address: %s", say(v))
	}
	d.close()
}

// When leaves a filter out of a message.
func TestFilterWhen(t *testing.T) {
	addr := asFilter(t, policytest.Always(policy.Rcpt, policytest.Reject("no")))
	flt := &Filter{Address: addr, When: func(s *policy.Session) bool { return s.Tx.In.From.Local == "judged" }}
	d := doorOf(t, t.Context(), []policy.Filter{flt})
	defer d.close()
	d.connect()
	d.helo("x")
	d.mail("free@example.net")
	if v := d.rcpt("b@example.net"); v.Decided() {
		t.Errorf("left out: %s", say(v))
	}
	if v := d.message(aHeader, "x\r\n"); v.Decided() {
		t.Errorf("left out: %s", say(v))
	}
	d.done(policy.Verdict{Action: policy.Accept})
	d.mail("judged@example.net")
	if v := d.rcpt("b@example.net"); v.Action != policy.Reject {
		t.Errorf("asked: %s", say(v))
	}
}

// Where Postfix plays the client for a local program, a refused recipient is
// the answer to the message.
func TestSubmission(t *testing.T) {
	for _, port := range []uint16{0, 25000} {
		srv, logs := serverOf(policytest.Always(policy.Rcpt, policytest.Reject("no")), policytest.Always(policy.Message, policy.Verdict{}))
		m := dial(t, srv, all)
		m.send(wire.Macros{For: milter.CodeConn, Pairs: []string{"v", "Postfix 3.7.11"}})
		m.want("c", wire.Connect{Host: "localhost", Family: milter.FamilyInet, Port: port, Addr: "127.0.0.1"})
		m.want("c", wire.Helo{Name: "localhost"})
		m.want("c", wire.Mail{From: "<a@example.net>"})
		if port != 0 {
			m.want("y 550 5.7.1 no", wire.Rcpt{To: "<b@example.org>"})
			continue
		}
		m.want("c", wire.Rcpt{To: "<b@example.org>"})
		m.message("x\r\n", "Subject: x")
		if _, a := m.end(); a != "y 550 5.7.1 no" {
			t.Errorf("end: %q", a)
		}
		m.send(wire.Signal{Code: milter.CodeQuit})
		m.closed()
		lines := logs.FilterMessage("message").All()
		if len(lines) != 1 || lines[0].ContextMap()["verdict"] != "rejected" {
			t.Errorf("audit lines: %v", lines)
		}
	}
}
