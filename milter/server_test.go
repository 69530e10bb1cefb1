package milter

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-milter"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap/zaptest/observer"

	"github.com/moongate/moongate/internal/socket"
	"github.com/moongate/moongate/milter/wire"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/policytest"
)

// serverOf is a Server with these rules, and its log.
func serverOf(rules ...*policy.Rule) (*Server, *observer.ObservedLogs) {
	env, logs := policytest.Env(policy.Milter, rules...)
	return &Server{Env: env, Name: "milter"}, logs
}

// facts is a rule at every hook that writes down all it sees.
type facts struct {
	mu   sync.Mutex
	seen []string
}

func (f *facts) lines() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.seen...)
}

func (f *facts) rules(hooks ...policy.Hook) (rules []*policy.Rule) {
	for _, h := range hooks {
		rules = append(rules, policytest.Rule(h, func(s *policy.Session, ev *policy.Event) (policy.Verdict, error) {
			line := fmt.Sprintf("%s %s %s", ev.Hook, s.ClientName(), s.Helo)
			if s.TLS != nil {
				line += " tls=" + s.TLS.Version
			}
			if s.User != "" {
				line += " user=" + s.User
			}
			if tx := s.Tx; tx != nil {
				line += " from=" + tx.In.From.Address
				for _, p := range tx.In.Params {
					line += " " + p.Raw
				}
				if ev.Rcpt != nil {
					line += " to=" + ev.Rcpt.In.Address
				}
				if tx.Message != nil {
					line += fmt.Sprintf(" fields=%d", tx.Message.Header.Len())
					if n, ok := tx.Message.Size(); ok {
						line += fmt.Sprintf(" size=%d", n)
					}
				}
			}
			f.mu.Lock()
			f.seen = append(f.seen, line)
			f.mu.Unlock()
			if ev.Rcpt != nil && strings.HasPrefix(ev.Rcpt.In.Local, "bad") {
				return policytest.Reject("no such user"), nil
			}
			return policy.Verdict{}, nil
		}))
	}
	return rules
}

var everyHook = []policy.Hook{policy.Connect, policy.Helo, policy.Mail, policy.Rcpt, policy.Data, policy.Headers, policy.Message, policy.Unknown}

// A refused recipient, a good one, the end; a second message; RSET; EHLO again
// behind STARTTLS, AUTH: every rule sees the client, HELO, sender and what the
// macros say, each time.
func TestSessionState(t *testing.T) {
	var f facts
	srv, logs := serverOf(f.rules(everyHook...)...)
	m := dial(t, srv, all)
	m.hello()
	m.send(wire.Macros{For: milter.CodeMail, Pairs: []string{"{mail_addr}", "a@example.net"}})
	m.want("c", wire.Mail{From: "<a@example.net>", Args: []string{"SIZE=100", "BODY=8BITMIME"}})
	m.want("y 550 5.7.1 no such user", wire.Rcpt{To: "<bad@example.org>"})
	m.send(wire.Macros{For: milter.CodeRcpt, Pairs: []string{"i", "QID1"}})
	m.want("c", wire.Rcpt{To: "<good@example.org>", Args: []string{"NOTIFY=NEVER"}})
	m.message("body\r\n", "Subject: one", "Message-ID: <1@example.net>")
	if mods, a := m.end(); a != "a" || mods != nil {
		t.Errorf("end: %q %q", mods, a)
	}
	m.send(wire.Signal{Code: milter.CodeAbort}) // Postfix does, after every message

	m.want("c", wire.Unknown{Line: "WIZ"})
	m.want("c", wire.Mail{From: "<b@example.net>"})
	m.send(wire.Signal{Code: milter.CodeAbort}) // RSET

	m.send(wire.Macros{For: milter.CodeHelo, Pairs: []string{"{tls_version}", "TLSv1.3", "{cipher}", "X"}})
	m.want("c", wire.Helo{Name: "again.example"})
	m.send(wire.Macros{For: milter.CodeMail, Pairs: []string{"{auth_authen}", "joe"}})
	m.want("c", wire.Mail{From: "<>"})
	m.want("c", wire.Rcpt{To: "<good@example.org>"})
	m.message("", "Subject: two")
	if _, a := m.end(); a != "a" {
		t.Errorf("second end: %q", a)
	}
	m.send(wire.Signal{Code: milter.CodeQuit})
	m.closed()
	ended(t, srv)

	who := "client.example[192.0.2.1] client.example"
	again := "client.example[192.0.2.1] again.example tls=TLSv1.3"
	one := " from=a@example.net SIZE=100 BODY=8BITMIME"
	want := []string{
		"connect client.example[192.0.2.1] ",
		"helo " + who,
		"mail " + who + one,
		"rcpt " + who + one + " to=bad@example.org",
		"rcpt " + who + one + " to=good@example.org",
		"data " + who + one,
		"headers " + who + one + " fields=2",
		"message " + who + one + " fields=2 size=51",
		"unknown " + who,
		"mail " + who + " from=b@example.net",
		"helo " + again,
		"mail " + again + " user=joe from=",
		"rcpt " + again + " user=joe from= to=good@example.org",
		"data " + again + " user=joe from=",
		"headers " + again + " user=joe from= fields=1",
		"message " + again + " user=joe from= fields=1 size=16",
	}
	if d := cmp.Diff(want, f.lines()); d != "" {
		t.Errorf("the rules saw (-want +got):\n%s", d)
	}
	lines := logs.FilterMessage("message").All()
	if len(lines) != 3 {
		t.Fatalf("%d audit lines, want 3", len(lines))
	}
	first := lines[0].ContextMap()
	if first["verdict"] != "accepted" || first["queued_as"] != "QID1" || first["msgid"] != "<1@example.net>" || first["size"] != int64(51) {
		t.Errorf("audit line: %v", first)
	}
	if v := lines[1].ContextMap()["verdict"]; v != "aborted" {
		t.Errorf("after RSET: %v", v)
	}
	if n := logs.FilterMessage("refuse").Len(); n != 1 {
		t.Errorf("%d refuse lines, want 1", n)
	}
	if n := logs.FilterMessage("disconnect").Len(); n != 1 {
		t.Errorf("%d disconnect lines, want 1", n)
	}
}

// Each refusing verdict at each stage, and what comes after it.
func TestVerdicts(t *testing.T) {
	multi := reject(550, policy.Status{5, 7, 1}, "100% no", "second line")
	for _, h := range everyHook {
		srv, _ := serverOf(policytest.Always(h, multi))
		m := dial(t, srv, all)
		const text = "y 550-5.7.1 100%% no|550 5.7.1 second line"
		at := map[policy.Hook]string{h: text}
		expect := func(hook policy.Hook) string {
			if s := at[hook]; s != "" {
				return s
			}
			return "c"
		}
		m.want(expect(policy.Connect), wire.Connect{Host: "[192.0.2.1]", Family: milter.FamilyInet, Addr: "192.0.2.1"})
		m.want(expect(policy.Helo), wire.Helo{Name: "x"})
		m.want(expect(policy.Mail), wire.Mail{From: "<a@example.net>"})
		switch h {
		case policy.Mail: // nothing belongs to a message now
			if m.silent(wire.Rcpt{}) {
				m.send(wire.Rcpt{To: "<b@example.org>"})
			} else {
				m.want("t", wire.Rcpt{To: "<b@example.org>"})
			}
			if _, a := m.end(); a != "t" {
				t.Errorf("after a refused MAIL the end is %q", a)
			}
			continue
		case policy.Unknown:
			m.want(text, wire.Unknown{Line: "XYZ"})
			continue
		}
		m.want(expect(policy.Rcpt), wire.Rcpt{To: "<b@example.org>"})
		if m.got.Protocol&milter.OptNoData == 0 {
			m.want(expect(policy.Data), wire.Signal{Code: milter.CodeData})
			if h == policy.Data { // a client may try again: it is asked again
				m.want(text, wire.Signal{Code: milter.CodeData})
				continue
			}
		}
		m.want("c", wire.Header{Name: "Subject", Value: " x"})
		m.want(expect(policy.Headers), wire.Signal{Code: milter.CodeEOH})
		_, a := m.end()
		switch h {
		case policy.Headers:
			if a != "t" { // the message is over, nothing may pass
				t.Errorf("end behind a refused header: %q", a)
			}
		case policy.Message:
			if a != text {
				t.Errorf("end: %q", a)
			}
		case policy.Rcpt:
			if !strings.HasPrefix(a, "y 451 4.3.0 ") { // no decision of the policy took the message
				t.Errorf("end without a recipient: %q", a)
			}
		}
	}
}

// What swallows a message before its end is told at the end; recipients that
// the policy drops are taken away.
func TestSwallow(t *testing.T) {
	drop := policytest.Rule(policy.Rcpt, func(_ *policy.Session, ev *policy.Event) (policy.Verdict, error) {
		if ev.Rcpt.In.Local == "drop" {
			return policy.Verdict{Action: policy.Drop, Reason: "nobody there"}, nil
		}
		return policy.Verdict{}, nil
	})
	moved := policytest.Rule(policy.Rcpt, func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
		return policy.Verdict{Action: policy.Drop, Reason: "nobody there"}, s.Tx.Do(policy.Edit{Kind: policy.AddRcpt, Path: policytest.Path(t, "new@example.org")})
	})
	hold := policy.Verdict{Action: policy.Quarantine, Reason: "held"}
	for _, tc := range []struct {
		name  string
		rule  *policy.Rule
		rcpts []string
		mods  string
		end   string
		word  string
	}{
		{"discard at mail", policytest.Always(policy.Mail, policy.Verdict{Action: policy.Discard}), []string{"a"}, "", "d", "discarded"},
		{"discard at data", policytest.Always(policy.Data, policy.Verdict{Action: policy.Discard}), []string{"a"}, "", "d", "discarded"},
		{"discard at message", policytest.Always(policy.Message, policy.Verdict{Action: policy.Discard}), []string{"a"}, "", "d", "discarded"},
		{"quarantine at mail", policytest.Always(policy.Mail, hold), []string{"a"}, "q held", "a", "quarantined"},
		{"quarantine at message", policytest.Always(policy.Message, hold), []string{"a"}, "q held", "a", "quarantined"},
		{"quarantine at headers", policytest.Always(policy.Headers, hold), []string{"a"}, "q held", "a", "quarantined"},
		{"one dropped", drop, []string{"a", "drop"}, "- <drop@example.org>", "a", "accepted"},
		{"all dropped", drop, []string{"drop"}, "", "d", "discarded"},
		{"the only one dropped for another one", moved, []string{"drop"}, "- <drop@example.org>,+ <new@example.org>", "a", "accepted"},
		{"no recipient was told of", drop, nil, "", "y 451 4.3.0 Temporary failure, please try again later", "tempfailed"},
		{"accept at rcpt is no accept of the message", policytest.Always(policy.Rcpt, policy.Verdict{Action: policy.Accept}), []string{"a"}, "", "a", "accepted"},
		{"bypass at mail", policytest.Always(policy.Mail, policy.Verdict{Action: policy.Bypass}), []string{"a"}, "", "a", "accepted"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			srv, logs := serverOf(tc.rule)
			m := dial(t, srv, all)
			m.hello()
			m.want("c", wire.Mail{From: "<x@example.net>"})
			for _, r := range tc.rcpts {
				m.want("c", wire.Rcpt{To: "<" + r + "@example.org>"})
			}
			m.message("x\r\n", "Subject: x")
			mods, end := m.end()
			if strings.Join(mods, ",") != tc.mods || end != tc.end {
				t.Errorf("got %q %q, want %q %q", mods, end, tc.mods, tc.end)
			}
			m.send(wire.Signal{Code: milter.CodeQuit})
			m.closed()
			audit := logs.FilterMessage("message").All()
			if len(audit) != 1 || audit[0].ContextMap()["verdict"] != tc.word {
				t.Errorf("audit lines %v, want one that says %s", audit, tc.word)
			}
			for _, r := range audit[0].ContextMap()["rcpts"].([]any) {
				if r := r.(map[string]any); r["to"] == "drop@example.org" && (r["reason"] != "nobody there" || r["rule"] != tc.rule.String()) {
					t.Errorf("recipient %v, want who dropped it and why", r)
				}
			}
		})
	}
}

// A rule that works at the end of a message makes the MTA hear of it.
func TestProgress(t *testing.T) {
	block := make(chan struct{})
	srv, _ := serverOf(policytest.Rule(policy.Message, func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
		select {
		case <-block:
		case <-s.Ctx.Done():
		}
		return policy.Verdict{}, nil
	}))
	srv.Progress = time.Millisecond
	m := dial(t, srv, all)
	m.hello()
	m.want("c", wire.Mail{From: "<a@example.net>"})
	m.want("c", wire.Rcpt{To: "<b@example.org>"})
	m.message("x\r\n", "Subject: x")
	m.send(wire.End{})
	for range 2 {
		if f := m.next(); f.Code != 'p' {
			t.Fatalf("got %c while a rule works", f.Code)
		}
	}
	close(block)
	f := m.next()
	for f.Code == 'p' {
		f = m.next()
	}
	if f.Code != 'a' {
		t.Errorf("then %c", f.Code)
	}
}

// An MTA that has gone cancels the session that works for it, at any stage,
// and what was taken is given back. Log rules run all the same.
func TestGone(t *testing.T) {
	for _, h := range []policy.Hook{policy.Connect, policy.Rcpt, policy.Message} {
		asked, over, logged := make(chan struct{}), make(chan string, 1), make(chan error, 1)
		hold := &holdSpy{done: make(chan string, 1)}
		srv, _ := serverOf(policytest.Rule(h, func(s *policy.Session, ev *policy.Event) (policy.Verdict, error) {
			ev.Hold(hold)
			close(asked)
			<-s.Ctx.Done()
			over <- "cancelled"
			return policy.Verdict{}, nil
		}), policytest.Rule(policy.Done, func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
			logged <- s.Ctx.Err()
			return policy.Verdict{}, nil
		}))
		m := dial(t, srv, all)
		if h == policy.Connect {
			m.send(wire.Connect{Host: "client.example", Family: milter.FamilyInet, Port: 25000, Addr: "192.0.2.1"})
		} else {
			m.hello()
			m.want("c", wire.Mail{From: "<a@example.net>"})
			m.send(wire.Rcpt{To: "<b@example.org>"})
		}
		if h == policy.Message {
			m.message("x\r\n", "Subject: x")
			m.send(wire.End{})
		}
		<-asked
		m.c.Close()
		<-over
		want := "released"
		if h == policy.Connect {
			want = "kept" // at once
		}
		if got := <-hold.done; got != want {
			t.Errorf("%s: what was taken is %s", h, got)
		}
		if err := <-logged; err != nil {
			t.Errorf("%s: the log rule is cancelled, too: %v", h, err)
		}
	}
}

type holdSpy struct{ done chan string }

func (h *holdSpy) Keep()    { h.done <- "kept" }
func (h *holdSpy) Release() { h.done <- "released" }

// Limits are kept with our answer at the end of the message.
func TestHolds(t *testing.T) {
	for _, tc := range []struct {
		name, want string
		verdict    policy.Verdict
		end        wire.Command
	}{
		{"accepted", "kept", policy.Verdict{}, wire.End{}},
		{"rejected", "released", policytest.Reject("no"), wire.End{}},
		{"aborted", "released", policy.Verdict{}, wire.Signal{Code: milter.CodeAbort}},
	} {
		hold := &holdSpy{done: make(chan string, 1)}
		srv, _ := serverOf(
			policytest.Rule(policy.Rcpt, func(_ *policy.Session, ev *policy.Event) (policy.Verdict, error) {
				ev.Hold(hold)
				return policy.Verdict{}, nil
			}),
			policytest.Always(policy.Message, tc.verdict))
		m := dial(t, srv, all)
		m.hello()
		m.want("c", wire.Mail{From: "<a@example.net>"})
		m.want("c", wire.Rcpt{To: "<b@example.org>"})
		m.message("x\r\n", "Subject: x")
		m.send(tc.end)
		if got := <-hold.done; got != tc.want {
			t.Errorf("%s: %s", tc.name, got)
		}
	}
}

// Shutdown lets a message end and closes what is silent; Close closes all.
func TestShutdown(t *testing.T) {
	srv, _ := serverOf(policytest.Always(policy.Mail, policy.Verdict{}))
	m := dial(t, srv, all)
	idle := call(t, m.c.RemoteAddr(), all)
	m.hello()
	m.want("c", wire.Mail{From: "<a@example.net>"})
	done := make(chan error, 1)
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	go func() { done <- srv.Shutdown(ctx) }()
	idle.closed() // after linger
	m.want("c", wire.Rcpt{To: "<b@example.org>"})
	m.message("", "Subject: x")
	if _, a := m.end(); a != "a" {
		t.Errorf("end: %q", a)
	}
	m.closed()
	if err := <-done; err != nil {
		t.Errorf("shutdown: %v", err)
	}
	m.l.(*net.TCPListener).SetDeadline(time.Now()) // or it would wait for a client
	if _, err := m.l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("the listener lives: %v", err)
	}
}

// Over a unix socket it is the same.
func TestUnixSocket(t *testing.T) {
	l, err := socket.Place{Address: "unix:" + t.TempDir() + "/milter.sock"}.Listen()
	if err != nil {
		t.Fatal(err)
	}
	srv, _ := serverOf()
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	m := call(t, l.Addr(), all)
	m.hello()
	m.want("c", wire.Mail{From: "<a@example.net>"})
	srv.Close()
	if err := <-done; err != ErrServerClosed {
		t.Errorf("serve: %v", err)
	}
	ended(t, srv)
}

// A delay holds the answer back, and a client that goes away ends it.
func TestDelay(t *testing.T) {
	v := policytest.Reject("slowly")
	v.Delay = 300 * time.Millisecond
	srv, _ := serverOf(policytest.Always(policy.Mail, v))
	m := dial(t, srv, all)
	m.hello()
	start := time.Now()
	m.want("y 550 5.7.1 slowly", wire.Mail{From: "<a@example.net>"})
	if took := time.Since(start); took < v.Delay {
		t.Errorf("answered after %v", took)
	}
	v.Delay = time.Hour
	srv, _ = serverOf(policytest.Always(policy.Mail, v))
	m = dial(t, srv, all)
	m.hello()
	m.send(wire.Mail{From: "<a@example.net>"})
	start = time.Now()
	m.c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil || time.Since(start) > policy.Milter.MaxDelay-time.Second {
		t.Errorf("the session of a client that is gone lives for %v: %v", time.Since(start), err)
	}
}

// RFC 6531: addresses beyond ASCII are taken with SMTPUTF8 only.
func TestSMTPUTF8(t *testing.T) {
	var seen []string
	srv, _ := serverOf(policytest.Rule(policy.Mail, func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
		seen = append(seen, s.Tx.In.From.Address)
		return policy.Verdict{}, nil
	}), policytest.Rule(policy.Rcpt, func(_ *policy.Session, ev *policy.Event) (policy.Verdict, error) {
		seen = append(seen, ev.Rcpt.In.Address)
		return policy.Verdict{}, nil
	}))
	m := dial(t, srv, all)
	m.hello()
	m.want("y 501 5.1.7 Bad sender address syntax", wire.Mail{From: "<jürgen@example.net>"})
	m.want("c", wire.Mail{From: "<jürgen@bücher.example>", Args: []string{"SMTPUTF8"}})
	m.want("c", wire.Rcpt{To: "<δ@example.net>"})
	if want := []string{"jürgen@xn--bcher-kva.example", "δ@example.net"}; !cmp.Equal(seen, want) {
		t.Errorf("the rules saw %q, want %q", seen, want)
	}
}

// Many sessions at once do not know of each other.
func TestManySessions(t *testing.T) {
	srv, logs := serverOf(policytest.Rule(policy.Rcpt, func(s *policy.Session, ev *policy.Event) (policy.Verdict, error) {
		if ev.Rcpt.In.Local != s.Tx.In.From.Local {
			return policytest.Reject("mixed up"), nil
		}
		return policy.Verdict{}, nil
	}), policytest.Rule(policy.Message, func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
		f, _ := s.Tx.Header().Get("Subject", 1)
		if f.Value() != s.Tx.In.From.Local {
			return policytest.Reject("mixed up"), nil
		}
		return policy.Verdict{}, s.Tx.Do(policy.Edit{Kind: policy.AddHeader, Name: "X-Who", Value: " " + s.Tx.In.From.Local})
	}))
	addr := dial(t, srv, all).c.RemoteAddr()
	var wg sync.WaitGroup
	for n := range 20 {
		m := call(t, addr, all)
		wg.Go(func() {
			m.hello()
			for k := range 20 {
				who := fmt.Sprintf("u%d-%d", n, k)
				m.want("c", wire.Mail{From: "<" + who + "@example.net>"})
				m.want("c", wire.Rcpt{To: "<" + who + "@example.org>"})
				m.message("x\r\n", "Subject: "+who)
				if mods, a := m.end(); a != "a" || len(mods) != 1 || mods[0] != "h X-Who: "+who {
					t.Errorf("%s: %q %q", who, mods, a)
				}
			}
			m.send(wire.Signal{Code: milter.CodeQuit})
			m.closed()
		})
	}
	wg.Wait()
	if n := logs.FilterMessage("message").Len(); n != 400 {
		t.Errorf("%d audit lines, want 400", n)
	}
}

// With soft_bounce the log says what was meant, at every stage.
func TestMeant(t *testing.T) {
	no := policytest.Reject("no")
	srv, logs := serverOf(policytest.Rule(policy.Rcpt, func(_ *policy.Session, ev *policy.Event) (policy.Verdict, error) {
		if ev.Rcpt.In.Local == "bad" {
			return no, nil
		}
		return policy.Verdict{}, nil
	}), policytest.Always(policy.Message, no))
	srv.Env.SoftBounce = true
	m := dial(t, srv, all)
	m.hello()
	m.want("c", wire.Mail{From: "<a@example.net>"})
	m.want("y 450 4.7.1 no", wire.Rcpt{To: "<bad@example.net>"})
	m.ask(wire.Rcpt{To: "a b"})
	m.want("c", wire.Rcpt{To: "<b@example.net>"})
	m.message("", "Subject: x")
	m.end()
	m.send(wire.Signal{Code: milter.CodeQuit})
	m.closed() // an answer leaves before its line is logged
	for _, e := range logs.FilterMessage("refuse").All() {
		if f := e.ContextMap(); f["meant"] == nil {
			t.Errorf("no meant: %v", f)
		}
	}
	if n := logs.FilterMessage("refuse").Len(); n != 3 {
		t.Errorf("%d refuse lines, want 3", n)
	}
}
