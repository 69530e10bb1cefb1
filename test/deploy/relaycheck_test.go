package deploy

import (
	"strings"
	"testing"

	"github.com/moongate/moongate/test/moongate"
	"github.com/moongate/moongate/test/postfix"
	"github.com/moongate/moongate/test/upstream"
)

// TestCheckRelay asks `moongate check --relay` about real deployments, good and bad.
func TestCheckRelay(t *testing.T) {
	t.Parallel()
	shared, addrs := startAll(t, postfix.Options{})
	open := map[string]string{"smtpd_relay_restrictions": "check_client_access inline:{ 192.0.2.1=OK }, reject_unauth_destination"}
	for _, tc := range []struct {
		name, identity, listener string
		o                        *postfix.Options // of a Postfix of its own
		code                     int
		says                     string
	}{
		{"shipped proxy", "proxy", "proxy.master.cf", nil, 0, "none of 17"},
		{"shipped xclient", "xclient", "xclient.master.cf", nil, 0, "none of 17"},
		{"shipped xforward", "xforward", "xforward.master.cf", nil, 0, "none of 10"},
		{"guarded, none", "none", "", nil, 0, "none of 10"},
		{"guarded, xforward", "xforward", "", &postfix.Options{XForward: true}, 0, "none of 10"},
		{"stock with PROXY", "proxy", "", &postfix.Options{Proxy: true}, 0, "454 4.7.1"},
		{"stock with XCLIENT", "xclient", "", &postfix.Options{XClient: true}, 0, "454 4.7.1"},
		{"trusts the world, PROXY", "proxy", "", &postfix.Options{Proxy: true, Main: map[string]string{"mynetworks": "0.0.0.0/0"}}, 78, "open relay"},
		{"relays for all, XCLIENT", "xclient", "", &postfix.Options{XClient: true, Main: open}, 78, "open relay"},
		{"relays for its own senders", "proxy", "", &postfix.Options{Proxy: true, Main: map[string]string{
			"smtpd_relay_restrictions": "check_sender_access inline:{ example.org=OK }, reject_unauth_destination"}}, 78, "<victim@relay-check.invalid> from <postmaster@"},
		{"sends on what is routed by %", "proxy", "", &postfix.Options{Proxy: true, Main: map[string]string{
			"mydestination": "localhost", "relay_domains": "example.org", "allow_untrusted_routing": "yes"}}, 78, "<victim%relay-check.invalid@example.org>, "},
		{"knows no senders, and few errors", "proxy", "", &postfix.Options{Proxy: true, Main: map[string]string{
			"smtpd_sender_restrictions": "check_sender_access inline:{ {example.org = 450 4.1.8 not found} }", "smtpd_hard_error_limit": "5"}}, 0, "450 4.1.8"},
		{"no PROXY", "proxy", "", nil, 69, "no verdict"},
		{"no XCLIENT", "xclient", "", nil, 69, "no verdict"},
		{"no XFORWARD", "xforward", "", nil, 69, "no verdict"},
		{"waits for a header", "none", "proxy.master.cf", nil, 69, "no verdict"},
		{"not yet", "proxy", "", &postfix.Options{Proxy: true, Main: map[string]string{"smtpd_recipient_restrictions": "defer"}}, 0, "454 4.7.1"},
		{"graylisted", "proxy", "", &postfix.Options{Proxy: true, Main: map[string]string{"smtpd_relay_restrictions": "check_client_access inline:{ {192.0.2.1 = 450 4.2.0 later} }, reject_unauth_destination"}}, 69, "no verdict"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			mta, addr := shared, addrs[tc.listener]
			if tc.o != nil {
				mta = postfix.Start(t, *tc.o)
				addr = mta.Addr
			}
			s := setup{listen: "127.0.0.1:0", files: map[string]string{"scripts/10-no.lua": `on.rcpt("no", function() return reject(550, "5.7.1", "nobody") end)`}}
			dir := moongate.Write(t, moongate.Options{Config: s.config(tc.identity), Upstream: addr, Files: s.files})
			code, out := moongate.Run(t, dir, "check", "--relay", "-c", "moongate.toml")
			if code != tc.code || !strings.Contains(out, tc.says) || strings.Contains(out, "nobody") {
				t.Errorf("exit %d, want %d and %q:\n%s", code, tc.code, tc.says, out)
			}
			mta.Settle()
			if len(mta.Inside.Messages())+len(mta.Outside.Messages()) > 0 {
				t.Error("a message was sent")
			}
			if strings.Contains(mta.Log(), "data=") {
				t.Error("DATA was said")
			}
		})
	}
}

// TestCheckRelaySendsNothing: an upstream that takes all is never told DATA, and hears of the stranger
// as the identity says.
func TestCheckRelaySendsNothing(t *testing.T) {
	for identity, want := range map[string]string{
		"none": "EHLO", "xforward": "EHLO", "proxy": "PROXY2 TCP4 192.0.2.1 ", "xclient": "XCLIENT ADDR=192.0.2.1 ",
	} {
		t.Run(identity, func(t *testing.T) {
			script := xscript
			if identity == "proxy" {
				script = "proxy\n" + script
			}
			up := upstream.Start(t, script)
			dir := moongate.Write(t, moongate.Options{Config: setup{listen: "127.0.0.1:0"}.config(identity), Upstream: up.Addr})
			code, out := moongate.Run(t, dir, "check", "--relay", "-c", "moongate.toml")
			guarded := identity == "none" || identity == "xforward"
			if guarded && code != 0 || !guarded && code != 78 {
				t.Errorf("exit %d:\n%s", code, out)
			}
			up.Wait(patience, func() bool { _, open := up.Conns(); return open == 0 })
			all, _ := up.Conns()
			var lines []string
			for n := 1; n <= all; n++ {
				lines = append(lines, up.Lines(n)...)
			}
			text := strings.Join(lines, "\n")
			if !strings.Contains(text, want) || strings.Contains(text, "DATA") || strings.Contains(text, "127.0.0.1") && identity == "proxy" && !strings.Contains(text, "192.0.2.1") {
				t.Errorf("the upstream was told, and %q is wanted:\n%s", want, text)
			}
			if len(up.Messages()) > 0 && up.Messages()[0].Data != nil {
				t.Error("a message was sent")
			}
		})
	}
}
