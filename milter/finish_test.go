package milter

import (
	"strings"
	"testing"

	"github.com/emersion/go-milter"

	"github.com/moongate/moongate/milter/wire"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/policytest"
)

// The queue id and the host of a message that is refused at its header are in
// the log as those of any other: an operator greps for what the MTA logs.
func TestEarlyEndIsAudited(t *testing.T) {
	for _, h := range []policy.Hook{policy.Headers, policy.Message} {
		srv, logs := serverOf(policytest.Always(h, policytest.Reject("no")))
		m := dial(t, srv, all)
		m.hello()
		m.want("c", wire.Mail{From: "<a@example.net>"})
		m.send(wire.Macros{For: milter.CodeRcpt, Pairs: []string{"i", "QID1"}})
		m.want("c", wire.Rcpt{To: "<b@example.org>"})
		m.want("c", wire.Header{Name: "Subject", Value: " x"})
		if m.ask(wire.Signal{Code: milter.CodeEOH}) == "c" {
			m.end()
		}
		m.send(wire.Signal{Code: milter.CodeQuit})
		m.closed()
		ended(t, srv)
		if l := audited(t, logs); l["queued_as"] != "QID1" || l["upstream"] != "mx.example.org" || l["verdict"] != "rejected" {
			t.Errorf("%s: %v", h, l)
		}
	}
}

// Quarantine keeps a message whose recipients the same rule removed: the MTA
// holds none that has no recipient, so they stay, and an operator decides.
func TestQuarantineOfNobody(t *testing.T) {
	held := policytest.Rule(policy.Message, func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
		for _, r := range s.Tx.Recipients() {
			if err := s.Tx.Do(policy.Edit{Kind: policy.RemoveRcpt, Rcpt: r}); err != nil {
				return policy.Verdict{}, err
			}
		}
		return policy.Verdict{Action: policy.Quarantine, Reason: "held"}, nil
	})
	drop := policytest.Rule(policy.Rcpt, func(_ *policy.Session, ev *policy.Event) (policy.Verdict, error) {
		if ev.Rcpt.In.Local == "drop" {
			return policy.Verdict{Action: policy.Drop}, nil
		}
		return policy.Verdict{}, nil
	})
	srv, logs := serverOf(drop, held)
	m := dial(t, srv, all)
	m.hello()
	m.want("c", wire.Mail{From: "<a@example.net>"})
	for _, to := range []string{"<b@example.org>", "<drop@example.org>", "<c@example.org>"} {
		m.want("c", wire.Rcpt{To: to})
	}
	m.message("x\r\n", "Subject: x")
	if mods, a := m.end(); a != "a" || strings.Join(mods, ",") != "- <drop@example.org>,q held" {
		t.Errorf("end: %q %q", mods, a)
	}
	m.send(wire.Signal{Code: milter.CodeQuit})
	m.closed()
	ended(t, srv)
	if l := audited(t, logs); l["verdict"] != "quarantined" {
		t.Errorf("audit line: %v", l)
	}
}

// The reason of a quarantine is the policy's own text: what cannot stand in a
// packet or a log is no reason to refuse the message again and again.
func TestQuarantineReason(t *testing.T) {
	for reason, want := range map[string]string{
		"virus \x00 in\r\nattachment\x7f": "virus ? in??attachment?",
		"":                                "held by policy",
		"größer":                          "größer",
		strings.Repeat("ä", 600):          strings.Repeat("ä", 250),
	} {
		srv, _ := serverOf(policytest.Always(policy.Message, policy.Verdict{Action: policy.Quarantine, Reason: reason}))
		m := dial(t, srv, all)
		m.hello()
		m.want("c", wire.Mail{From: "<a@example.net>"})
		m.want("c", wire.Rcpt{To: "<b@example.org>"})
		m.message("x\r\n", "Subject: x")
		if mods, a := m.end(); a != "a" || strings.Join(mods, ",") != "q "+want {
			t.Errorf("%q: %q %q", reason, mods, a)
		}
	}
}

// A message that a rule at mail decided is not judged by its header, however
// large that is.
func TestDecidedBeforeHeader(t *testing.T) {
	for action, want := range map[policy.Action]string{policy.Discard: "d", policy.Quarantine: "a"} {
		srv, _ := serverOf(policytest.Always(policy.Mail, policy.Verdict{Action: action}))
		srv.MaxHeader = 100
		m := dial(t, srv, all)
		m.hello()
		m.want("c", wire.Mail{From: "<a@example.net>"})
		m.want("c", wire.Rcpt{To: "<b@example.org>"})
		m.message("x\r\n", "Subject: "+strings.Repeat("x", 200))
		if _, a := m.end(); a != want {
			t.Errorf("%s: end: %q, want %q", action, a, want)
		}
	}
}
