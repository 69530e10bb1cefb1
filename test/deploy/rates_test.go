package deploy

import (
	"maps"
	"strings"
	"testing"

	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/postfix"
)

// TestRateLimits: limits that main.cf sets for each client are for each client behind moongate, too,
// where Postfix knows him; where it sees one address for all, they are for nobody.
func TestRateLimits(t *testing.T) {
	if outside(t) {
		return
	}
	for _, limit := range []struct{ name, says string }{
		{"smtpd_client_connection_rate_limit", "421 4.7.0 mta.example.org Error: too many connections from 192.0.2.1"},
		{"smtpd_client_message_rate_limit", "450 4.7.1 Error: too much mail from 192.0.2.1"},
		{"smtpd_client_recipient_rate_limit", "450 4.7.1 Error: too many recipients from 192.0.2.1"},
	} {
		t.Run(limit.name, func(t *testing.T) {
			main := map[string]string{limit.name: "2", "anvil_rate_time_unit": "1h"}
			_, addrs := startAll(t, postfix.Options{Main: main})
			for _, d := range shippedFronts {
				t.Run(d.String(), func(t *testing.T) {
					p := setup{}.start(t, d.identity, addrs[d.listener])
					limited(t, p.Addr, d.knows(), limit.says)
				})
			}
			t.Run("before-queue.master.cf", func(t *testing.T) {
				main := maps.Clone(main)
				main["smtpd_client_event_limit_exceptions"] = "203.0.113.0/24" // and 127.0.0.1 is none
				b := startBeforeQueue(t, filterSetup{main: main})
				limited(t, b.front, true, limit.says)
			})
		})
	}
}

// limited sends twice from each of two clients, and a third time from the first.
func limited(t *testing.T, addr string, known bool, says string) {
	t.Helper()
	send := func(from string) string {
		c := client.Dial(t, addr, from)
		defer c.Close()
		if r := c.Reply(); !strings.HasPrefix(r, "220") {
			return r
		}
		c.Must("250", "EHLO client.example.com")
		r := c.Send("a@example.com", "b@example.org", letter("rate"))
		c.Say("QUIT")
		return r
	}
	for _, from := range []string{stranger, another, stranger, another} {
		if r := send(from); !strings.HasPrefix(r, "250") {
			t.Errorf("%s: %q", from, r)
		}
	}
	if r := send(stranger); known && r != says || !known && !strings.HasPrefix(r, "250") {
		t.Errorf("the third of this client: %q", r)
	}
}
