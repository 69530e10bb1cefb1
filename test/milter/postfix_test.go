// Package milter_test asks the milter server what a real Postfix asks it.
package milter_test

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	"go.uber.org/zap/zaptest/observer"

	"github.com/moongate/moongate/milter"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/policytest"
	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/postfix"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A policyServer is a Server whose rules can be changed between two sessions.
type policyServer struct {
	mu    sync.Mutex
	rules *policy.Rules
	addr  string
	logs  *observer.ObservedLogs
}

func (p *policyServer) use(rules ...*policy.Rule) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.rules = policy.NewRules("test", rules...)
}

// serve runs a server until the test ends, with changes to its Env.
func serve(t testing.TB, changes ...func(*policy.Env)) *policyServer {
	t.Helper()
	p := &policyServer{rules: policy.NewRules("test")}
	env, logs := policytest.Env(policy.Milter)
	p.logs = logs
	for _, change := range changes {
		change(env)
	}
	env.Engine = policy.EngineFunc(func(*policy.Facts) *policy.Rules { p.mu.Lock(); defer p.mu.Unlock(); return p.rules })
	srv := &milter.Server{Env: env, Name: "milter"}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.addr = l.Addr().String()
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		srv.Shutdown(ctx)
		<-done
		if n := logs.FilterMessage("panic").Len(); n > 0 {
			t.Errorf("%d panics", n)
		}
	})
	return p
}

// data sends a message after the 354.
func data(c *client.Client, msg string) string {
	if got := c.Say("DATA"); !strings.HasPrefix(got, "354") {
		return got
	}
	return c.Say(msg + ".")
}

const mail = "From: a@example.net\r\nTo: b@example.org\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@example.net>\r\n" +
	"X-A: one\r\nSubject:  two blanks\r\n\tand a fold\r\nX-A: two\r\nX-A: three\r\n\r\nHello.\r\n"

// One session with a refused recipient, a good one and the end, a second
// message, RSET, EHLO again: the rules see client, HELO, sender and arguments
// at every stage.
func TestSessionFromPostfix(t *testing.T) {
	p := serve(t)
	var mu sync.Mutex
	var seen []string
	var rules []*policy.Rule
	for _, h := range []policy.Hook{policy.Connect, policy.Helo, policy.Mail, policy.Rcpt, policy.Data, policy.Headers, policy.Message, policy.Unknown} {
		rules = append(rules, policytest.Rule(h, func(s *policy.Session, ev *policy.Event) (policy.Verdict, error) {
			line := fmt.Sprintf("%s %s %s", ev.Hook, s.Remote.Addr(), s.Helo)
			if tx := s.Tx; tx != nil {
				line += " " + tx.In.From.Raw
				for _, p := range tx.In.Params {
					line += " " + p.Raw
				}
				if ev.Rcpt != nil {
					line += " " + ev.Rcpt.In.Raw
				}
				if tx.Message != nil {
					if f, ok := tx.Message.Header.Get("X-N", 1); ok {
						line += " " + f.Value()
					}
				}
			} else if ev.Line != nil {
				line += " " + string(ev.Line)
			}
			mu.Lock()
			seen = append(seen, line)
			mu.Unlock()
			if ev.Rcpt != nil && ev.Rcpt.In.Local == "bad" {
				v := policytest.Reject("100% unknown")
				v.Reply.Text = append(v.Reply.Text, "second line")
				return v, nil
			}
			return policy.Verdict{}, nil
		}))
	}
	mta := postfix.Start(t, postfix.Options{Milters: []string{"inet:" + p.addr}})
	p.use(rules...) // not for the connection by which Start sees that Postfix is up
	c := client.Dial(t, mta.Addr, "").Greet("one.example")
	c.Must("250", "MAIL FROM:<a@example.net> SIZE=300 BODY=8BITMIME")
	c.Must("550-5.7.1 100% unknown\n550 5.7.1 second line", "RCPT TO:<bad@example.org>")
	c.Must("250", `RCPT TO:<"a b"@example.org> NOTIFY=NEVER`)
	if r := data(c, "X-N: 1\r\n"+mail); !strings.HasPrefix(r, "250") {
		t.Errorf("first message: %q", r)
	}
	c.Must("250", "MAIL FROM:<>")
	c.Must("250", "RSET")
	c.Must("250", "EHLO two.example")
	c.Must("250", "MAIL FROM:<b@example.net>")
	c.Must("250", "RCPT TO:<b@example.org>")
	if r := data(c, "X-N: 2\r\n"+mail); !strings.HasPrefix(r, "250") {
		t.Errorf("second message: %q", r)
	}
	c.Must("500", "WIZ ard")
	c.Must("221", "QUIT")
	mta.Messages(2)
	first := " 127.0.0.1 one.example <a@example.net> SIZE=300 BODY=8BITMIME"
	second := " 127.0.0.1 two.example <b@example.net>"
	want := []string{
		"connect 127.0.0.1 ", "helo 127.0.0.1 one.example", "mail" + first, "rcpt" + first + " <bad@example.org>", `rcpt` + first + ` <"a b"@example.org>`,
		"data" + first, "headers" + first + " 1", "message" + first + " 1", "mail 127.0.0.1 one.example <>",
		"helo 127.0.0.1 two.example", "mail" + second, "rcpt" + second + " <b@example.org>", "data" + second, "headers" + second + " 2", "message" + second + " 2",
		"unknown 127.0.0.1 two.example WIZ", // Postfix tells the first word
	}
	mu.Lock()
	defer mu.Unlock()
	if d := cmp.Diff(want, seen); d != "" {
		t.Errorf("the rules saw (-want +got):\n%s", d)
	}
}

// Every edit through Postfix gives the bytes and the envelope that the policy
// wanted: those that the SMTP door would have sent on.
func TestEditsThroughPostfix(t *testing.T) {
	header := func(k policy.EditKind, i int, name, value string) policy.Edit {
		return policy.Edit{Kind: k, Index: i, Name: name, Value: value}
	}
	for _, tc := range []struct {
		name  string
		edits func(tx *policy.Transaction) []policy.Edit
	}{
		{"nothing", func(*policy.Transaction) []policy.Edit { return nil }},
		{"headers", func(*policy.Transaction) []policy.Edit {
			return []policy.Edit{
				header(policy.InsertHeader, 0, "X-Top", " 1"), header(policy.InsertHeader, 0, "X-Higher", "  two blanks"),
				header(policy.InsertHeader, 5, "X-Middle", " a\r\n\tfold"), header(policy.AddHeader, 0, "X-End", "noblank"),
				header(policy.ChangeHeader, 2, "X-A", " changed"), header(policy.RemoveHeader, 1, "X-A", ""), header(policy.RemoveHeader, 2, "X-A", ""),
				header(policy.ChangeHeader, 1, "Subject", " new"), header(policy.AddHeader, 0, "X-A", " four"),
			}
		}},
		{"body", func(*policy.Transaction) []policy.Edit {
			return []policy.Edit{{Kind: policy.ReplaceBody, Body: bytes.Repeat([]byte("0123456789012345678901234567890123456789\r\n"), 5000)}, header(policy.AddHeader, 0, "X-End", " 1")}
		}},
		{"empty body", func(*policy.Transaction) []policy.Edit { return []policy.Edit{{Kind: policy.ReplaceBody}} }},
		{"envelope", func(tx *policy.Transaction) []policy.Edit {
			return []policy.Edit{
				{Kind: policy.SetSender, Path: policytest.Path(t, "new@example.net")},
				{Kind: policy.RemoveRcpt, Rcpt: tx.Rcpts[0]},
				{Kind: policy.ReplaceRcpt, Rcpt: tx.Rcpts[1], Path: policytest.Path(t, "z@example.org")},
				{Kind: policy.AddRcpt, Path: policytest.Path(t, `"a b"@example.org`), Params: []policy.Param{{Key: "NOTIFY", Value: "NEVER", Raw: "NOTIFY=NEVER"}}},
			}
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			p := serve(t)
			want := make(chan string, 1)
			p.use(policytest.Rule(policy.Message, func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
				for _, e := range tc.edits(s.Tx) {
					if err := s.Tx.Do(e); err != nil {
						return policy.Verdict{}, err
					}
				}
				b := append(s.Tx.Header().Append(nil), "\r\n"...)
				if body, ok := s.Tx.Body(); ok {
					b = append(b, body...)
				} else {
					b = append(b, "Hello.\r\n"...)
				}
				var to []string
				for _, r := range s.Tx.Recipients() {
					to = append(to, r.Out.Raw)
				}
				slices.Sort(to) // as Postfix delivers
				out := s.Tx.Out.From.Raw + " " + strings.Join(to, " ")
				want <- out + "\n" + string(b)
				return policy.Verdict{}, nil
			}))
			mta := postfix.Start(t, postfix.Options{Milters: []string{"inet:" + p.addr}})
			c := client.Dial(t, mta.Addr, "").Greet("one.example")
			c.Must("250", "MAIL FROM:<a@example.net>")
			c.Must("250", "RCPT TO:<b@example.org>")
			c.Must("250", "RCPT TO:<c@example.org>")
			if r := data(c, mail); !strings.HasPrefix(r, "250") {
				t.Fatalf("message: %q", r)
			}
			c.Must("221", "QUIT")
			msgs := mta.Messages(1)
			from, _, _ := strings.Cut(msgs[0].From, " ")
			got := from
			for _, r := range msgs[0].Rcpts {
				r, _, _ = strings.Cut(r, "> ")
				got += " " + strings.TrimSuffix(r, ">") + ">"
			}
			got += "\n" + string(msgs[0].Body())
			if d := cmp.Diff(<-want, got); d != "" {
				t.Errorf("delivered (-policy +postfix):\n%.3000s", d)
			}
		})
	}
}
