package milter_test

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/policytest"
	"github.com/moongate/moongate/test/postfix"
)

// What a local program submits goes through pickup and cleanup, which play the
// client for the milter. There a refused recipient is a configuration error to
// Postfix, and the mail is stuck; so it is told at the end of the message.
func TestLocalSubmissionFromPostfix(t *testing.T) {
	p := serve(t)
	mta := postfix.Start(t, postfix.Options{
		Main:   map[string]string{"non_smtpd_milters": "inet:" + p.addr, "milter_default_action": "tempfail"},
		Master: []string{"pickup unix n - n 1 1 pickup"},
	})
	p.use(policytest.Rule(policy.Rcpt, func(s *policy.Session, ev *policy.Event) (policy.Verdict, error) {
		if ev.Rcpt.In.Local == "bad" {
			return policytest.Reject("nobody of that name"), nil
		}
		return policy.Verdict{}, nil
	}), policytest.Rule(policy.Message, func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
		return policy.Verdict{}, s.Tx.Do(policy.Edit{Kind: policy.AddHeader, Name: "X-Judged", Value: " yes"})
	}))
	submit := func(to string) {
		t.Helper()
		cmd := exec.Command("/usr/sbin/sendmail", "-C", mta.Dir+"/etc", "-f", "root@example.org", to)
		cmd.Stdin = strings.NewReader("From: root@example.org\nSubject: for " + to + "\n\nHello.\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("sendmail: %v\n%s", err, out)
		}
	}
	submit("good@example.org")
	if m := mta.Messages(1)[0]; !strings.Contains(string(m.Raw), "\r\nX-Judged: yes\r\n") {
		t.Errorf("delivered:\n%s", m.Raw)
	}
	for i, tc := range []struct{ to, why string }{
		{"bad@example.org", "nobody of that name"},
		{"jürgen@example.org", "Bad recipient address syntax"}, // no SMTPUTF8
	} {
		submit(tc.to)
		bounce := mta.Messages(2 + i)[1+i]
		if !strings.Contains(string(bounce.Raw), tc.why) || !strings.Contains(strings.Join(bounce.Rcpts, " "), "root@example.org") {
			t.Errorf("%s: the sender hears:\n%s", tc.to, bounce.Raw)
		}
	}
	if strings.Contains(mta.Log(), "configuration error") {
		t.Error("Postfix calls it a configuration error")
	}
}
