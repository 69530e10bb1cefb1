package deploy

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/moongate"
	"github.com/moongate/moongate/test/postfix"
	"github.com/moongate/moongate/test/upstream"
)

const forwardUpstream = "EHLO 250-up|250 XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE\nXFORWARD 250 2.0.0 Ok\n"

// TestBeforeQueueOddHelo: what Postfix lets a client call itself costs it no message.
func TestBeforeQueueOddHelo(t *testing.T) {
	if outside(t) {
		return
	}
	b := startBeforeQueue(t, filterSetup{})
	for n, helo := range []string{"my computer", "caf\xc3\xa9", `"quoted" (or not)`, strings.Repeat("long.", 100)} {
		c := client.Dial(t, b.front, stranger).Greet(helo)
		if r := c.Send("a@example.com", "b@example.org", letter(fmt.Sprint(n))); !strings.HasPrefix(r, "250") {
			t.Errorf("EHLO %.40q: %q", helo, r)
		}
		c.Close()
	}
}

// TestBeforeQueueUpstreamAway: a client of an upstream that was never there comes again, whatever it asked for.
func TestBeforeQueueUpstreamAway(t *testing.T) {
	if outside(t) {
		return
	}
	b := startBeforeQueue(t, filterSetup{upstream: postfix.FreeAddr(t)})
	for _, params := range []string{"", " BODY=8BITMIME", " RET=HDRS ENVID=x", " SMTPUTF8"} {
		c := client.Dial(t, b.front, stranger).Greet("client.example.com")
		c.Must("250", "MAIL FROM:<a@example.com>"+params)
		if r := c.Say("RCPT TO:<b@example.org> NOTIFY=FAILURE"); !strings.HasPrefix(r, "451") && !strings.HasPrefix(r, "421") {
			t.Errorf("%q: %q", params, r)
		}
		c.Close()
	}
}

// TestBeforeQueueHangingUpstream: nothing that the upstream leaves us waiting for is waited for longer than Postfix
// waits.
func TestBeforeQueueHangingUpstream(t *testing.T) {
	t.Parallel()
	if outside(t) {
		return
	}
	up := upstream.Start(t, forwardUpstream+"DATA !hang")
	b := startBeforeQueue(t, filterSetup{upstream: up.Addr, listener: `budget = "5s"`, script: `on.message("any", function(msg) end)`})
	c := client.Dial(t, b.front, stranger).Greet("client.example.com")
	c.Must("250", "MAIL FROM:<a@example.com>")
	c.Must("250", "RCPT TO:<b@example.org>")
	c.Must("354", "DATA")
	begin := time.Now()
	r := c.Say(letter("slow") + ".")
	if took := time.Since(begin); !strings.HasPrefix(r, "451 4.3.0") || took > 40*time.Second {
		t.Errorf("after %v: %q", took, r)
	}
	b.p.WaitLog("message", func(l moongate.Line) bool { return l["verdict"] == "tempfailed" && l["ambiguous"] != true })
}
