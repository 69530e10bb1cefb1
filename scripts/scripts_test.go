package scripts_test

import (
	"context"
	"net/netip"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/message"
	"github.com/moongate/moongate/policy/policytest"
	"github.com/moongate/moongate/policy/script"
	"github.com/moongate/moongate/policy/state"
	"github.com/moongate/moongate/scripts"
)

// client is one client of a shipped policy.
type client struct {
	*policy.Session
	t     *testing.T
	world *policytest.World
}

// connect loads a policy for both faces and connects a client.
func connect(t *testing.T, name string, facts policy.Facts) *client {
	t.Helper()
	dir, err := scripts.Policy(name)
	if err != nil {
		t.Fatal(err)
	}
	p, problems := script.Load(script.SnapshotFS(dir, name), script.Options{Faces: []*policy.Face{policy.SMTP, policy.Milter}})
	for _, pr := range problems {
		t.Error(pr.Render())
	}
	if p == nil {
		t.FailNow()
	}
	w := &policytest.World{Clock: time.Unix(1_700_000_000, 0), Store: state.New(0)}
	env := &policy.Env{Face: policy.SMTP, World: w, Log: zap.NewNop(), HookTime: 10 * time.Second,
		Engine: policy.EngineFunc(func(*policy.Facts) *policy.Rules { return p.Rules })}
	if !facts.Remote.IsValid() {
		facts.Remote = netip.MustParseAddrPort("192.0.2.1:25000")
	}
	return &client{env.NewSession(context.Background(), facts), t, w}
}

func (c *client) expect(v policy.Verdict, want string) {
	c.t.Helper()
	got := v.Action.String()
	if v.Refuses() {
		got = v.Reply.String()
	}
	if got != want {
		c.t.Errorf("got  %s\nwant %s", got, want)
	}
}

func (c *client) helo(name string) policy.Verdict {
	c.Helo = name
	return c.Ask(&policy.Event{Hook: policy.Helo})
}

func (c *client) mail(from string) policy.Verdict {
	c.t.Helper()
	c.Begin(policytest.Path(c.t, from), nil)
	return c.Ask(&policy.Event{Hook: policy.Mail})
}

func (c *client) rcpt(to string) policy.Verdict {
	c.t.Helper()
	r := &policy.Recipient{In: policytest.Path(c.t, to)}
	r.Out = r.In
	v := c.Ask(&policy.Event{Hook: policy.Rcpt, Rcpt: r})
	reply := policy.Say(250, policy.Status{2, 1, 5}, "Ok")
	if v.Refuses() {
		reply = v.Reply
	}
	c.Tell(&policy.Event{Hook: policy.Answered, Verb: "RCPT", Rcpt: r, Reply: reply, By: policy.ByPolicy})
	return v
}

// message asks at headers and message.
func (c *client) message(text string) policy.Verdict {
	c.t.Helper()
	text = strings.ReplaceAll(text, "\n", "\r\n")
	h, n := message.ParseHeader([]byte(text))
	m := &message.Message{Header: h, Blank: true}
	c.Tx.SetMessage(m)
	if v := c.Ask(&policy.Event{Hook: policy.Headers}); v.Decided() {
		return v
	}
	m.Body = (&message.Pool{MaxMemory: 1 << 20}).New()
	m.Body.Write([]byte(strings.TrimPrefix(text[n:], "\r\n")))
	c.Tx.SetMessage(m)
	return c.Ask(&policy.Event{Hook: policy.Message})
}

func (c *client) done(a policy.Action) {
	c.Tell(&policy.Event{Hook: policy.Done, Outcome: &policy.Outcome{Action: a, By: policy.ByUpstream}})
}

func TestGate(t *testing.T) {
	c := connect(t, "gate", policy.Facts{})
	c.expect(c.helo("mail.example"), "continue")
	c.expect(c.mail("friend@example.com"), "continue")
	c.expect(c.rcpt("bob@example.org"), "continue")
	c.expect(c.rcpt("All-Staff@Example.ORG"), "550 5.2.1 All-Staff@example.org takes no mail from outside")
	c.done(policy.Accept)
	for _, from := range []string{"SPAMMER@Example.net", `"spammer"@example.net`, "anybody@bulk.example"} {
		c.mail(from)
		if v := c.rcpt("bob@example.org"); v.Reply.Code != 550 {
			t.Errorf("%s: %v", from, v)
		}
		c.expect(c.rcpt("PostMaster@example.org"), "accept")
		c.expect(c.rcpt("Abuse@example.org"), "accept")
		c.done(policy.Continue)
	}
}

func TestGateBareAddress(t *testing.T) {
	c := connect(t, "gate", policy.Facts{})
	c.expect(c.helo("192.0.2.1"), "continue")
	c.expect(c.mail("friend@example.com"), "continue")
	c.expect(c.rcpt("bob@example.org"), "550 5.7.1 Greet with a host name, not with the address 192.0.2.1")
	c.expect(c.rcpt("postmaster"), "accept")
	c.expect(c.helo("[192.0.2.1]"), "continue")
	c.expect(c.rcpt("bob@example.org"), "continue")
}

func TestGateLimits(t *testing.T) {
	c := connect(t, "gate", policy.Facts{})
	c.mail("news@example.com")
	for i := range 60 {
		if v := c.rcpt("bob@example.org"); v.Decided() {
			t.Fatalf("recipient %d: %v", i+1, v)
		}
	}
	c.expect(c.rcpt("bob@example.org"), "450 4.7.1 Too many recipients, try again in 30 seconds")
	c.done(policy.Reject) // the upstream refused: nothing was used
	c.mail("News@Example.com")
	c.expect(c.rcpt("bob@example.org"), "continue")
	c.done(policy.Accept)

	c = connect(t, "gate", policy.Facts{User: "bob"})
	c.mail("bob@example.org")
	for range 100 {
		c.expect(c.rcpt("a@example.com"), "accept")
	}
	c.expect(c.rcpt("a@example.com"), "452 4.7.1 You are sending too fast, try again in 6 seconds")
	c.done(policy.Accept)
	c.world.Clock = c.world.Clock.Add(6 * time.Second)
	c.mail("bob@example.org")
	c.expect(c.rcpt("a@example.com"), "accept")
}

// Bounces share no budget: the null sender is everyone's.
func TestGateBounces(t *testing.T) {
	c := connect(t, "gate", policy.Facts{})
	c.mail("")
	for range 60 {
		c.rcpt("bob@example.org")
	}
	if v := c.rcpt("bob@example.org"); v.Reply.Code != 450 {
		t.Errorf("%v", v)
	}
	c.done(policy.Accept)
	other := c.Env.NewSession(context.Background(), policy.Facts{Remote: netip.MustParseAddrPort("198.51.100.9:1")})
	d := &client{other, t, c.world}
	d.mail("")
	d.expect(d.rcpt("bob@example.org"), "continue")
}

const outgoing = `Received: from desk ([10.1.2.3]) by mail.example.org
Received: from out ([192.0.2.9]) by mail.example.org
From: Bob <Bob@Example.org>
Subject: hello
X-Mailer: M
User-Agent: U
X-Originating-IP: [10.1.2.3]

Body
`

func (c *client) header() string { return string(c.Tx.Header().Append(nil)) }

func TestCompliance(t *testing.T) {
	c := connect(t, "compliance", policy.Facts{User: "bob@example.org"})
	c.mail("bob@example.org")
	c.expect(c.message(outgoing), "continue")
	if want := "Received: from out ([192.0.2.9]) by mail.example.org\r\nFrom: Bob <Bob@Example.org>\r\nSubject: hello\r\nX-Confidentiality: Internal rules apply: https://example.org/mail\r\n"; c.header() != want {
		t.Errorf("header\n%s", c.header())
	}
	if c.Tx.EnvelopeEdited() {
		t.Error("the envelope was edited")
	}

	c.mail("bounces@example.net")
	c.expect(c.message(outgoing), "continue")
	if got := c.Tx.Out.From.Address; got != "Bob@example.org" {
		t.Errorf("sender %s", got)
	}

	c.mail("") // a bounce keeps its null sender
	c.expect(c.message(outgoing), "continue")
	if !c.Tx.Out.From.IsNull() {
		t.Errorf("sender %s", c.Tx.Out.From.Address)
	}

	for from, want := range map[string]string{
		"sales@example.org":                   "continue",
		"boss@example.org":                    "550 5.7.1 bob@example.org may not send as boss@example.org",
		"bob@example.org, al@example.org":     "550 5.7.1 A message needs exactly one From address",
		"bob@example.org\nFrom: al@x.example": "550 5.7.1 A message needs exactly one From address",
	} {
		c.mail("bob@example.org")
		c.expect(c.message("From: "+from+"\n\nx\n"), want)
	}

	in := connect(t, "compliance", policy.Facts{}) // not logged in: none of its business
	in.mail("x@y.example")
	in.expect(in.message(outgoing), "continue")
	if len(in.Tx.Edits) != 0 {
		t.Errorf("edits: %v", in.Tx.Edits)
	}
}

const incoming = `From: a@example.com
Date: Mon, 1 Jan 2024 00:00:00 +0000
Message-ID: <1@example.com>
X-Spam-Flag: NO
Subject: =?utf-8?q?Gr=C3=BC=C3=9Fe?=

Body
`

func TestSpam(t *testing.T) {
	zen := map[string][]string{"dnsbl zen.spamhaus.org 1.2.0.192.zen.spamhaus.org": {"127.0.0.2"}}
	tests := []struct {
		name    string
		facts   policy.Facts
		answers map[string][]string
		text    string
		want    string
		header  []string // lines that are there
		gone    []string
	}{
		{"clean", policy.Facts{PTR: "mail.example.com"}, nil, incoming, "continue", []string{"X-Spam-Score: 0.0"}, []string{"X-Spam-Flag", "[SPAM]"}},
		{"listed", policy.Facts{PTR: "mail.example.com"}, zen, incoming, "continue",
			[]string{"X-Spam-Score: 4.0", "X-Spam-Flag: YES", "X-Spam-Signs: dns_lists", "Subject: [SPAM] =?utf-8?q?Gr=C3=BC=C3=9Fe?="}, []string{"X-Spam-Flag: NO"}},
		{"listed here and trusted there", policy.Facts{PTR: "mail.example.com"},
			map[string][]string{"dnsbl zen.spamhaus.org 1.2.0.192.zen.spamhaus.org": {"127.0.0.2"}, "dnsbl list.dnswl.org 1.2.0.192.list.dnswl.org": {"127.0.3.2"}},
			incoming, "continue", []string{"X-Spam-Score: 1.0"}, []string{"[SPAM]"}},
		{"everything", policy.Facts{}, zen, "Subject: WIN THE LOTTERY NOW\n\nx\n", "550 5.7.1 This message looks like spam (S.1)", nil, nil},
		{"already marked", policy.Facts{PTR: "mail.example.com"}, zen, "From: a@b.example\nDate: x\nMessage-ID: y\nSubject: [SPAM] x\n\nx\n", "continue", []string{"Subject: [SPAM] x\r\n"}, []string{"[SPAM] [SPAM]"}},
		{"trusted", policy.Facts{Remote: netip.MustParseAddrPort("127.0.0.1:1")}, zen, "Subject: VIAGRA VIAGRA\n\nx\n", "continue", nil, []string{"X-Spam"}},
		{"logged in", policy.Facts{User: "bob"}, zen, "X-Spam-Flag: YES\nSubject: VIAGRA VIAGRA\n\nx\n", "continue", nil, []string{"X-Spam"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.facts.ID = "S"
			c := connect(t, "spam", tt.facts)
			c.world.Answers = tt.answers
			c.mail("a@example.com")
			c.expect(c.message(tt.text), tt.want)
			for _, line := range tt.header {
				if !strings.Contains(c.header(), line) {
					t.Errorf("no %q in\n%s", line, c.header())
				}
			}
			for _, word := range tt.gone {
				if strings.Contains(c.header(), word) {
					t.Errorf("%q in\n%s", word, c.header())
				}
			}
		})
	}
}

// Those that are for every face load without a warning where AUTH is not there.
func TestShippedAtTheDoor(t *testing.T) {
	for _, name := range []string{"gate", "spam"} {
		dir, err := scripts.Policy(name)
		if err != nil {
			t.Fatal(err)
		}
		_, problems := script.Load(script.SnapshotFS(dir, name), script.Options{Unknown: map[string]string{"conn.user": "no AUTH", "conn.tls": "no TLS"}})
		for _, p := range problems {
			if !p.Note {
				t.Error(p.Render())
			}
		}
	}
}

func TestNoSuchPolicy(t *testing.T) {
	if _, err := scripts.Policy("nothing"); err == nil {
		t.Error("a policy that is not there")
	}
}
