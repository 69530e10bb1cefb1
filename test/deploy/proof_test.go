package deploy

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/moongate"
	"github.com/moongate/moongate/test/postfix"
	"github.com/moongate/moongate/test/upstream"
)

// TestWrongListener pairs identities with real listeners that do not understand them. The client hears
// a 4xx at MAIL, nothing is delivered, and the log says what is missing where.
func TestWrongListener(t *testing.T) {
	t.Parallel()
	if outside(t) {
		return
	}
	told := causes(t)
	mta, addrs := startAll(t, postfix.Options{})
	for _, tc := range []struct{ identity, listener, because string }{
		{"proxy", "", "smtpd_upstream_proxy_protocol"},
		{"proxy", "xclient.master.cf", "smtpd_upstream_proxy_protocol"},
		{"xclient", "", "smtpd_authorized_xclient_hosts"},
		{"xclient", "xforward.master.cf", "smtpd_authorized_xclient_hosts"},
		{"xclient", "proxy.master.cf", ""}, // it awaits a header and says nothing
		{"xforward", "", "smtpd_authorized_xforward_hosts"},
		{"xforward", "xclient.master.cf", "smtpd_authorized_xforward_hosts"},
		{"xforward", "proxy.master.cf", ""},
		{"none", "proxy.master.cf", ""},
	} {
		d := deployment{tc.identity, tc.listener}
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			p := setup{}.start(t, d.identity, addrs[d.listener])
			for _, from := range []string{stranger, ""} {
				c := client.Dial(t, p.Addr, from)
				if r := c.Reply(); tc.because == "" && from == "" && strings.HasPrefix(r, "421 4.3.2") {
					continue // it has been silent too often by now
				}
				c.Must("250", "EHLO client.example.com")
				if r := c.Say("MAIL FROM:<a@example.com>"); !strings.HasPrefix(r, "451 4.3.") {
					t.Errorf("MAIL from %q: %q", from, r)
				}
				if r := c.Say("RCPT TO:<b@example.org>"); !strings.HasPrefix(r, "503") {
					t.Errorf("RCPT: %q", r)
				}
				c.Must("221", "QUIT")
			}
			mta.Settle()
			if in, out := len(mta.Inside.Messages()), len(mta.Outside.Messages()); in+out > 0 {
				t.Errorf("%d messages inside, %d outside", in, out)
			}
			l := p.WaitLog("refuse", func(l moongate.Line) bool {
				cause, _ := l["cause"].(string)
				return l["stage"] == "mail" && cause != "" && strings.Contains(cause, tc.because)
			})
			if cause := l["cause"].(string); !slices.ContainsFunc(told, func(s string) bool { return strings.Contains(cause, s) }) {
				t.Errorf("docs/postfix.md does not tell of the cause %q", cause)
			}
		})
	}
}

// causes are those that docs/postfix.md tells how to mend.
func causes(t *testing.T) (all []string) {
	t.Helper()
	text, err := os.ReadFile("../../docs/postfix.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range regexp.MustCompile("(?m)^\\| `(upstream .*?)(?: \\.\\.\\.)?`").FindAllStringSubmatch(string(text), -1) {
		all = append(all, m[1])
	}
	if len(all) < 4 {
		t.Fatalf("the page tells of %q only", all)
	}
	return all
}

// TestUnprovenIdentity is the same with an upstream that can be made to say anything: it never hears
// MAIL unless it has shown that it knows the client, and its verdicts on the client go back word for
// word, but for those that are about us.
func TestUnprovenIdentity(t *testing.T) {
	const offers = "EHLO 250-up|250-PIPELINING|250 XCLIENT NAME ADDR PORT LOGIN DESTADDR DESTPORT\n"
	for _, tc := range []struct{ name, identity, script, want, because string }{
		{"keyword missing", "xclient", "", "451 4.3.0", "XCLIENT"},
		{"no ADDR", "xclient", "EHLO 250-up|250 XCLIENT NAME LOGIN\n", "451 4.3.0", "ADDR"},
		{"not authorized", "xclient", offers + "XCLIENT 550 5.7.0 Error: insufficient authorization", "451 4.3.0", "insufficient authorization"},
		{"unknown command", "xclient", offers + "XCLIENT 500 5.5.1 what?", "451 4.3.0", "what?"},
		{"bad syntax", "xclient", offers + "XCLIENT 501 5.5.4 Bad attribute", "451 4.3.0", "Bad attribute"},
		{"not implemented", "xclient", offers + "XCLIENT 502 5.5.1 no", "451 4.3.0", "502"},
		{"out of order", "xclient", offers + "XCLIENT 503 5.5.1 no", "451 4.3.0", "503"},
		{"an odd answer", "xclient", offers + "XCLIENT 250 2.0.0 fine", "451 4.3.0", "250"},
		{"a greeting of the wrong kind", "xclient", offers + "XCLIENT 220-up|220 up|220 and more !hang", "451 4.3.0", "upstream"},
		{"gone", "xclient", offers + "XCLIENT !close", "451 4.3.0", "connection lost"},
		{"the client is not wanted", "xclient", offers + "XCLIENT 550 5.7.1 Client host rejected", "550 5.7.1 Client host rejected", ""},
		{"not now", "xclient", offers + "XCLIENT 450 4.7.1 Client host rejected: cannot find your hostname", "450 4.7.1 Client host rejected: cannot find your hostname", ""},
		{"the HELO is not wanted", "xclient", "EHLO /client.example.com/ 554 5.7.1 Helo command rejected\n" + offers + "XCLIENT 220 up", "554 5.7.1 Helo command rejected", ""},

		{"500 to the header", "proxy", "connect 220 up|500 5.5.2 Error: command not recognized|500 5.5.2 bad syntax", "451 4.3.0", ""},
		{"500 to EHLO", "proxy", "proxy\nEHLO 500 5.5.2 Error: command not recognized", "451 4.3.0", "PROXY"},
		{"two greetings", "proxy", "proxy\nconnect raw:220 up\\r\\n220 up\\r\\n", "451 4.3.0", "unasked"},
		{"no greeting", "proxy", "proxy\nconnect !close", "451 4.3.0", "connection lost"},
		{"the client is not wanted", "proxy", "proxy\nconnect #1 220 up\nconnect 550 5.7.1 not you", "550 5.7.1 not you", ""},
		{"not now", "proxy", "proxy\nconnect #1 220 up\nconnect 421 4.7.0 not now", "421 4.7.0 not now", ""},
	} {
		t.Run(tc.identity+", "+tc.name, func(t *testing.T) {
			up := upstream.Start(t, tc.script)
			p := setup{listen: "127.0.0.1:0"}.start(t, tc.identity, up.Addr)
			c := client.Dial(t, p.Addr, "").Greet("client.example.com")
			if r := c.Say("MAIL FROM:<a@example.com>"); !strings.HasPrefix(r, tc.want) {
				t.Errorf("MAIL: %q, want %q", r, tc.want)
			}
			if tc.want[0] != '4' || !strings.HasPrefix(tc.want, "421") {
				c.Say("RCPT TO:<b@example.org>")
				c.Say("QUIT")
			}
			p.WaitLog("refuse", func(l moongate.Line) bool {
				cause, _ := l["cause"].(string)
				return l["stage"] == "mail" && strings.Contains(cause, tc.because)
			})
			up.Wait(patience, func() bool { _, open := up.Conns(); return open == 0 })
			all, _ := up.Conns()
			for n := 1; n <= all; n++ {
				if strings.Contains(string(up.Bytes(n)), "MAIL") {
					t.Errorf("it was told:\n%s", up.Bytes(n))
				}
			}
		})
	}
}

// TestBackAfterMending: a listener that is set right is used from then on, without a restart of ours.
func TestBackAfterMending(t *testing.T) {
	up := upstream.Start(t, "EHLO #1 250 up\nEHLO #2 250 up\nEHLO 250-up|250 XCLIENT NAME ADDR\nXCLIENT 220 up")
	p := setup{listen: "127.0.0.1:0"}.start(t, "xclient", up.Addr)
	deadline := time.Now().Add(patience)
	for {
		c := client.Dial(t, p.Addr, "").Greet("client.example.com")
		r := c.Send("a@example.com", "b@example.org", letter("mended"))
		if strings.HasPrefix(r, "250") {
			break
		}
		if !strings.HasPrefix(r, "451") || time.Now().After(deadline) {
			t.Fatalf("%q", r)
		}
		c.Close()
	}
}
