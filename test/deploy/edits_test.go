package deploy

import (
	"slices"
	"strings"
	"testing"

	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/moongate"
	"github.com/moongate/moongate/test/postfix"
)

// TestEditedEnvelope: an edit of the envelope, at whichever stage it is made, arrives in a real Postfix;
// what was already told to it is taken back.
func TestEditedEnvelope(t *testing.T) {
	if outside(t) {
		return
	}
	// A virtual recipient is refused by Postfix, as its neighbour of another domain.
	mta, addrs := startAll(t, postfix.Options{Main: map[string]string{
		"smtpd_recipient_restrictions": "check_recipient_access inline:{ refused@example.org=REJECT, later@example.org=DEFER }",
	}})
	for _, d := range shippedFronts {
		t.Run(d.String(), func(t *testing.T) {
			p := setup{files: map[string]string{"scripts/10-edit.lua": editScript}}.start(t, d.identity, addrs[d.listener])
			c := client.Dial(t, p.Addr, stranger).Greet("client.example.com")
			for _, tc := range []struct {
				name  string // the sender's local part: what the script does
				rcpts string // blank-separated
				want  string // sender and recipients, or the reply to the dot
			}{
				{"plain", "b c", "plain@example.com b c"},
				{"from-mail", "b", "new@example.net b"},
				{"from-rcpt", "b", "new@example.net b"},
				{"from-headers", "b c", "new@example.net b c"},
				{"from-message", "b c", "new@example.net b c"},
				{"replace-rcpt", "b c", "replace-rcpt@example.com c z"},
				{"replace-headers", "b c", "replace-headers@example.com c z"},
				{"replace-message", "b c", "replace-message@example.com c z"},
				{"remove-headers", "b c", "remove-headers@example.com c"},
				{"remove-message", "b c", "remove-message@example.com c"},
				{"add-mail", "b", "add-mail@example.com b z"},
				{"add-rcpt", "b", "add-rcpt@example.com b z"},
				{"add-headers", "b", "add-headers@example.com b z"},
				{"add-message", "b c", "add-message@example.com b c z"},
				{"all-headers", "b c d", "new@example.net c y z"},
				{"all-message", "b c d", "new@example.net c y z"},
				{"refused-headers", "b", "5"},
				{"refused-message", "b", "5"},
				{"later-headers", "b", "4"},
				{"optional-headers", "b", "optional-headers@example.com b"},
			} {
				before := len(mta.Inside.Messages())
				c.Must("250", "MAIL FROM:<"+tc.name+"@example.com>")
				for _, r := range strings.Fields(tc.rcpts) {
					c.Must("250", "RCPT TO:<"+r+"@example.org>")
				}
				c.Must("354", "DATA")
				r := c.Say(letter(tc.name) + ".")
				if len(tc.want) == 1 {
					if !strings.HasPrefix(r, tc.want) || len(mta.Messages(before)) != before {
						t.Errorf("%s: %q, %d delivered", tc.name, r, len(mta.Inside.Messages())-before)
					}
					l := p.WaitLog("message", func(l moongate.Line) bool { return l["msgid"] == "<"+tc.name+"@example.com>" })
					if cause, _ := l["cause"].(string); !strings.HasPrefix(cause, "replay_refused") {
						t.Errorf("%s: the log says %v", tc.name, l)
					}
					continue
				}
				if !strings.HasPrefix(r, "250") {
					t.Errorf("%s: %q", tc.name, r)
					continue
				}
				// Postfix delivers in as many transactions as it likes.
				var rcpts []string
				from := ""
				for _, m := range mta.Messages(before + 1)[before:] {
					from, _, _ = strings.Cut(strings.TrimPrefix(m.From, "<"), ">")
					for _, r := range m.Rcpts {
						local, _, _ := strings.Cut(strings.TrimPrefix(r, "<"), "@example.org>")
						rcpts = append(rcpts, local)
						if local == "z" && strings.Contains(tc.name, "add") && !strings.Contains(r, "NOTIFY=NEVER") {
							t.Errorf("%s: an added recipient may bounce: %s", tc.name, r)
						}
					}
				}
				slices.Sort(rcpts)
				if got := from + " " + strings.Join(rcpts, " "); got != tc.want {
					t.Errorf("%s: %q, want %q", tc.name, got, tc.want)
				}
			}
			c.Must("221", "QUIT")
		})
	}
}

// editScript does what the local part of the sender says, at the stage that it says.
const editScript = `
local function what(msg, stage)
  local words = {}
  for w in msg.from:gmatch("[^@-]+") do words[#words + 1] = w end
  return words[2] == stage and words[1] or nil
end
local function envelope(stage, msg, rcpt)
  local w = what(msg, stage)
  if w == "from" or w == "all" then msg:set_from("new@example.net") end
  if w == "replace" and (not rcpt or rcpt.user == "b") then msg:replace_rcpt(rcpt or "b@example.org", "z@example.org") end
  if w == "remove" then msg:remove_rcpt("b@example.org") end
  if w == "add" then msg:add_rcpt("z@example.org") end
  if w == "refused" then msg:add_rcpt("refused@example.org") end
  if w == "later" then
    msg:add_rcpt("refused@example.org")
    msg:add_rcpt("later@example.org")
  end
  if w == "optional" then msg:add_rcpt("refused@example.org", {optional = true}) end
  if w == "all" then
    msg:replace_rcpt("b@example.org", "z@example.org")
    msg:remove_rcpt("d@example.org")
    msg:add_rcpt("y@example.org")
  end
end
on.mail("edit", function(msg)
  if what(msg, "mail") == "from" then msg:set_from("new@example.net") end
  if what(msg, "mail") == "add" then msg:add_rcpt("z@example.org") end
end)
on.rcpt("edit", function(msg, rcpt) envelope("rcpt", msg, rcpt) end)
on.headers("edit", function(msg) envelope("headers", msg) end)
on.message("edit", function(msg) envelope("message", msg) end)
`

// TestReceivedAuto: where Postfix's own line cannot name the client, there is one of ours below it, and
// the audit line lists it as an edit; where it can, there is none.
func TestReceivedAuto(t *testing.T) {
	if outside(t) {
		return
	}
	mta, addrs := startAll(t, postfix.Options{})
	for _, d := range fronts {
		t.Run(d.String(), func(t *testing.T) {
			p := setup{}.start(t, d.identity, addrs[d.listener])
			for _, rcpts := range [][]string{{"b"}, {"b", "c"}} {
				name := "to-" + strings.Join(rcpts, "-")
				before := len(mta.Inside.Messages())
				c := client.Dial(t, p.Addr, stranger).Greet("client.example.com")
				c.Must("250", "MAIL FROM:<a@example.com>")
				for _, r := range rcpts {
					c.Must("250", "RCPT TO:<"+r+"@example.org>")
				}
				c.Must("354", "DATA")
				c.Must("250", letter(name)+".")
				c.Must("221", "QUIT")
				top, _ := split(mta.Messages(before + 1)[before].Raw)
				audit := p.WaitLog("message", func(l moongate.Line) bool { return l["msgid"] == "<"+name+"@example.com>" })
				id, _ := audit["id"].(string)
				if d.knows() {
					if strings.Count(top, "Received:") != 1 || audit["edits"] != nil || !strings.Contains(top, "(unknown [192.0.2.1])") {
						t.Errorf("%s: %q, edits %v", name, top, audit["edits"])
					}
					continue
				}
				_, ours, _ := strings.Cut(top, "\r\nReceived: ")
				want := "from client.example.com ([192.0.2.1])\r\n\tby mx.example.org (moongate) with ESMTP id " + id
				if !strings.HasPrefix(ours, want) || strings.Contains(ours, "example.org>") != (len(rcpts) == 1) {
					t.Errorf("%s: %q, want %q", name, ours, want)
				}
				if edits, _ := audit["edits"].([]any); len(edits) != 1 {
					t.Errorf("%s: edits: %v", name, audit["edits"])
				}
			}
		})
	}
}
