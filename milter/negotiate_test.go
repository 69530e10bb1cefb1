package milter

import (
	"strings"
	"sync"
	"testing"

	"github.com/emersion/go-milter"

	"github.com/moongate/moongate/milter/wire"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/policytest"
)

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
		{"v6, rcpt", all, []*policy.Rule{policytest.Always(policy.Rcpt, policy.Verdict{})}, 6, 0x1ff, nothing}, // always answered
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
	if nothing&milter.OptNoRcptReply != 0 {
		t.Error("a recipient cannot be refused alone")
	}
	for _, h := range []policy.Hook{policy.Connect, policy.Helo, policy.Mail} {
		delayed := policytest.Always(h, reject(554, policy.NoStatus, "no"))
		delayed.At = policy.Rcpt
		if p := spared(policy.NewRules("x", delayed), false); p != nothing {
			t.Errorf("a %s rule that answers at rcpt: %#x, want its own answer negotiated away", h, p)
		}
	}
	shadow := policytest.Always(policy.Data, policytest.Reject("no"))
	shadow.Shadow = true
	if p := spared(policy.NewRules("x", shadow), false); p&milter.OptNoDataReply == 0 || p&milter.OptNoData != 0 {
		t.Error("a shadow rule is asked, and nobody waits for it")
	}
	delayed := policytest.Always(policy.Mail, reject(554, policy.NoStatus, "no"))
	delayed.At = policy.Rcpt
	srv, _ := serverOf(delayed, shadow)
	m := dial(t, srv, all)
	m.hello()
	m.want("c", wire.Mail{From: "<a@example.net>"})
	m.want("y 554 no", wire.Rcpt{To: "<b@example.org>"})

	srv, _ = serverOf()
	m = dial(t, srv, wire.Options{})
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
