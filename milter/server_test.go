package milter

import (
	"context"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-milter"
	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap/zaptest/observer"

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
			if a != "d" {
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
			return policy.Verdict{Action: policy.Drop}, nil
		}
		return policy.Verdict{}, nil
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
		})
	}
}

// What no rule needs is negotiated away, for every version, and never more
// than was offered.
func TestNegotiation(t *testing.T) {
	nothing := spared(policy.NewRules("x"), false)
	for _, tc := range []struct {
		name     string
		offer    wire.Options
		rules    []*policy.Rule
		version  uint32
		actions  milter.OptAction
		protocol milter.OptProtocol
	}{
		{"v6, no rules", all, nil, 6, 0x1ff, nothing},
		{"v6, message", all, []*policy.Rule{policytest.Always(policy.Message, policy.Verdict{})}, 6, 0x1ff, nothing &^ milter.OptNoBody},
		{"v6, rcpt", all, []*policy.Rule{policytest.Always(policy.Rcpt, policy.Verdict{})}, 6, 0x1ff, nothing &^ milter.OptNoRcptReply},
		{"v4", wire.Options{Version: 4, Actions: 0x3f, Protocol: 0x3ff}, nil, 4, 0x3f, milter.OptNoBody | milter.OptNoUnknown | milter.OptNoData},
		{"v2", wire.Options{Version: 2, Actions: 0x3f, Protocol: 0x7f}, nil, 2, 0x3f, milter.OptNoBody},
		{"v2 with bits of v6", wire.Options{Version: 2, Actions: 0x1ff, Protocol: 0x1fffff}, nil, 2, 0x3f, milter.OptNoBody},
		{"v9", wire.Options{Version: 9, Actions: 0xffffffff, Protocol: 0xffffffff}, nil, 6, 0x1ff, nothing},
		{"nothing offered", wire.Options{Version: 6}, nil, 6, 0, 0},
	} {
		srv, _ := serverOf(tc.rules...)
		got := dial(t, srv, tc.offer).got
		if got.Version != tc.version || got.Actions != tc.actions || got.Protocol != tc.protocol {
			t.Errorf("%s: got version %d, actions %#x, protocol %#x, want %d, %#x, %#x", tc.name, got.Version, got.Actions, got.Protocol, tc.version, tc.actions, tc.protocol)
		}
		if (len(got.Symbols) > 0) != (tc.actions&milter.OptSetSymList != 0) {
			t.Errorf("%s: macro lists %v", tc.name, got.Symbols)
		}
	}
	delayed := policytest.Always(policy.Connect, reject(554, policy.NoStatus, "no"))
	delayed.At = policy.Rcpt
	if p := spared(policy.NewRules("x", delayed), false); p&milter.OptNoRcptReply != 0 {
		t.Error("a connect rule that refuses at rcpt, and the answer to rcpt is negotiated away")
	}
	srv, _ := serverOf()
	m := dial(t, srv, wire.Options{})
	m.send(wire.Options{Version: 1})
	m.closed()
}

// Every version from 2 on gives the same verdicts; where the MTA has no DATA
// event, data rules are asked with the header.
func TestOldVersions(t *testing.T) {
	for version := uint32(2); version <= 6; version++ {
		actions, protocol := wire.Limits(version)
		offer := wire.Options{Version: version, Actions: actions, Protocol: protocol}
		var f facts
		srv, _ := serverOf(f.rules(policy.Data, policy.Headers, policy.Message)...)
		m := dial(t, srv, offer)
		m.hello()
		m.want("c", wire.Mail{From: "<a@example.net>"})
		m.want("c", wire.Rcpt{To: "<b@example.org>"})
		m.message("x\r\n", "Subject: x")
		if _, a := m.end(); a != "a" {
			t.Errorf("version %d: %q", version, a)
		}
		var hooks []string
		for _, l := range f.lines() {
			hook, _, _ := strings.Cut(l, " ")
			hooks = append(hooks, hook)
		}
		if got := strings.Join(hooks, " "); got != "data headers message" {
			t.Errorf("version %d: asked at %s", version, got)
		}

		srv, _ = serverOf(policytest.Always(policy.Data, policytest.Reject("not now")))
		m = dial(t, srv, offer)
		m.hello()
		m.want("c", wire.Mail{From: "<a@example.net>"})
		m.want("c", wire.Rcpt{To: "<b@example.org>"})
		if version >= 4 {
			m.want("y 550 5.7.1 not now", wire.Signal{Code: milter.CodeData})
			continue
		}
		m.want("c", wire.Header{Name: "Subject", Value: "x"})
		m.want("y 550 5.7.1 not now", wire.Signal{Code: milter.CodeEOH})
	}
}

// A generation of rules that needs what was negotiated away takes effect on
// the next connection, one that needs no more at the next message.
func TestReload(t *testing.T) {
	env, logs := policytest.Env(policy.Milter)
	var mu sync.Mutex
	rules := policy.NewRules("one", policytest.Always(policy.Mail, policy.Verdict{}))
	use := func(r *policy.Rules) { mu.Lock(); rules = r; mu.Unlock() }
	env.Engine = policy.EngineFunc(func(*policy.Facts) *policy.Rules { mu.Lock(); defer mu.Unlock(); return rules })
	srv := &Server{Env: env}
	m := dial(t, srv, all)
	send := func(m *mta) {
		t.Helper()
		m.want("c", wire.Mail{From: "<a@example.net>"})
		m.want("c", wire.Rcpt{To: "<b@example.org>"})
		m.message("x\r\n", "Subject: x")
		if _, a := m.end(); a != "a" {
			t.Errorf("end: %q", a)
		}
	}
	m.hello()
	send(m)
	use(policy.NewRules("two", policytest.Always(policy.Mail, policy.Verdict{})))
	send(m)
	use(policy.NewRules("three", policytest.Always(policy.Message, policy.Verdict{})))
	send(m)
	use(policy.NewRules("four"))
	send(m)
	m.send(wire.Signal{Code: milter.CodeQuitNewConn}) // the negotiation stays
	use(policy.NewRules("five", policytest.Always(policy.Message, policy.Verdict{})))
	m.hello()
	send(m)
	m.send(wire.Signal{Code: milter.CodeQuit})
	m.closed()
	var got []string
	for _, l := range logs.FilterMessage("message").All() {
		got = append(got, l.ContextMap()["policy"].(string))
	}
	if s := strings.Join(got, " "); s != "one two two four four" {
		t.Errorf("judged by %s", s)
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
// and what was taken is given back.
func TestGone(t *testing.T) {
	for _, h := range []policy.Hook{policy.Rcpt, policy.Message} {
		asked, over := make(chan struct{}), make(chan string, 1)
		hold := &holdSpy{done: make(chan string, 1)}
		srv, _ := serverOf(policytest.Rule(h, func(s *policy.Session, ev *policy.Event) (policy.Verdict, error) {
			ev.Hold(hold)
			close(asked)
			<-s.Ctx.Done()
			over <- "cancelled"
			return policy.Verdict{}, nil
		}))
		m := dial(t, srv, all)
		m.hello()
		m.want("c", wire.Mail{From: "<a@example.net>"})
		m.send(wire.Rcpt{To: "<b@example.org>"})
		if h == policy.Message {
			m.message("x\r\n", "Subject: x")
			m.send(wire.End{})
		}
		<-asked
		m.c.Close()
		<-over
		if got := <-hold.done; got != "released" {
			t.Errorf("%s: what was taken is %s", h, got)
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
	// Where no answer is waited for, the refusal comes at the end.
	srv, _ = serverOf()
	m = dial(t, srv, all)
	m.hello()
	m.send(wire.Mail{From: "<a@b@example.net>"})
	m.send(wire.Rcpt{To: "<b@example.net>"})
	if _, a := m.end(); a != "y 501 5.1.7 Bad sender address syntax" {
		t.Errorf("end: %q", a)
	}
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
	m.want("c", wire.Mail{From: "<a@example.net>"})
	m.want("c", wire.Rcpt{To: "<b@example.org>"})
	m.message("x\r\n", "Subject: x")
	if _, a := m.end(); a != "a" {
		t.Errorf("the next message: %q", a)
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
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
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
	if _, err := net.Dial("tcp", m.c.RemoteAddr().String()); err == nil {
		t.Error("the listener lives")
	}
}

// A unix socket has the mode and group that were asked for, and a file that a
// dead process left is no obstacle.
func TestUnixSocket(t *testing.T) {
	path := t.TempDir() + "/milter.sock"
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
	l, err := Socket{Address: "unix:" + path, Mode: 0o600, Group: fmt.Sprint(os.Getgid())}.Listen()
	if err != nil {
		t.Fatal(err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode: %v, %v", st, err)
	}
	if _, err := (Socket{Address: "unix:" + path}).Listen(); err == nil {
		t.Error("two listen on one socket")
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
}
