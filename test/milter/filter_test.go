package milter_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/emersion/go-msgauth/dkim"

	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/moongate"
	"github.com/moongate/moongate/test/postfix"
)

// opendkim signs what leaves the door, after all edits of the policy; Postfix
// delivers a message whose signature verifies. When opendkim is away, on_error
// counts.
func TestDoorWithOpenDKIM(t *testing.T) {
	private, record := dkimKey(t)
	addr, stop := openDKIM(t, "Mode s\nCanonicalization simple/simple\nDomain example.net\nSelector sel\nKeyFile {dir}/key\nInternalHosts 0.0.0.0/0\n",
		map[string]string{"key": private})

	mta := postfix.Start(t, postfix.Options{})
	gate := moongate.Start(t, moongate.Options{Upstream: mta.Addr,
		Config: moongate.Default + "\n[[filter]]\nname = \"opendkim\"\naddress = \"" + addr + "\"\nphase = \"sign\"\n",
		Files: map[string]string{"scripts/10-policy.lua": `
on.message("tag", function(msg)
  msg:set_header("Subject", "[tagged]  " .. msg:header("Subject"))
  msg:insert_header("X-Policy", "was here")
end)`}})
	c := client.Dial(t, gate.Addr, "")
	c.Reply()
	send := func(from string) string {
		c.Must("250", "MAIL FROM:<"+from+">")
		c.Must("250", "RCPT TO:<b@example.org>")
		return data(c, "From: a@example.net\r\nTo: b@example.org\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@example.net>\r\nSubject:  two  blanks\r\n\tfold \xe4\r\n\r\nBody  \r\n..\r\n..x\r\n\r\n")
	}
	c.Must("250", "EHLO client.example")
	for range 2 {
		if r := send("a@example.net"); !strings.HasPrefix(r, "250") {
			t.Fatalf("message: %q", r)
		}
	}
	for _, m := range mta.Messages(2) {
		got, err := dkim.VerifyWithOptions(bytes.NewReader(m.Body()), &dkim.VerifyOptions{LookupTXT: func(string) ([]string, error) { return []string{record}, nil }})
		if err != nil || len(got) != 1 || got[0].Err != nil || !strings.Contains(string(m.Body()), "Subject: [tagged]") {
			t.Errorf("%v, %v:\n%s", got, err, m.Body())
		}
	}
	audit := gate.WaitLog("message", nil)
	if s := fmt.Sprint(audit["edits"]); !strings.Contains(s, "insert_header DKIM-Signature[0] by opendkim") {
		t.Errorf("audit line: %s", audit)
	}
	stop()
	c.Must("451 4.7.1", "MAIL FROM:<a@example.net>")
	c.Must("221", "QUIT")
}
