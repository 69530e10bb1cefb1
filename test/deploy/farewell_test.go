package deploy

import (
	"fmt"
	"strings"
	"testing"

	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/postfix"
)

// TestNobodyIsLost: a client that says QUIT has said it for Postfix, too, whatever became of its
// message. A "lost connection after RSET from" it would be a strike for those who read the log for
// clients to shut out.
func TestNobodyIsLost(t *testing.T) {
	if outside(t) {
		return
	}
	const rule = `on.rcpt("no", function(msg, rcpt) if rcpt.address == "no@example.org" then return reject(550, "5.7.1", "no") end end)`
	for _, d := range knowingFronts {
		t.Run(d.String(), func(t *testing.T) {
			mta, p := d.start(t, postfix.Options{}, setup{files: map[string]string{"scripts/10-no.lua": rule}})
			const rounds = 20
			for i := range rounds {
				for rcpt, want := range map[string]string{
					"b@example.org":      "250 2.0.0",
					"no@example.org":     "550 5.7.1",
					"victim@ext.example": "554 5.7.1",
				} {
					c := client.Dial(t, p.Addr, stranger).Greet("client.example.com")
					if r := c.Send("a@example.com", rcpt, letter(fmt.Sprint("m", i))); !strings.HasPrefix(r, want) {
						t.Fatalf("%s: %q", rcpt, r)
					}
					c.Must("221", "QUIT")
					c.Close()
				}
			}
			mta.WaitLog(fmt.Sprintf(`(?s)(?:disconnect from unknown\[192\.0\.2\.1\].*){%d}`, 3*rounds))
			// On a busy machine Postfix may take longer to answer a RSET than moongate waits before QUIT; that
			// happens to one or two, and a fault to each client of a kind.
			if n := strings.Count(mta.Log(), "lost connection"); n >= rounds/2 {
				t.Errorf("Postfix lost %d of %d clients", n, 3*rounds)
			}
		})
	}
}
