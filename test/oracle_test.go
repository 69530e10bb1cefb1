package test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/moongate"
	"github.com/moongate/moongate/test/postfix"
)

// words are commands in all shapes that clients send them, and some that none should.
var words = []string{
	"EHLO c.example.com", "HELO c.example.com", "EHLO [192.0.2.1]", "EHLO", "HELO", "EHLO c_d", "EHLO [IPv6:::1]", "EHLO a b",
	"MAIL FROM:<a@example.com>", "MAIL FROM:<>", "MAIL FROM: <a@example.com>", "mail from:<a@example.com>", "MAIL FROM:a@example.com",
	"MAIL FROM:<a@example.com> SIZE=100", "MAIL FROM:<a@example.com> BODY=8BITMIME", "MAIL FROM:<a@example.com>  SIZE=100",
	"MAIL FROM:<a@example.com> BODY=FOO", "MAIL FROM:<a@example.com> FOO=BAR", "MAIL FROM:<a@example.com> FOO", "MAIL FROM:<a b@example.com>",
	"MAIL FROM:<a@example.com", "MAIL FROM", "MAIL", "MAIL TO:<a@example.com>", "MAIL FROM:<@x.example,@y.example:a@example.com>",
	"MAIL FROM:<a@[192.0.2.1]>", "MAIL FROM:<a@[IPv6:2001:db8::1]>", "MAIL FROM:<a@example.com> RET=HDRS ENVID=x",
	"MAIL FROM:<a@example.com> RET=FOO", "MAIL FROM:<a@example.com> SMTPUTF8", "MAIL FROM:<a@example.com>\t", "MAIL FROM:<a@example.com> ",
	`MAIL FROM:<"a b"@example.com>`, "MAIL FROM:<a@b@c>", "MAIL FROM:<a..b@example.com>", "MAIL FROM:<.a@example.com>", "MAIL FROM:<a@>",
	"MAIL FROM:<@example.com>", "MAIL FROM:<a@exa_mple.com>", "MAIL FROM:<a@-example.com>", "MAIL FROM:<a@example..com>",
	"MAIL FROM:<a@example.com.>", "MAIL FROM:<a>", "MAIL FROM:<a@example.com> AUTH=<>", "MAIL FROM:<a@localhost>",
	"RCPT TO:<b@example.org>", "RCPT TO:<c@example.org>", "RCPT TO:<>", "RCPT TO:b@example.org", "RCPT TO:<b>", "RCPT TO:<postmaster>",
	"RCPT TO:<b@example.org> NOTIFY=NEVER", "RCPT TO:<b@example.org> NOTIFY=FOO", "RCPT TO:<b@example.org> ORCPT=rfc822;x",
	"RCPT TO:<b@example.org> ORCPT=x", "RCPT TO:<b@example.org> X=Y", "RCPT TO:<b c@example.org>", "RCPT TO: <b@example.org>",
	`RCPT TO:<"b\"c"@example.org>`, "RCPT", "RCPT FROM:<b@example.org>", "RCPT TO:<b@example.org> NOTIFY=NEVER,FAILURE",
	"RCPT TO:<b@example.org", "RSET", "RSET x", "NOOP", "NOOP x", "DATA", "DATA x", "VRFY b", "VRFY", "EXPN x", "HELP", "FOO", "", " ",
	"ETRN x", "AUTH PLAIN", "STARTTLS", "TURN", "SEND FROM:<a@b>", "rset", "Data",
}

// byChoice are the commands that we answer otherwise than Postfix, and why.
var byChoice = map[string]string{
	"EHLO a b":                          "RFC 5321 4.1.1.1: one name",
	"MAIL FROM:a@example.com":           "brackets are wanted, or two readers see two addresses",
	"RCPT TO:b@example.org":             "the same",
	"MAIL FROM:<a@b@c>":                 "a second @ outside of quotes is a way to relay",
	"MAIL FROM:<@example.com>":          "no local part",
	"MAIL FROM:<a@example.com> AUTH=<>": "AUTH is not offered",
	"ETRN x":                            "not offered",
	"HELP":                              "answered",
}

// TestLikePostfix says the same random commands to a Postfix and to the program in front of the same
// Postfix. But for the choices above both answer with the same class, and take the same messages.
func TestLikePostfix(t *testing.T) {
	mta := postfix.Start(t, postfix.Options{Main: map[string]string{
		"smtpd_error_sleep_time": "0", "smtpd_soft_error_limit": "1000", "smtpd_hard_error_limit": "1000", "smtpd_junk_command_limit": "10000"}})
	p := moongate.Start(t, moongate.Options{Upstream: mta.Addr, Plain: true, Config: moongate.Default + patientLimits})
	r := rand.New(rand.NewPCG(5321, 1))
	messages, choices := 0, 0
	for range 400 {
		theirs, ours := client.Dial(t, mta.Addr, ""), client.Dial(t, p.Addr, "")
		theirs.Reply()
		ours.Reply()
		var said []string
		extended := true
		for k := range 12 {
			c := words[r.IntN(len(words))]
			switch { // go deep more often than chance would
			case k == 0: // MAIL without a greeting, which Postfix takes and we do not, is not tried
				c = "EHLO c.example.com"
			case k == 1 && r.IntN(2) > 0:
				c = "MAIL FROM:<a@example.com>"
			case k == 2 && r.IntN(2) > 0:
				c = "RCPT TO:<b@example.org>"
			case k == 3 && r.IntN(2) > 0:
				c = "DATA"
			}
			said = append(said, c)
			wantText, gotText := theirs.Say(c), ours.Say(c)
			want, got := client.Code(wantText), client.Code(gotText)
			if got/100 != want/100 {
				if byChoice[c] != "" || !extended && strings.Contains(gotText, "Unsupported parameter") {
					choices++ // after HELO there are no parameters: RFC 5321 4.1.1.1
				} else {
					t.Errorf("%q: we say %q, Postfix %q", said, gotText, wantText)
				}
				break // they are in different states now
			}
			switch {
			case got == 250 && strings.HasPrefix(c, "HELO"):
				extended = false
			case got == 250 && strings.HasPrefix(c, "EHLO"):
				extended = true
			case got == 354:
				want, got := theirs.Say(client.Head("oracle")+"\r\n."), ours.Say(client.Head("oracle")+"\r\n.")
				if client.Code(got)/100 != client.Code(want)/100 {
					t.Errorf("%q: the message is answered %q, by Postfix %q", said, got, want)
				} else if strings.HasPrefix(got, "250") {
					messages++
				}
			}
		}
		theirs.Close()
		ours.Close()
	}
	mta.Settle()
	if n := len(mta.Inside.Messages()) + len(mta.Outside.Messages()); n < 2*messages || messages < 20 {
		t.Errorf("%d messages to each, and %d deliveries", messages, n)
	}
	t.Logf("%d messages each, %d times we chose otherwise", messages, choices)
}
