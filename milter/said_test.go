package milter

import (
	"testing"

	"github.com/emersion/go-milter"
	"go.uber.org/zap/zaptest/observer"

	"github.com/moongate/moongate/milter/wire"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/policytest"
)

// proto is that of the audit line, as the SMTP door has it: HELO and EHLO are
// one command to a milter.
func TestProto(t *testing.T) {
	for _, tc := range []struct {
		name       string
		helo, mail []string // macros
		args       []string
		want       string
	}{
		{"nothing tells", nil, nil, nil, "SMTP"},
		{"an argument", nil, nil, []string{"SIZE=10"}, "ESMTP"},
		{"TLS", []string{"{tls_version}", "TLSv1.3"}, nil, nil, "ESMTP"},
		{"a login", nil, []string{"{auth_authen}", "joe"}, nil, "ESMTP"},
		{"Sendmail, EHLO", nil, []string{"r", "ESMTP"}, nil, "ESMTP"},
		{"Sendmail, EHLO and TLS", nil, []string{"r", "ESMTPS"}, nil, "ESMTP"},
		{"Sendmail, HELO", nil, []string{"r", "SMTP"}, nil, "SMTP"},
	} {
		srv, logs := serverOf()
		m := dial(t, srv, all)
		m.send(wire.Macros{For: milter.CodeConn, Pairs: []string{"v", "x"}})
		m.want("c", wire.Connect{Host: "client.example", Family: milter.FamilyInet, Port: 25000, Addr: "192.0.2.1"})
		m.send(wire.Macros{For: milter.CodeHelo, Pairs: tc.helo})
		m.want("c", wire.Helo{Name: "client.example"})
		m.send(wire.Macros{For: milter.CodeMail, Pairs: tc.mail})
		m.want("c", wire.Mail{From: "<a@example.net>", Args: tc.args})
		m.send(wire.Signal{Code: milter.CodeQuit})
		m.closed()
		ended(t, srv)
		if got := audited(t, logs)["proto"]; got != tc.want {
			t.Errorf("%s: %v, want %s", tc.name, got, tc.want)
		}
	}
}

// audited is the one audit line that there is.
func audited(t *testing.T, logs *observer.ObservedLogs) map[string]any {
	t.Helper()
	lines := logs.FilterMessage("message").All()
	if len(lines) != 1 {
		t.Fatalf("%d audit lines, want 1", len(lines))
	}
	return lines[0].ContextMap()
}

// What is said for a MAIL that is refused is not said for the next.
func TestMacrosOfRefusedMail(t *testing.T) {
	var users []string
	srv, _ := serverOf(policytest.Rule(policy.Mail, func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
		users = append(users, s.User)
		if s.User != "" {
			return policytest.Reject("no"), nil
		}
		return policy.Verdict{}, nil
	}))
	m := dial(t, srv, all)
	m.hello()
	for _, from := range []string{"<a@example.net>", "<a b>"} {
		m.send(wire.Macros{For: milter.CodeMail, Pairs: []string{"{auth_authen}", "joe"}})
		if a := m.ask(wire.Mail{From: from}); a == "c" {
			t.Errorf("%s is taken", from)
		}
		m.want("c", wire.Mail{From: "<c@example.net>"})
	}
	if len(users) != 3 || users[0] != "joe" || users[1] != "" || users[2] != "" {
		t.Errorf("the rules saw %q", users)
	}
}
