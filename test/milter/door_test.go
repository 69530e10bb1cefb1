package milter_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/policytest"
	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/moongate"
	"github.com/moongate/moongate/test/upstream"
)

// doorWith starts the program with filters, each a [[filter]] without its head.
func doorWith(t *testing.T, lua string, filters ...string) (*moongate.Process, *upstream.Server) {
	t.Helper()
	up := upstream.Start(t, "")
	config := moongate.Default
	for _, f := range filters {
		config += "\n[[filter]]\n" + f + "\n"
	}
	o := moongate.Options{Upstream: up.Addr, Config: config}
	if lua != "" {
		o.Files = map[string]string{"scripts/10-policy.lua": lua}
	}
	return moongate.Start(t, o), up
}

// A second MAIL, and a malformed one, end nothing: the filter is asked about the
// message all the same.
func TestNestedMailDoesNotSkipFilters(t *testing.T) {
	f := serve(t)
	f.use(policytest.Always(policy.Message, policytest.Reject("a virus")))
	gate, up := doorWith(t, "", fmt.Sprintf("name = \"av\"\naddress = %q", f.addr))
	for _, again := range []string{"MAIL FROM:<b@example.net>", "MAIL FROM:<b\x01@example.net>", "MAIL FROM:<b@example.net", "MAIL"} {
		c := client.Dial(t, gate.Addr, "")
		c.Reply()
		c.Must("250", "EHLO client.example")
		c.Must("250", "MAIL FROM:<a@example.net>")
		c.Must("50", again)
		c.Must("250", "RCPT TO:<b@example.org>")
		c.Must("50", again)
		if r := data(c, mail); !strings.HasPrefix(r, "550 5.7.1 a virus") {
			t.Errorf("%q, then the message: %q", again, r)
		}
		c.Must("221", "QUIT")
	}
	if n := len(up.Messages()); n != 0 {
		t.Errorf("%d messages went on", n)
	}
}

// What the configuration says of a filter, and what a policy says and sees of it,
// through the program.
func TestFiltersConfigured(t *testing.T) {
	spam := serve(t)
	spam.use(policytest.Rule(policy.Message, func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
		if f, ok := s.Tx.Header().Get("Subject", 1); ok && f.Value() == "spam" {
			return policytest.Reject("spam"), nil
		}
		return policy.Verdict{}, s.Tx.Do(policy.Edit{Kind: policy.AddHeader, Name: "X-Spam-Checked", Value: " yes"})
	}))
	strict := serve(t)
	strict.use(policytest.Always(policy.Message, policytest.Reject("everything")))
	gate, up := doorWith(t, `
on.mail(function(msg)
  if msg.from_domain == "partner.example" then msg:skip_filter("spam") end
end)
on.message(function(msg)
  local spam, away = msg.filters.spam, msg.filters.away
  if not away then return end -- who refuses is the last that is asked
  msg:add_header("X-Seen", (spam and spam.verdict .. " " .. tostring(spam.code) or "not asked") .. ", " .. away.verdict .. " " .. tostring(away.error ~= nil))
end)`,
		fmt.Sprintf("name = \"spam\"\naddress = %q", spam.addr),
		fmt.Sprintf("name = \"watched\"\naddress = %q\nmode = \"shadow\"", strict.addr),
		"name = \"away\"\naddress = \"unix:{dir}/nobody\"\non_error = \"accept\"")
	c := client.Dial(t, gate.Addr, "")
	c.Reply()
	c.Must("250", "EHLO client.example")
	for _, tc := range []struct{ from, subject, reply, seen string }{
		{"a@example.net", "ham", "250", "accept nil, continue true"},
		{"a@example.net", "spam", "550 5.7.1 spam", ""},
		{"a@partner.example", "spam", "250", "not asked, continue true"},
	} {
		c.Must("250", "MAIL FROM:<"+tc.from+">")
		c.Must("250", "RCPT TO:<b@example.org>")
		if r := data(c, client.Head(tc.subject)+"\r\nx\r\n"); !strings.HasPrefix(r, tc.reply) {
			t.Errorf("%s from %s: %q", tc.subject, tc.from, r)
		}
		if tc.seen == "" {
			continue
		}
		all := up.Messages()
		got := string(all[len(all)-1].Body())
		if !strings.Contains(got, "X-Seen: "+tc.seen+"\r\n") || !strings.Contains(got, "\r\nX-Moongate-Unchecked: away\r\n") ||
			strings.Contains(got, "X-Spam-Checked") != (tc.from == "a@example.net") {
			t.Errorf("%s from %s went on as\n%s", tc.subject, tc.from, got)
		}
	}
	c.Must("221", "QUIT")
	line := gate.WaitLog("shadow", func(l moongate.Line) bool { return l["filter"] == "watched" })
	if line["verdict"] != "reject" {
		t.Errorf("the shadow: %s", line)
	}
}

// A rule sees what a filter in shadow mode would have done in a field of its own.
// The verdict stays "continue", so that one that was written for a filter which is
// obeyed does not begin to obey this one.
func TestShadowSeen(t *testing.T) {
	strict := serve(t)
	strict.use(
		policytest.Rule(policy.Mail, func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
			if s.Tx.In.From.Local == "nobody" {
				return policytest.Reject("no such sender"), nil
			}
			return policy.Verdict{}, nil
		}),
		policytest.Rule(policy.Message, func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
			switch f, _ := s.Tx.Header().Get("Subject", 1); f.Value() {
			case "spam":
				return policytest.Reject("spam"), nil
			case "later":
				return policytest.Tempfail("greylisted"), nil
			case "marked":
				return policy.Verdict{}, s.Tx.Do(policy.Edit{Kind: policy.AddHeader, Name: "X-Spam", Value: " Yes"})
			}
			return policy.Verdict{}, nil
		}))
	gate, up := doorWith(t, `
on.message("obeys", function(msg)
  for _, name in ipairs({ "watched", "away", "obeyed" }) do
    local f = msg.filters[name]
    if f.verdict ~= "accept" and f.verdict ~= "continue" then return reject(f.code or 550, "5.7.1", name) end
    if f.code or f.reply then return reject(550, "5.7.1", name .. " has a reply") end
    msg:add_header("X-Seen", name .. " " .. f.verdict .. " " .. tostring(f.would) .. " " .. tostring(f.error ~= nil))
  end
end)`,
		fmt.Sprintf("name = \"watched\"\naddress = %q\nmode = \"shadow\"", strict.addr),
		"name = \"away\"\naddress = \"unix:{dir}/nobody\"\non_error = \"reject\"\nmode = \"shadow\"",
		fmt.Sprintf("name = \"obeyed\"\naddress = %q", serve(t).addr))
	c := client.Dial(t, gate.Addr, "").Greet("client.example")
	for _, tc := range []struct{ from, subject, would string }{
		{"a@example.net", "ham", "accept"},
		{"a@example.net", "marked", "accept"},
		{"a@example.net", "spam", "reject"},
		{"a@example.net", "later", "tempfail"},
		{"nobody@example.net", "ham", "reject"},
	} {
		if r := c.Send(tc.from, "b@example.org", client.Head(tc.subject)+"\r\nx\r\n"); !strings.HasPrefix(r, "250") {
			t.Errorf("%s from %s: %q", tc.subject, tc.from, r)
			continue
		}
		all := up.Messages()
		got := string(all[len(all)-1].Body())
		for _, want := range []string{"watched continue " + tc.would + " false", "away continue reject true", "obeyed accept nil false"} {
			if !strings.Contains(got, "\r\nX-Seen: "+want+"\r\n") {
				t.Errorf("%s from %s: no %q in\n%s", tc.subject, tc.from, want, got)
			}
		}
		if strings.Contains(got, "X-Spam") {
			t.Errorf("%s from %s: a shadow has changed\n%s", tc.subject, tc.from, got)
		}
	}
	c.Must("221", "QUIT")
}

// A body of a filter's making goes on octet by octet: lone dots, an end that is no
// line end, nothing at all, more than one packet holds. With nobody left to send
// to, the message ends here, and the line says so.
func TestFilterBodiesAndNobody(t *testing.T) {
	f := serve(t)
	bodies := []string{".\r\n..\r\n.x\r\n\r\n.\r\n", "no end", "", "\r\n", strings.Repeat(strings.Repeat("0123456789", 6)+"\r\n.\r\n", 10_000), "8 bits \xe4\xff\x80\r\n"}
	const bare = "Subject: no body\r\n" // no empty line
	bodies = append(bodies, "X-Body: 1\r\n\r\nx\r\n")
	var body string
	f.use(policytest.Rule(policy.Message, func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
		if s.Tx.In.From.Local == "nobody" {
			return policy.Verdict{}, s.Tx.Do(policy.Edit{Kind: policy.RemoveRcpt, Rcpt: s.Tx.Rcpts[0]})
		}
		return policy.Verdict{}, s.Tx.Do(policy.Edit{Kind: policy.ReplaceBody, Body: []byte(body)})
	}))
	gate, up := doorWith(t, "", fmt.Sprintf("name = \"f\"\naddress = %q", f.addr))
	c := client.Dial(t, gate.Addr, "")
	c.Greet("client.example")
	for _, body = range bodies {
		c.Must("250", "MAIL FROM:<a@example.net> BODY=8BITMIME")
		c.Must("250", "RCPT TO:<b@example.org>")
		text := mail
		if strings.HasPrefix(body, "X-Body") {
			text = bare
		}
		if r := data(c, text); !strings.HasPrefix(r, "250") {
			t.Errorf("%.20q: %q", body, r)
			continue
		}
		all := up.Messages()
		_, got, _ := strings.Cut(string(all[len(all)-1].Body()), "\r\n\r\n")
		want := body
		if want != "" && !strings.HasSuffix(want, "\r\n") {
			want += "\r\n" // as each line of SMTP
		}
		if got != want {
			t.Errorf("%.20q of %d octets goes on as %.20q of %d", body, len(body), got, len(got))
		}
	}
	c.Must("250", "MAIL FROM:<nobody@example.net>")
	c.Must("250", "RCPT TO:<b@example.org>")
	if r := data(c, mail); !strings.HasPrefix(r, "250") || len(up.Messages()) != len(bodies) {
		t.Errorf("nobody left: %q, and %d messages", r, len(up.Messages()))
	}
	c.Must("221", "QUIT")
	if line := gate.WaitLog("message", func(l moongate.Line) bool { return l["from"] == "nobody@example.net" }); line["verdict"] != "discarded" {
		t.Errorf("the line says %s", line)
	}
}
