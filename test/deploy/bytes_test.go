package deploy

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/emersion/go-msgauth/dkim"

	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/postfix"
)

// ways make a message flow through, be held until its header is judged, and be held whole.
var ways = map[string]string{
	"free":    `on.mail("nothing", function(msg) end)`,
	"headers": `on.headers("looks", function(msg) return msg.subject == "never" and reject("never") or nil end)`,
	"message": `on.message("looks", function(msg) return msg.subject == "never" and reject("never") or nil end)`,
}

// bare is what a Postfix that takes its client for a local one completes: no domain in From, neither
// Date nor Message-ID. The rest is what gateways like to mend.
const bare = "From: joe\r\nto:   Jane <b@example.org>\r\nX-Empty:\r\nSubject: =?utf-8?q?f=C3=BC?=\r\n  folded\r\n\tand again \r\n" +
	"X-8bit: gr\u00fc\u00dfe\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n" +
	".a dot\r\n..two\r\ntrailing blanks   \r\n\ttabs\t\r\nFrom here on\r\n\u00fcmlauts\r\n\r\n\r\nend\r\n"

// TestSignedMessage sends messages with a bare From, signed in each canonicalization, through each
// shipped deployment. They are delivered byte for byte, but for what Postfix (and, where it cannot name
// the client, moongate) puts on top, and the signatures verify.
func TestSignedMessage(t *testing.T) {
	if outside(t) {
		return
	}
	public, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	var signed []string
	for _, c := range []struct{ header, body dkim.Canonicalization }{
		{dkim.CanonicalizationSimple, dkim.CanonicalizationSimple},
		{dkim.CanonicalizationRelaxed, dkim.CanonicalizationRelaxed},
		{dkim.CanonicalizationSimple, dkim.CanonicalizationRelaxed},
	} {
		var b bytes.Buffer
		if err := dkim.Sign(&b, strings.NewReader(bare), &dkim.SignOptions{
			Domain: "example.com", Selector: "s", Signer: private,
			HeaderCanonicalization: c.header, BodyCanonicalization: c.body,
			HeaderKeys: []string{"From", "To", "Subject", "Date", "Message-ID", "X-Empty", "X-8bit", "Content-Type"},
		}); err != nil {
			t.Fatal(err)
		}
		signed = append(signed, b.String())
	}
	verify := dkim.VerifyOptions{LookupTXT: func(name string) ([]string, error) {
		if name != "s._domainkey.example.com" {
			return nil, fmt.Errorf("nothing at %s", name)
		}
		return []string{"v=DKIM1; k=ed25519; p=" + base64.StdEncoding.EncodeToString(public)}, nil
	}}
	mta, addrs := startAll(t, postfix.Options{})
	for _, d := range shippedFronts {
		for way, script := range ways {
			t.Run(d.String()+", "+way, func(t *testing.T) {
				p := setup{files: map[string]string{"scripts/10-way.lua": script}}.start(t, d.identity, addrs[d.listener])
				for _, from := range []string{stranger, ""} {
					if d.identity == "xforward" && from == "" {
						continue // SOURCE=LOCAL: Postfix completes it as any local client's
					}
					c := client.Dial(t, p.Addr, from).Greet("client.example.com")
					for i, message := range signed {
						before := len(mta.Inside.Messages())
						c.Must("250", "MAIL FROM:<joe@example.com> BODY=8BITMIME SIZE="+fmt.Sprint(len(message)))
						c.Must("250", "RCPT TO:<b@example.org>")
						c.Must("354", "DATA")
						c.Must("250", client.Stuff(message)+".")
						raw := mta.Messages(before + 1)[before].Raw
						top, rest := split(raw)
						if rest != message {
							t.Errorf("%d from %q was changed:\n%q\nbecame\n%q", i, from, message, rest)
						}
						lines := 1
						if !d.knows() {
							lines = 2
						}
						if strings.Count(top, "Received: ") != lines {
							t.Errorf("%d Received lines are wanted on top: %q", lines, top)
						}
						checks, err := dkim.VerifyWithOptions(bytes.NewReader(raw), &verify)
						if err != nil || len(checks) != 1 || checks[0].Err != nil {
							t.Errorf("%d from %q: %v %+v", i, from, err, checks)
						}
					}
					c.Must("221", "QUIT")
				}
			})
		}
	}
}

var received = regexp.MustCompile(`^(Received: [^\r\n]*\r\n([ \t][^\r\n]*\r\n)*)*`)

// split parts the Received lines on top from the rest.
func split(raw []byte) (top, rest string) {
	n := len(received.Find(raw))
	return string(raw[:n]), string(raw[n:])
}

// TestUnchanged sends whatever a message may hold; it arrives byte for byte.
func TestUnchanged(t *testing.T) {
	if outside(t) {
		return
	}
	head := "From: joe\r\nSubject: s\r\n"
	messages := map[string]string{
		"no body":        head,
		"empty body":     head + "\r\n",
		"no header":      "\r\nonly a body\r\n",
		"dots":           head + "\r\n.\r\n..\r\n...\r\n. \r\n.a\r\n",
		"a long line":    head + "\r\n" + strings.Repeat("0123456789", 500) + "\r\n",
		"a long header":  head + "X-Long: " + strings.Repeat("word ", 150) + "\r\n\r\nx\r\n",
		"8bit, no MIME":  head + "\r\ngr\xfc\xdfe\r\n",
		"a large body":   head + "\r\n" + strings.Repeat("The quick brown fox jumps over the lazy dog.\r\n", 20000),
		"twice the same": head + head + "X-A: 1\r\nX-a: 1\r\n\r\nx\r\n",
	}
	mta, addrs := startAll(t, postfix.Options{})
	for _, d := range shippedFronts {
		t.Run(d.String(), func(t *testing.T) {
			p := setup{files: map[string]string{"scripts/10-way.lua": ways["headers"]}}.start(t, d.identity, addrs[d.listener])
			c := client.Dial(t, p.Addr, stranger).Greet("client.example.com")
			for name, message := range messages {
				before := len(mta.Inside.Messages())
				if r := c.Send("a@example.com", "b@example.org", message); !strings.HasPrefix(r, "250") {
					t.Errorf("%s: %q", name, r)
					continue
				}
				if _, rest := split(mta.Messages(before + 1)[before].Raw); rest != message {
					t.Errorf("%s was changed: %.300q\nbecame %.300q", name, message, rest)
				}
			}
		})
	}
}
