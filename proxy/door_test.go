package proxy

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/message"
)

func TestQueuedAs(t *testing.T) {
	for text, want := range map[string]string{
		"Ok: queued as 4XyZ12":                           "4XyZ12",
		"Ok: queued as 3A7BF1C0D2.":                      "3A7BF1C0D2",
		"OK id=1tBcDe-000000001Ab-2fGh":                  "1tBcDe-000000001Ab-2fGh",
		"4AMB0x1y012345 Message accepted for delivery":   "4AMB0x1y012345",
		"ok 1731000000 qp 12345":                         "12345",
		"<a@b> [InternalId=123, Hostname=x] Queued mail": "123",
		"Ok":                                   "",
		"":                                     "",
		"queued as " + strings.Repeat("x", 65): "",
	} {
		if got := queuedAs(policy.Reply{Code: 250, Text: []string{text}}); got != want {
			t.Errorf("%q: got %q, want %q", text, got, want)
		}
	}
	if got := queuedAs(policy.Reply{Code: 250}); got != "" {
		t.Errorf("a reply without text: %q", got)
	}
}

func TestReceivedLine(t *testing.T) {
	path := func(a string) policy.Path { p, _ := policy.NewPath(a, false); return p }
	rcpt := func(a string) *policy.Recipient {
		return &policy.Recipient{In: path(a), Out: path(a), State: policy.RcptAccepted}
	}
	at := time.Date(2026, 11, 5, 9, 8, 7, 0, time.FixedZone("", 3600))
	for _, tt := range []struct {
		name  string
		facts policy.Facts
		tx    policy.Transaction
		want  string
	}{
		{"one recipient", policy.Facts{Helo: "c.example", Proto: "ESMTP", PTR: "ptr.example", Remote: netip.MustParseAddrPort("192.0.2.1:1")},
			policy.Transaction{ID: "X.1", Rcpts: []*policy.Recipient{rcpt("b@example.org")}},
			" from c.example (ptr.example [192.0.2.1])\r\n\tby gate.example (moongate) with ESMTP id X.1\r\n\tfor <b@example.org>;\r\n\tThu, 5 Nov 2026 09:08:07 +0100"},
		{"several, IPv6, TLS, login", policy.Facts{Helo: "[IPv6:2001:db8::1]", Proto: "ESMTP", User: "u", TLS: &policy.TLS{Version: "TLS1.3", Cipher: "TLS_AES_128_GCM_SHA256"}, Remote: netip.MustParseAddrPort("[2001:db8::1]:1")},
			policy.Transaction{ID: "X.1", Rcpts: []*policy.Recipient{rcpt("b@example.org"), rcpt("c@example.org")}},
			" from [IPv6:2001:db8::1] ([IPv6:2001:db8::1])\r\n\tby gate.example (moongate) with ESMTPSA id X.1\r\n\t(using TLS1.3 with cipher TLS_AES_128_GCM_SHA256);\r\n\tThu, 5 Nov 2026 09:08:07 +0100"},
		{"hostile name, unix socket", policy.Facts{Helo: "x;(y)\"z@", Proto: "SMTP"},
			policy.Transaction{ID: "X.1"},
			" from x??y??z?\r\n\tby gate.example (moongate) with SMTP id X.1;\r\n\tThu, 5 Nov 2026 09:08:07 +0100"},
	} {
		s := &session{set: &Settings{Hostname: "gate.example"}, policy: &policy.Session{Facts: tt.facts, Tx: &tt.tx}}
		got := s.receivedLine(at)
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s:\n%s", tt.name, diff)
		}
		if err := message.CheckField("Received", got); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// TestUpstreamIsDown: that is no reason not to serve: MAIL hears 451, and once
// the breaker is open a client hears 421 at connect.
func TestUpstreamIsDown(t *testing.T) {
	address, _ := deaf(t)
	u := newRecordingUpstream(t, -1)
	srv := door(t, u)
	srv.Hop = &Hop{Address: address, Hostname: "gate.example"}
	t.Cleanup(func() { srv.Hop.Close() })
	c, done := begin(t, srv)
	go io.WriteString(c, "EHLO c\r\nMAIL FROM:<a@example.net>\r\nQUIT\r\n")
	b, _ := io.ReadAll(c)
	c.Close()
	within(t, done, "session")
	want := "220 gate.example ESMTP\r\n250-gate.example\r\n250-PIPELINING\r\n250-SIZE 52428800\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 DSN\r\n" +
		"451 4.3.0 Temporary failure, please try again later\r\n221 2.0.0 Bye\r\n"
	if diff := cmp.Diff(want, string(b)); diff != "" {
		t.Error(diff)
	}
	for range 10 {
		srv.Hop.breaker.failed(false)
	}
	c, done = begin(t, srv)
	if got := banner(t, c); got != "421 4.3.2 Service not available, please try again later\r\n" {
		t.Errorf("with the breaker open the client hears %q", got)
	}
	c.Close()
	within(t, done, "session")
}

// TestSettingsForNewSessions: a reload is for those who come; who is here keeps
// what it has.
func TestSettingsForNewSessions(t *testing.T) {
	srv := door(t, newRecordingUpstream(t, -1))
	old, done := begin(t, srv)
	banner(t, old)
	set := srv.Settings
	set.Hostname = "new.example"
	srv.Use(set)
	c, done2 := begin(t, srv)
	if got := banner(t, c); got != "220 new.example ESMTP\r\n" {
		t.Errorf("got %q", got)
	}
	io.WriteString(old, "HELO c\r\n")
	if got := banner(t, old); got != "250 gate.example\r\n" {
		t.Errorf("got %q", got)
	}
	old.Close()
	c.Close()
	within(t, done, "session")
	within(t, done2, "session")
}

// FuzzSession throws octets at a session. Whatever they are, what goes upstream
// has no stray CR or LF, and every message there was answered with 250.
func FuzzSession(f *testing.F) {
	f.Add([]byte(envelope+wire(letter)+"QUIT\r\n"), uint8(0))
	f.Add([]byte("EHLO c\r\nMAIL FROM:<> SIZE=1\r\nRCPT TO:<\"a b\"@example.org> NOTIFY=NEVER\r\nDATA\r\n\r\n.\r\nRSET\r\n"), uint8(1))
	f.Add([]byte("HELO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nx\n.\r\n\r\r\n.\r\nQUIT\r\n"), uint8(2))
	f.Add([]byte("VRFY x\r\nEXPN x\r\nHELP\r\nNOOP\r\nXFORWARD A=B\r\nGET / HTTP\r\n"), uint8(0))
	names := []string{"free", "stream", "hold"}
	f.Fuzz(func(t *testing.T, octets []byte, way uint8) {
		u := newRecordingUpstream(t, -1)
		srv := door(t, u, ways[names[int(way)%3]]...)
		reg := prometheus.NewRegistry()
		srv.Env.Metrics = policy.NewMetrics(reg)
		ours, theirs := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			srv.ServeConn(ours, local())
		}()
		heard := make(chan string, 1)
		go func() {
			b, _ := io.ReadAll(theirs)
			heard <- string(b)
		}()
		theirs.SetWriteDeadline(time.Now().Add(patience))
		theirs.Write(octets)
		theirs.Close()
		within(t, done, "session")
		<-heard
		_, _, _, stray := u.got()
		if stray {
			t.Error("a stray CR or LF went upstream")
		}
		if n := counted(t, reg, "moongate_panics_total"); n != 0 {
			t.Error("a panic")
		}
	})
}

// TestResolve: the client's name is known before it is asked about.
func TestResolve(t *testing.T) {
	var ptr string
	rule := opinion(policy.Connect)
	rule.Evaluator = evalFunc(func(_ context.Context, s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
		ptr = fmt.Sprint(s.PTR, s.PTRTemp)
		return policy.Verdict{}, nil
	})
	for _, temporary := range []bool{false, true} {
		srv := door(t, newRecordingUpstream(t, -1), rule)
		srv.PTR = func(_ context.Context, a netip.Addr) (string, bool) { return "host-" + a.String(), temporary }
		for ip, want := range map[string]string{
			"192.0.2.1": fmt.Sprint("host-192.0.2.1", temporary),
			"127.0.0.1": fmt.Sprint("", false), // nobody is asked
		} {
			ours, theirs := tcpPair(t)
			done := make(chan struct{})
			go func() {
				defer close(done)
				srv.ServeConn(ours, policy.Facts{Remote: netip.AddrPortFrom(netip.MustParseAddr(ip), 1)})
			}()
			banner(t, theirs) // for a client that is gone no rule is asked
			theirs.Close()
			within(t, done, "session")
			if ptr != want {
				t.Errorf("the rule saw %q, want %q", ptr, want)
			}
		}
	}
}
