package milter_test

import (
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
