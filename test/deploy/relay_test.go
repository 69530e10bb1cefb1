package deploy

import (
	"slices"
	"strings"
	"testing"

	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/postfix"
)

// forms are ways to ask for mail to the outside, victim@ext.example, each as the argument of RCPT TO:.
// Many of them a stock Postfix delivers there if it is 127.0.0.1 that asks (TestStockPostfixRelays).
var forms = []string{
	`<victim@ext.example>`,
	`<victim@EXT.Example>`,
	`<victim@ext.example.>`,
	`<victim@example.org.ext.example>`,
	`<postmaster@ext.example>`,
	`<PostMaster@ext.example>`,
	`<victim%ext.example@example.org>`,
	`<victim%EXT.example@Example.ORG>`,
	`<victim%ext.example@example.org.>`,
	`<victim%ext.example%example.org@example.org>`,
	`<victim%ext.example@mta.example.org>`,
	`<victim%ext.example@localhost>`,
	`<victim%ext.example@[127.0.0.1]>`,
	`<victim%ext.example>`,
	`<"victim@ext.example"@example.org>`,
	`<"victim%ext.example"@example.org>`,
	`<"victim\@ext.example"@example.org>`,
	`<"victim@ext.example">`,
	`<"victim%ext.example">`,
	`<ext.example!victim@example.org>`,
	`<ext.example!victim>`,
	`<"ext.example!victim"@example.org>`,
	`<victim@ext.example@example.org>`,
	`<victim@example.org@ext.example>`,
	`<@example.org:victim@ext.example>`,
	`<@example.org,@mta.example.org:victim@ext.example>`,
	`<@ext.example:b@example.org@ext.example>`,
	`<victim@[192.0.2.1]>`,
	`<victim@[IPv6:2001:db8::1]>`,
	`<victim@[127.0.0.1]@ext.example>`,
	`<"victim ext.example"@ext.example>`,
	`<victim@ext.example> ORCPT=rfc822;b@example.org`,
	`<victim@ext.example> NOTIFY=NEVER ORCPT=rfc822;b+40example.org`,
	`<victim%ext.example@example.org> ORCPT=rfc822;b@example.org+3E+0D+0ARCPT+20TO:<victim@ext.example>`,
	`<b@example.org> ORCPT=rfc822;b@example.org+0D+0ARCPT+20TO:<victim@ext.example>`,
	`<b@example.org> <victim@ext.example>`,
	`<b@example.org>,<victim@ext.example>`,
	`victim@ext.example`,
	"<vict\u00efm@ext.example>",
	"<victim%ext.example@ex\u00e4mple.org>",
	"<victim\uff20ext.example@example.org>", // a full-width @
	"<victim@ext\u3002example>",             // an ideographic full stop
}

// offer tries each form from an address, in a few sessions and from changing senders, to its end. It
// returns the replies to RCPT.
func offer(t *testing.T, addr, from string) map[string]string {
	t.Helper()
	replies := map[string]string{}
	var c *client.Client
	for i, form := range forms {
		if i%4 == 0 { // a session with many errors is slowed down, and then shown the door
			if c != nil {
				c.Say("QUIT")
				c.Close()
			}
			c = client.Dial(t, addr, from).Greet("client.example.com")
		}
		mail := "MAIL FROM:" + []string{"<a@example.com>", "<>", "<b@example.org>", "<victim@ext.example>"}[i%4]
		if strings.IndexFunc(form, func(r rune) bool { return r > 126 }) >= 0 {
			mail += " SMTPUTF8"
		}
		c.Must("250", mail)
		reply := c.Say("RCPT TO:" + form)
		replies[form] = reply
		if strings.HasPrefix(reply, "250") {
			c.Must("354", "DATA")
			c.Say(letter("relay") + ".") // whatever becomes of it
			continue
		}
		c.Must("250", "RSET")
	}
	c.Say("QUIT")
	c.Close()
	return replies
}

// TestNoOpenRelay: with every identity and every listener an outside client cannot send to the outside;
// what a client may send passes.
func TestNoOpenRelay(t *testing.T) {
	if outside(t) {
		return
	}
	utf8 := map[string]string{"smtputf8_enable": "yes"}
	shared, addrs := startAll(t, postfix.Options{Main: utf8})
	for _, tc := range []struct {
		deployment
		stock *postfix.Options // of a stock listener that is not as Debian sets it up
		out   []string         // who may send to the outside
	}{
		// A stock listener, trusting 127.0.0.1: moongate guards.
		{deployment{"none", ""}, nil, []string{"", neighbour}},
		{deployment{"xforward", ""}, &postfix.Options{XForward: true}, []string{"", neighbour}},
		// The same, told who the client is with nothing else changed.
		{deployment{"proxy", ""}, &postfix.Options{Proxy: true}, []string{""}},
		{deployment{"xclient", ""}, &postfix.Options{XClient: true}, []string{""}},
		// The shipped listeners trust nobody.
		{deployment{"none", "xforward.master.cf"}, nil, nil},
		{deployment{"xforward", "xforward.master.cf"}, nil, nil},
		{deployment{"proxy", "proxy.master.cf"}, nil, nil},
		{deployment{"xclient", "xclient.master.cf"}, nil, nil},
	} {
		t.Run(tc.String(), func(t *testing.T) {
			mta, addr := shared, addrs[tc.listener]
			if tc.stock != nil {
				tc.stock.Main = utf8
				mta = postfix.Start(t, *tc.stock)
				addr = mta.Addr
			}
			p := setup{top: `networks = ["203.0.113.0/24"]`}.start(t, tc.identity, addr)
			outside := len(mta.Outside.Messages())
			replies := offer(t, p.Addr, stranger)
			mta.Settle()
			for _, m := range mta.Outside.Messages()[outside:] {
				t.Errorf("from %s went outside, to %s", m.From, m.Rcpts)
			}
			// A stock Postfix defers what it will not relay: 454 4.7.1.
			if refused := count(replies, "5") + count(replies, "454 4.7.1"); refused < 35 {
				t.Errorf("only %d of %d forms were refused:\n%q", refused, len(forms), replies)
			}

			// An honest client's mail passes, wherever it comes from.
			inside, sent := len(mta.Inside.Messages()), 0
			for _, from := range []string{stranger, neighbour, ""} {
				c := client.Dial(t, p.Addr, from).Greet("client.example.com")
				for _, rcpt := range []string{"b@example.org", "B.c+d@EXAMPLE.org", "postmaster", `"x y"@example.org`} {
					r := c.Send("a@example.com", rcpt, letter("honest"))
					if rcpt == `"x y"@example.org` && from == stranger && !tc.knows() {
						if !strings.HasPrefix(r, "550 5.7.1") { // the guard is strict
							t.Errorf("%s from %s: %q", rcpt, from, r)
						}
						c.Say("RSET")
						continue
					}
					if !strings.HasPrefix(r, "250") {
						t.Errorf("%s from %q: %q", rcpt, from, r)
					}
					sent++
				}
				c.Must("221", "QUIT")
			}
			if got := len(mta.Messages(inside+sent)) - inside; got != sent {
				t.Errorf("%d messages arrived, %d were sent", got, sent)
			}

			// Who may send out can, and nobody else.
			for _, from := range []string{"", neighbour} {
				c := client.Dial(t, p.Addr, from).Greet("client.example.com")
				r := c.Send("b@example.org", "friend@ext.example", letter("out"))
				if may := slices.Contains(tc.out, from); strings.HasPrefix(r, "250") != may {
					t.Errorf("out from %q: %q, want it to pass: %v", from, r, may)
				}
				c.Say("QUIT")
			}
			mta.Settle()
			if got := len(mta.Outside.Messages()) - outside; got != len(tc.out) {
				t.Errorf("%d messages went outside, want %d", got, len(tc.out))
			}
		})
	}
}

func count(replies map[string]string, prefix string) (n int) {
	for _, r := range replies {
		if strings.HasPrefix(r, prefix) {
			n++
		}
	}
	return n
}

// TestStockPostfixRelays is the control: asked by an address that it trusts, as it would be by a proxy
// that hides the client, Postfix sends enough of the forms outside.
func TestStockPostfixRelays(t *testing.T) {
	if outside(t) {
		return
	}
	mta := postfix.Start(t, postfix.Options{Main: map[string]string{"smtputf8_enable": "yes"}})
	offer(t, mta.Addr, "")
	mta.Settle()
	out := len(mta.Outside.Messages())
	t.Logf("of %d forms Postfix sends %d outside", len(forms), out)
	if out < 12 {
		t.Errorf("Postfix sends only %d of the forms outside", out)
	}
}
