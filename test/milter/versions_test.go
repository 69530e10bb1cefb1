package milter_test

import (
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/policytest"
	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/postfix"
)

// A Postfix that speaks an older version of the protocol (milter_protocol) takes
// blanks off header values, and up to 3 it has no event at DATA: the rules are
// asked the same, and the octets are the same.
func TestOldProtocolsFromPostfix(t *testing.T) {
	for _, version := range []string{"2", "3", "4"} {
		t.Run(version, func(t *testing.T) {
			p := serve(t)
			mta := postfix.Start(t, postfix.Options{Milters: []string{"inet:" + p.addr}, Main: map[string]string{"milter_protocol": version}})
			var mu sync.Mutex
			var asked []string
			want := make(chan string, 1)
			var rules []*policy.Rule
			for _, h := range []policy.Hook{policy.Connect, policy.Helo, policy.Mail, policy.Rcpt, policy.Data, policy.Headers, policy.Message} {
				rules = append(rules, policytest.Rule(h, func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
					mu.Lock()
					asked = append(asked, h.String())
					mu.Unlock()
					switch {
					case h == policy.Data && s.Tx.In.From.Local == "data":
						return policytest.Reject("refused at data"), nil
					case h == policy.Message:
						for _, e := range []policy.Edit{
							{Kind: policy.InsertHeader, Name: "X-Top", Value: "  two blanks"},
							{Kind: policy.ChangeHeader, Index: 2, Name: "X-A", Value: " a\r\n\tfold"},
							{Kind: policy.RemoveHeader, Index: 1, Name: "X-A"},
							{Kind: policy.AddHeader, Name: "X-End", Value: " end"},
							{Kind: policy.AddRcpt, Path: policytest.Path(t, "c@example.org")},
						} {
							if err := s.Tx.Do(e); err != nil {
								return policy.Verdict{}, err
							}
						}
						want <- string(s.Tx.Header().Append(nil)) + "\r\nHello.\r\n"
					}
					return policy.Verdict{}, nil
				}))
			}
			p.use(rules...)
			c := client.Dial(t, mta.Addr, "").Greet("one.example")
			c.Must("250", "MAIL FROM:<a@example.net>")
			c.Must("250", "RCPT TO:<b@example.org>")
			if r := data(c, mail); !strings.HasPrefix(r, "250") {
				t.Fatalf("message: %q", r)
			}
			c.Must("250", "MAIL FROM:<data@example.net>")
			c.Must("250", "RCPT TO:<b@example.org>")
			if r := data(c, mail); !strings.HasPrefix(r, "550 5.7.1 refused at data") {
				t.Errorf("refused at data: %q", r)
			}
			c.Must("221", "QUIT")
			m := mta.Messages(1)[0]
			if d := cmp.Diff(<-want, string(m.Body())); d != "" {
				t.Errorf("delivered (-policy +postfix):\n%s", d)
			}
			if len(m.Rcpts) != 2 {
				t.Errorf("delivered to %s", m.Rcpts)
			}
			mu.Lock()
			defer mu.Unlock()
			once := []string{"connect", "helo", "mail", "rcpt", "data", "headers", "message"}
			if d := cmp.Diff(slices.Concat(once, once[2:5]), asked); d != "" {
				t.Errorf("asked (-want +got):\n%s", d)
			}
		})
	}
}
