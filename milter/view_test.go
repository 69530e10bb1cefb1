package milter

import (
	"math/rand/v2"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/policytest"
)

// asFilter serves rules as a filter, and returns its address.
func asFilter(t *testing.T, rules ...*policy.Rule) string {
	t.Helper()
	srv, _ := serverOf(rules...)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() { srv.Close(); <-done; ended(t, srv) })
	return l.Addr().String()
}

// Our filter face asks our server face: whatever edits the policy behind it
// makes, header, envelope and body of the door come to be what it wanted.
func TestBothFaces(t *testing.T) {
	var rnd *rand.Rand
	want := make(chan string, 1)
	addr := asFilter(t, policytest.Rule(policy.Message, func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
		tx := s.Tx
		names := []string{"A", "B", "C"}
		for range rnd.IntN(8) {
			name, v := names[rnd.IntN(3)], []string{" x", "y", "  z", " f\r\n\tg"}[rnd.IntN(4)]
			kinds := []policy.EditKind{policy.AddHeader, policy.InsertHeader, policy.ChangeHeader, policy.RemoveHeader}
			tx.Do(policy.Edit{Kind: kinds[rnd.IntN(4)], Name: name, Value: v, Index: rnd.IntN(5)}) // what is not there is refused
		}
		if rnd.IntN(3) == 0 {
			tx.Do(policy.Edit{Kind: policy.ReplaceBody, Body: []byte(strings.Repeat("line\r\n", rnd.IntN(30000)))})
		}
		if rnd.IntN(3) == 0 {
			tx.Do(policy.Edit{Kind: policy.SetSender, Path: policytest.Path(t, `"new one"@example.net`)})
			tx.Do(policy.Edit{Kind: policy.RemoveRcpt, Rcpt: tx.Rcpts[0]})
			tx.Do(policy.Edit{Kind: policy.AddRcpt, Path: policytest.Path(t, "c@example.net")})
		}
		want <- outcome(tx)
		return policy.Verdict{}, nil
	}))
	d := doorOf(t, t.Context(), []policy.Filter{&Filter{Address: addr}})
	defer d.close()
	d.connect()
	d.helo("client.example")
	for seed := range uint64(500) {
		rnd = rand.New(rand.NewPCG(seed, 2))
		var header strings.Builder
		for range rnd.IntN(6) {
			header.WriteString([]string{"A", "b", "C", "c"}[rnd.IntN(4)] + ":" + []string{" 1", "2", "  3", "", " 4\r\n 5"}[rnd.IntN(5)] + "\r\n")
		}
		d.mail("a@example.net")
		d.rcpt("b@example.net")
		d.rcpt("z@example.net")
		v := d.message(header.String(), "body\r\n")
		if v.Decided() {
			t.Fatalf("seed %d: %s", seed, say(v))
		}
		if diff := cmp.Diff(<-want, outcome(d.s.Tx)); diff != "" {
			t.Fatalf("seed %d, header %q, edits %v (-policy +door):\n%.2000s", seed, header.String(), d.s.Tx.Edits, diff)
		}
		d.done(policy.Verdict{Action: policy.Accept})
	}
}

// outcome is a transaction as it goes on.
func outcome(tx *policy.Transaction) string {
	var b strings.Builder
	b.WriteString(tx.Out.From.Raw)
	for _, r := range tx.Recipients() {
		b.WriteString(" " + r.Out.Raw)
	}
	b.WriteString("\n")
	b.Write(tx.Header().Append(nil))
	if body, ok := tx.Body(); ok {
		b.Write(body)
	} else {
		tx.Message.Body.WriteTo(&b)
	}
	return b.String()
}

// A verifying filter sees the message as received, whatever rules did to the
// header before; what it changes is changed in the header as it goes on.
func TestVerifyingView(t *testing.T) {
	var seen string
	addr := asFilter(t, policytest.Rule(policy.Message, func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
		seen = string(s.Tx.Header().Append(nil))
		for _, e := range []policy.Edit{
			{Kind: policy.ChangeHeader, Name: "X-A", Index: 3, Value: " filter"}, {Kind: policy.RemoveHeader, Name: "X-A", Index: 1},
			{Kind: policy.ChangeHeader, Name: "From", Index: 1, Value: " filter"}, {Kind: policy.InsertHeader, Index: 0, Name: "X-Filter", Value: " top"},
			{Kind: policy.AddHeader, Name: "X-Filter", Value: " end"},
		} {
			if err := s.Tx.Do(e); err != nil {
				return policy.Verdict{}, err
			}
		}
		return policy.Verdict{}, nil
	}))
	early := policytest.Rule(policy.Headers, func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
		for _, e := range []policy.Edit{
			{Kind: policy.InsertHeader, Index: 0, Name: "X-A", Value: " rule"}, {Kind: policy.RemoveHeader, Name: "X-A", Index: 3},
			{Kind: policy.ChangeHeader, Name: "Subject", Index: 1, Value: " rule"}, {Kind: policy.RemoveHeader, Name: "From", Index: 1},
			{Kind: policy.AddHeader, Name: "X-End", Value: " rule"},
		} {
			if err := s.Tx.Do(e); err != nil {
				return policy.Verdict{}, err
			}
		}
		return policy.Verdict{}, nil
	})
	for _, signs := range []bool{false, true} {
		d := doorOf(t, t.Context(), []policy.Filter{&Filter{Address: addr, Sign: signs}}, early)
		d.connect()
		d.helo("client.example")
		d.mail("a@example.net")
		d.rcpt("b@example.net")
		v := d.message(aHeader, "x\r\n")
		if signs { // it sees what goes on, where there is no third X-A and no From
			if want := "X-A: rule\r\nX-A: 1\r\nSubject: rule\r\nX-A: 3\r\nX-End: rule\r\n"; seen != want {
				t.Errorf("signing: it saw\n%s", seen)
			}
			d.close()
			continue
		}
		if v.Decided() {
			t.Fatal(say(v))
		}
		if seen != aHeader {
			t.Errorf("it saw\n%s", seen)
		}
		want := "X-Filter: top\r\nX-A: rule\r\nSubject: rule\r\nX-A: filter\r\nX-End: rule\r\nX-Filter: end\r\n"
		if diff := cmp.Diff(want, d.out()); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		d.close()
	}
}

// Fields that a rule took away in a row are shown to a verifying filter, and what
// it says of them has no object; the number that it gives the next one finds it.
func TestVerifyingViewOfRow(t *testing.T) {
	var seen string
	addr := asFilter(t, policytest.Rule(policy.Message, func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
		seen = string(s.Tx.Header().Append(nil))
		for i := range 3 {
			if err := s.Tx.Do(policy.Edit{Kind: policy.ChangeHeader, Name: "X-A", Index: i + 1, Value: " filter"}); err != nil {
				return policy.Verdict{}, err
			}
		}
		return policy.Verdict{}, nil
	}))
	early := policytest.Rule(policy.Headers, func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
		return policy.Verdict{}, s.Tx.Do(policy.Edit{Kind: policy.RemoveHeader, Name: "X-A", Index: 1, Last: 2})
	})
	d := doorOf(t, t.Context(), []policy.Filter{&Filter{Address: addr}}, early)
	defer d.close()
	if v := converse(d); v.Decided() || seen != aHeader {
		t.Errorf("%s, it saw\n%s", say(v), seen)
	}
	if got, want := d.out(), "From: a@example.net\r\nSubject: S\r\nX-A: filter\r\n"; got != want {
		t.Errorf("(-want +got):\n%s", cmp.Diff(want, got))
	}
}

// The second verifying filter sees what the first made of the message as it was
// received, and nothing of what rules did; what it changes is found in the header
// as it goes on.
func TestVerifyingViewOfSecond(t *testing.T) {
	edits := func(all ...policy.Edit) policytest.Func {
		return func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
			for _, e := range all {
				if err := s.Tx.Do(e); err != nil {
					return policy.Verdict{}, err
				}
			}
			return policy.Verdict{}, nil
		}
	}
	add := func(n, v string) policy.Edit { return policy.Edit{Kind: policy.AddHeader, Name: n, Value: v} }
	insert := func(i int, n, v string) policy.Edit {
		return policy.Edit{Kind: policy.InsertHeader, Index: i, Name: n, Value: v}
	}
	change := func(n string, k int, v string) policy.Edit {
		return policy.Edit{Kind: policy.ChangeHeader, Name: n, Index: k, Value: v}
	}
	remove := func(n string, k int) policy.Edit {
		return policy.Edit{Kind: policy.RemoveHeader, Name: n, Index: k}
	}
	var seen string
	one := asFilter(t, policytest.Rule(policy.Message, edits(
		change("X-A", 1, " one"), remove("X-A", 2), add("X-One", " end"), insert(0, "X-One", " top"))))
	two := asFilter(t, policytest.Rule(policy.Message, func(s *policy.Session, ev *policy.Event) (policy.Verdict, error) {
		seen = string(s.Tx.Header().Append(nil))
		return edits(change("X-A", 2, " two"), change("X-One", 1, " two"), change("Subject", 1, " two"), insert(1, "X-Two", " below the first"))(s, ev)
	}))
	early := policytest.Rule(policy.Headers, edits(
		insert(0, "X-A", " rule"), change("Subject", 1, " rule"), remove("From", 1), add("X-End", " rule")))
	d := doorOf(t, t.Context(), []policy.Filter{&Filter{Label: "one", Address: one}, &Filter{Label: "two", Address: two}}, early)
	defer d.close()
	d.connect()
	d.helo("client.example")
	d.mail("a@example.net")
	d.rcpt("b@example.net")
	if v := d.message(aHeader, "x\r\n"); v.Decided() {
		t.Fatal(say(v), v.Reason)
	}
	// Received: From a@, X-A 1, Subject S, X-A 2, X-A 3.
	want := "X-One: top\r\nFrom: a@example.net\r\nX-A: one\r\nSubject: S\r\nX-A: 3\r\nX-One: end\r\n"
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("the second saw (-want +got):\n%s", diff)
	}
	want = "X-One: two\r\nX-Two: below the first\r\nX-A: rule\r\nX-A: one\r\nSubject: two\r\nX-A: two\r\nX-End: rule\r\nX-One: end\r\n"
	if diff := cmp.Diff(want, d.out()); diff != "" {
		t.Errorf("goes on (-want +got):\n%s", diff)
	}
}

// That one filter failed is nothing that the next one is to verify.
func TestVerifyingViewOfFailed(t *testing.T) {
	var seen string
	two := asFilter(t, policytest.Rule(policy.Message, func(s *policy.Session, ev *policy.Event) (policy.Verdict, error) {
		seen = string(s.Tx.Header().Append(nil))
		return policy.Verdict{}, nil
	}))
	d := doorOf(t, t.Context(), []policy.Filter{
		&Filter{Label: "one", Address: "unix:" + t.TempDir() + "/s", OnError: policy.Accept},
		&Filter{Label: "two", Address: two},
	})
	defer d.close()
	if v := converse(d); v.Decided() || seen != aHeader || d.out() != aHeader+"X-Moongate-Unchecked: one\r\n" {
		t.Errorf("%s, the second saw\n%s", say(v), seen)
	}
}
