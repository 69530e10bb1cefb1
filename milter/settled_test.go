package milter

import (
	"testing"

	"github.com/emersion/go-milter"

	"github.com/moongate/moongate/milter/wire"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/policytest"
)

// Behind a discard at MAIL the rules of data are asked, as at the SMTP door; an
// MTA that tells of no DATA hears their refusal when the header is there. Rules of
// later stages are not.
func TestSettledBeforeData(t *testing.T) {
	discard := policytest.Always(policy.Mail, policy.Verdict{Action: policy.Discard})
	for _, tc := range []struct {
		rule         *policy.Rule
		answer, word string
	}{
		{policytest.Always(policy.Data, policytest.Reject("no data")), "y 550 5.7.1 no data", "rejected"},
		{policytest.Always(policy.Data, policy.Verdict{Action: policy.Quarantine}), "a", "quarantined"},
		{policytest.Always(policy.Data, policy.Verdict{Action: policy.Accept}), "d", "discarded"},
		{policytest.Always(policy.Headers, policytest.Reject("no header")), "d", "discarded"},
		{policytest.Always(policy.Message, policytest.Reject("no message")), "d", "discarded"},
	} {
		srv, logs := serverOf(discard, tc.rule)
		m := dial(t, srv, wire.Options{Version: 2, Actions: 0x3f, Protocol: 0x7f})
		m.hello()
		m.want("c", wire.Mail{From: "<a@example.net>"})
		m.want("c", wire.Rcpt{To: "<b@example.org>"})
		m.want("c", wire.Header{Name: "Subject", Value: "x"})
		answer := m.ask(wire.Signal{Code: milter.CodeEOH})
		if answer == "c" {
			_, answer = m.end()
		}
		if answer != tc.answer {
			t.Errorf("a rule at %s: %q, want %q", tc.rule.At, answer, tc.answer)
		}
		m.send(wire.Signal{Code: milter.CodeQuit})
		m.closed()
		ended(t, srv)
		if l := audited(t, logs); l["verdict"] != tc.word {
			t.Errorf("a rule at %s: %v", tc.rule.At, l)
		}
	}
}
