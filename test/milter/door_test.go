package milter_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/policytest"
	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/moongate"
	"github.com/moongate/moongate/test/upstream"
)

// doorWith starts the program with filters, each a [[filter]] without its head.
func doorWith(t *testing.T, lua string, filters ...string) (*moongate.Process, *upstream.Server) {
	t.Helper()
	up := upstream.Start(t, "")
	config := moongate.Default
	for _, f := range filters {
		config += "\n[[filter]]\n" + f + "\n"
	}
	o := moongate.Options{Upstream: up.Addr, Config: config}
	if lua != "" {
		o.Files = map[string]string{"scripts/10-policy.lua": lua}
	}
	return moongate.Start(t, o), up
}

// A second MAIL, and a malformed one, end nothing: the filter is asked about the
// message all the same.
func TestNestedMailDoesNotSkipFilters(t *testing.T) {
	f := serve(t)
	f.use(policytest.Always(policy.Message, policytest.Reject("a virus")))
	gate, up := doorWith(t, "", fmt.Sprintf("name = \"av\"\naddress = %q", f.addr))
	for _, again := range []string{"MAIL FROM:<b@example.net>", "MAIL FROM:<b\x01@example.net>", "MAIL FROM:<b@example.net", "MAIL"} {
		c := client.Dial(t, gate.Addr, "")
		c.Reply()
		c.Must("250", "EHLO client.example")
		c.Must("250", "MAIL FROM:<a@example.net>")
		c.Must("50", again)
		c.Must("250", "RCPT TO:<b@example.org>")
		c.Must("50", again)
		if r := data(c, mail); !strings.HasPrefix(r, "550 5.7.1 a virus") {
			t.Errorf("%q, then the message: %q", again, r)
		}
		c.Must("221", "QUIT")
	}
	if n := len(up.Messages()); n != 0 {
		t.Errorf("%d messages went on", n)
	}
}
