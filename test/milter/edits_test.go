package milter_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/policytest"
	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/postfix"
)

// edited is what an edit under test does, and what it changes of what is
// delivered otherwise.
type edited struct {
	edit policy.Edit
	want func(d *delivery)
}

// A delivery is a message as it came out of Postfix.
type delivery struct {
	From   string
	Rcpts  []string
	Header []string
	Body   string
}

// edits are those of each kind. Those of recipients are of the second one.
func edits(t *testing.T) map[policy.EditKind]edited {
	return map[policy.EditKind]edited{
		policy.AddHeader: {policy.Edit{Kind: policy.AddHeader, Name: "X-New", Value: " new"},
			func(d *delivery) { d.Header = append(d.Header, "X-New: new") }},
		policy.InsertHeader: {policy.Edit{Kind: policy.InsertHeader, Index: 0, Name: "X-New", Value: " new"},
			func(d *delivery) { d.Header = slices.Insert(d.Header, 0, "X-New: new") }},
		policy.ChangeHeader: {policy.Edit{Kind: policy.ChangeHeader, Index: 2, Name: "X-A", Value: " changed"},
			func(d *delivery) { d.Header[slices.Index(d.Header, "X-A: two")] = "X-A: changed" }},
		policy.RemoveHeader: {policy.Edit{Kind: policy.RemoveHeader, Index: 2, Name: "X-A"},
			func(d *delivery) { i := slices.Index(d.Header, "X-A: two"); d.Header = slices.Delete(d.Header, i, i+1) }},
		policy.SetSender: {policy.Edit{Kind: policy.SetSender, Path: policytest.Path(t, "new@example.net")},
			func(d *delivery) { d.From = "<new@example.net>" }},
		policy.AddRcpt: {policy.Edit{Kind: policy.AddRcpt, Path: policytest.Path(t, "more@example.org")},
			func(d *delivery) { d.Rcpts = append(d.Rcpts, "<more@example.org>") }},
		policy.RemoveRcpt: {policy.Edit{Kind: policy.RemoveRcpt},
			func(d *delivery) { d.Rcpts = d.Rcpts[:1] }},
		policy.ReplaceRcpt: {policy.Edit{Kind: policy.ReplaceRcpt, Path: policytest.Path(t, "other@example.org")},
			func(d *delivery) { d.Rcpts[1] = "<other@example.org>" }},
		policy.ReplaceBody: {policy.Edit{Kind: policy.ReplaceBody, Body: []byte("New body.\r\n")},
			func(d *delivery) { d.Body = "New body.\r\n" }},
	}
}

// Each edit at each hook where a face has it, through that face with a real
// Postfix: the octets and the envelope that are delivered.
func TestEditMatrix(t *testing.T) {
	all := edits(t)
	for _, start := range []func(*testing.T) *door{smtpDoor, milterDoor} {
		d := start(t)
		t.Run(d.face.Name, func(t *testing.T) {
			want := map[string]*delivery{}
			for h := range policy.Hook(policy.NumAsked) {
				for k := policy.EditKind(0); !strings.HasPrefix(k.String(), "edit("); k++ {
					if !d.face.CanEdit(h, k) {
						continue
					}
					name := h.String() + "-" + k.String()
					e, ok := all[k]
					if !ok {
						t.Errorf("nobody says what %s comes to", k)
						continue
					}
					d.use(policytest.Rule(h, func(s *policy.Session, ev *policy.Event) (policy.Verdict, error) {
						edit := e.edit
						if k == policy.RemoveRcpt || k == policy.ReplaceRcpt {
							if edit.Rcpt = ev.Rcpt; h != policy.Rcpt {
								edit.Rcpt = s.Tx.Rcpts[1]
							}
						}
						if h == policy.Rcpt && ev.Rcpt.In.Local != "second" {
							return policy.Verdict{}, nil
						}
						return policy.Verdict{}, s.Tx.Do(edit)
					}))
					want[name] = deliveryOf(postfix.Message{From: "<a@example.net>", Rcpts: []string{"<first@example.org>", "<second@example.org>"},
						Raw: []byte("X-Case: " + name + "\r\n" + mail)})
					e.want(want[name])
					slices.Sort(want[name].Rcpts)

					c := client.Dial(t, d.addr, "").Greet("one.example")
					c.Must("250", "MAIL FROM:<a@example.net>")
					c.Must("250", "RCPT TO:<first@example.org>")
					c.Must("250", "RCPT TO:<second@example.org>")
					if r := data(c, "X-Case: "+name+"\r\n"+mail); !strings.HasPrefix(r, "250") {
						t.Errorf("%s %s: %q", d.face.Name, name, r)
					}
					c.Must("221", "QUIT")
				}
			}
			got := map[string]*delivery{}
			for _, m := range d.mta.Messages(len(want)) {
				got[caseOf(m)] = deliveryOf(m)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("delivered (-policy +postfix):\n%s", diff)
			}
		})
	}
}

// deliveryOf takes a message apart.
func deliveryOf(m postfix.Message) *delivery {
	from, _, _ := strings.Cut(m.From, " ")
	d := &delivery{From: from}
	for _, r := range m.Rcpts {
		r, _, _ = strings.Cut(r, "> ")
		d.Rcpts = append(d.Rcpts, strings.TrimSuffix(r, ">")+">")
	}
	slices.Sort(d.Rcpts)
	header, body, _ := strings.Cut(string(m.Body()), "\r\n\r\n")
	d.Header, d.Body = strings.Split(header, "\r\n"), body
	return d
}

// A new body is one also where the message had no empty line: nothing of it
// becomes a field, in Postfix or before it.
func TestNewBodyStaysOutOfHeader(t *testing.T) {
	const body = "X-Body: 1\r\nBcc: x@example.org\r\n"
	for _, start := range []func(*testing.T) *door{smtpDoor, milterDoor} {
		d := start(t)
		t.Run(d.face.Name, func(t *testing.T) {
			d.use(policytest.Rule(policy.Message, func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
				return policy.Verdict{}, s.Tx.Do(policy.Edit{Kind: policy.ReplaceBody, Body: []byte(body)})
			}))
			tails := []string{"", "no field\r\n", "From x\r\nX-Hidden: 1\r\n\r\nbody\r\n", "\r\nbody\r\n"}
			for _, tail := range tails {
				c := client.Dial(t, d.addr, "").Greet("one.example")
				c.Must("250", "MAIL FROM:<a@example.net>")
				c.Must("250", "RCPT TO:<first@example.org>")
				if r := data(c, "From: a@example.net\r\nX-Case: 1\r\n"+tail); !strings.HasPrefix(r, "250") {
					t.Errorf("%q: %q", tail, r)
				}
				c.Must("221", "QUIT")
			}
			for _, m := range d.mta.Messages(len(tails)) {
				got := deliveryOf(m)
				if got.Body != body || slices.ContainsFunc(got.Header, func(f string) bool { return strings.HasPrefix(f, "X-Body") }) {
					t.Errorf("delivered %q", m.Body())
				}
			}
		})
	}
}
