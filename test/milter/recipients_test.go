package milter_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/policytest"
	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/postfix"
)

// Postfix takes addresses beyond ASCII also from a client that did not ask for
// SMTPUTF8. Such a recipient is refused alone, whatever the policy asks about.
func TestOddRecipientFromPostfix(t *testing.T) {
	p := serve(t)
	mta := postfix.Start(t, postfix.Options{Milters: []string{"inet:" + p.addr}})
	p.use(policytest.Always(policy.Message, policy.Verdict{}))
	c := client.Dial(t, mta.Addr, "").Greet("one.example")
	c.Must("250", "MAIL FROM:<a@example.net>")
	c.Must("501 5.1.3", "RCPT TO:<jürgen@example.org>")
	c.Must("250", "RCPT TO:<b@example.org>")
	if r := data(c, mail); !strings.HasPrefix(r, "250") {
		t.Errorf("message: %q", r)
	}
	c.Must("250", "MAIL FROM:<jürgen@example.net>") // no rule answers there
	c.Must("501 5.1.7", "RCPT TO:<b@example.org>")
}

// What the policy makes of the recipients is what Postfix delivers to, also
// where it knows an address only once (enable_original_recipient = no): one
// that is removed and added again would be lost there.
func TestRecipientEditsThroughPostfix(t *testing.T) {
	type edit func(t *testing.T, tx *policy.Transaction) []policy.Edit
	remove := func(i int) edit {
		return func(_ *testing.T, tx *policy.Transaction) []policy.Edit {
			return []policy.Edit{{Kind: policy.RemoveRcpt, Rcpt: tx.Rcpts[i]}}
		}
	}
	replace := func(i int, to string) edit {
		return func(t *testing.T, tx *policy.Transaction) []policy.Edit {
			return []policy.Edit{{Kind: policy.ReplaceRcpt, Rcpt: tx.Rcpts[i], Path: policytest.Path(t, to)}}
		}
	}
	add := func(who string) edit {
		return func(t *testing.T, _ *policy.Transaction) []policy.Edit {
			return []policy.Edit{{Kind: policy.AddRcpt, Path: policytest.Path(t, who)}}
		}
	}
	for _, original := range []string{"yes", "no"} {
		p := serve(t)
		mta := postfix.Start(t, postfix.Options{Milters: []string{"inet:" + p.addr}, Main: map[string]string{"enable_original_recipient": original}})
		n := 0
		for _, tc := range []struct {
			name  string
			to    []string
			edits []edit
			want  string
		}{
			{"one of two alike goes", []string{"x", "x"}, []edit{remove(0)}, "x"},
			{"removed and added again", []string{"x", "y"}, []edit{remove(0), add("x@example.org")}, "x y"},
			{"swapped", []string{"x", "y"}, []edit{replace(0, "y@example.org"), replace(1, "x@example.org")}, "x y"},
			{"into one that was dropped", []string{"x", "drop"}, []edit{replace(0, "drop@example.org")}, "drop"},
			{"into one that is there", []string{"x", "y"}, []edit{replace(0, "y@example.org")}, "y"},
			{"another spelling", []string{"X"}, []edit{replace(0, "x@example.org")}, "x"},
			{"gone", []string{"x", "y"}, []edit{remove(1)}, "x"},
		} {
			p.use(policytest.Rule(policy.Rcpt, func(_ *policy.Session, ev *policy.Event) (policy.Verdict, error) {
				if ev.Rcpt.In.Local == "drop" {
					return policy.Verdict{Action: policy.Drop}, nil
				}
				return policy.Verdict{}, nil
			}), policytest.Rule(policy.Message, func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
				for _, e := range tc.edits {
					for _, e := range e(t, s.Tx) {
						if err := s.Tx.Do(e); err != nil {
							return policy.Verdict{}, err
						}
					}
				}
				return policy.Verdict{}, nil
			}))
			c := client.Dial(t, mta.Addr, "").Greet("one.example")
			c.Must("250", "MAIL FROM:<a@example.net>")
			for _, to := range tc.to {
				c.Must("250", "RCPT TO:<"+to+"@example.org>")
			}
			if r := data(c, mail); !strings.HasPrefix(r, "250") {
				t.Fatalf("%s: %q", tc.name, r)
			}
			c.Must("221", "QUIT")
			mta.Settle()
			var got []string
			all := mta.Inside.Messages()
			for _, m := range all[n:] {
				for _, r := range m.Rcpts {
					local, _, _ := strings.Cut(strings.TrimPrefix(r, "<"), "@")
					got = append(got, local)
				}
			}
			n = len(all)
			slices.Sort(got)
			if s := strings.Join(got, " "); s != tc.want {
				t.Errorf("enable_original_recipient = %s, %s: delivered to %q, want %q", original, tc.name, s, tc.want)
			}
		}
	}
}

// A report is to name the recipient whom the sender knows. An MTA that is told
// nothing of him takes the new address for the one that was asked for.
func TestReplacedKeepsItsName(t *testing.T) {
	rule := policytest.Rule(policy.Message, func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
		return policy.Verdict{}, s.Tx.Do(policy.Edit{Kind: policy.ReplaceRcpt, Rcpt: s.Tx.Rcpts[0], Path: policytest.Path(t, "new@example.org")})
	})
	all := func(t *testing.T, p *policyServer, addr string, mta *postfix.Postfix, params, want string) {
		p.use(rule)
		c := client.Dial(t, addr, "").Greet("one.example")
		c.Must("250", "MAIL FROM:<a@example.net>")
		c.Must("250", "RCPT TO:<@h.example:old+1@example.org>"+params)
		if r := data(c, mail); !strings.HasPrefix(r, "250") {
			t.Fatalf("message: %q", r)
		}
		if got := strings.Join(mta.Messages(1)[0].Rcpts, " "); got != want {
			t.Errorf("delivered to %s, want %s", got, want)
		}
	}
	const named = "<new@example.org> ORCPT=rfc822;old+2B1@example.org"
	for name, main := range map[string]map[string]string{
		"Postfix": {}, "Postfix without original recipients": {"enable_original_recipient": "no"},
		"Postfix without DSN": {"smtpd_discard_ehlo_keywords": "dsn"},
	} {
		t.Run(name, func(t *testing.T) {
			p := serve(t)
			mta := postfix.Start(t, postfix.Options{Milters: []string{"inet:" + p.addr}, Main: main})
			all(t, p, mta.Addr, mta, "", named)
		})
	}
	t.Run("Sendmail", func(t *testing.T) {
		p := serve(t)
		p.use()
		mta := postfix.Start(t, postfix.Options{})
		// One that may not offer DSN is not told, unless the client made use of it.
		all(t, p, sendmail(t, p.addr, mta.Addr), mta, " NOTIFY=FAILURE", named+" NOTIFY=FAILURE")
	})
}
