package milter_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/policytest"
	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/postfix"
)

// spellings of gone@example.org: what it stands for is the same to every rule,
// and no client may choose the one that the MTA does not find again.
var spellings = []string{
	"<gone@example.org>",
	"<@h.example:gone@example.org>",
	"<@h.example,@[192.0.2.1],@i.example.:gone@example.org>",
	`<"gone"@example.org>`,
	`<"\g\o\n\e"@example.org>`,
	"<gone@EXAMPLE.org>",
	"<gone@example.org.>",
	`<@h.example:"gone"@Example.Org.>`,
}

// byFirst is a policy for the recipients whose local part is "gone": the sender
// says what becomes of them, of the first one alone if his domain says so.
func byFirst(t *testing.T) []*policy.Rule {
	isGone := func(r *policy.Recipient) bool { return r.In.Local == "gone" }
	concerned := func(tx *policy.Transaction, r *policy.Recipient) bool {
		first := slices.IndexFunc(tx.Rcpts, isGone) // at rcpt the one under judgement is not there yet
		return isGone(r) && (tx.In.From.Domain != "first.example" || first < 0 || tx.Rcpts[first] == r)
	}
	return []*policy.Rule{policytest.Rule(policy.Rcpt, func(s *policy.Session, ev *policy.Event) (policy.Verdict, error) {
		if s.Tx.In.From.Local == "drop" && concerned(s.Tx, ev.Rcpt) {
			return policy.Verdict{Action: policy.Drop}, nil
		}
		return policy.Verdict{}, nil
	}), policytest.Rule(policy.Message, func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
		for _, r := range s.Tx.Recipients() {
			e := policy.Edit{Kind: policy.RemoveRcpt, Rcpt: r}
			if s.Tx.In.From.Local == "replace" {
				e = policy.Edit{Kind: policy.ReplaceRcpt, Rcpt: r, Path: policytest.Path(t, "other@example.org")}
			}
			if s.Tx.In.From.Local != "drop" && concerned(s.Tx, r) {
				if err := s.Tx.Do(e); err != nil {
					return policy.Verdict{}, err
				}
			}
		}
		return policy.Verdict{}, nil
	})}
}

// Whatever the spelling, a recipient who was dropped, removed or replaced does
// not get the message from the MTA; one of the same address who was not, does.
func TestSpellingsOfRecipients(t *testing.T) {
	all := func(t *testing.T, addr string, mta *postfix.Postfix) {
		c := client.Dial(t, addr, "").Greet("one.example")
		want := map[string]string{}
		say := func(from, others string, to ...string) {
			name := fmt.Sprintf("%s of %s", from, strings.Join(to, " "))
			c.Must("250", "MAIL FROM:<"+from+">")
			for _, a := range to {
				c.Must("250", "RCPT TO:"+a)
			}
			c.Must("250", "RCPT TO:<stays@example.org>")
			if r := data(c, "X-Case: "+name+"\r\n"+mail); !strings.HasPrefix(r, "250") {
				t.Errorf("%s: %q", name, r)
			}
			want[name] = others + "stays"
		}
		for i, a := range spellings {
			say("drop@all.example", "", a)
			say("remove@all.example", "", a)
			say("replace@all.example", "other ", a)
			b := spellings[(i+1)%len(spellings)]
			say("drop@all.example", "", a, b)
			say("remove@all.example", "", a, b)
			say("drop@first.example", "gone ", a, b)
			say("drop@first.example", "gone ", b, a)
			say("remove@first.example", "gone ", spellings[0], a)
			say("replace@first.example", "gone other ", a, spellings[0])
		}
		c.Must("221", "QUIT")
		mta.Messages(len(want))
		mta.Settle()
		to := map[string][]string{}
		for _, m := range mta.Inside.Messages() {
			for _, r := range m.Rcpts {
				local, _, _ := strings.Cut(strings.Trim(r, `<"`), "@")
				to[caseOf(m)] = append(to[caseOf(m)], strings.Trim(local, `"`))
			}
		}
		got := map[string]string{}
		for name, locals := range to {
			slices.Sort(locals)
			got[name] = strings.Join(slices.Compact(locals), " ")
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("delivered to (-policy +MTA):\n%s", d)
		}
	}
	for _, original := range []string{"yes", "no"} {
		t.Run("Postfix with enable_original_recipient="+original, func(t *testing.T) {
			p := serve(t)
			p.use(byFirst(t)...)
			mta := postfix.Start(t, postfix.Options{Milters: []string{"inet:" + p.addr}, Main: map[string]string{"enable_original_recipient": original}})
			all(t, mta.Addr, mta)
		})
	}
	t.Run("Sendmail", func(t *testing.T) {
		p := serve(t)
		p.use(byFirst(t)...)
		mta := postfix.Start(t, postfix.Options{})
		all(t, sendmail(t, p.addr, mta.Addr), mta)
	})
}
