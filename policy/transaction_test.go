package policy_test

import (
	"testing"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/message"
	pt "github.com/moongate/moongate/policy/policytest"
)

func TestEdits(t *testing.T) {
	header, _ := message.ParseHeader([]byte("Subject: one\r\nX-A: 1\r\nX-A: 2\r\n"))
	msg := &message.Message{Header: header, Blank: true, Body: new(message.Pool).New()}
	var errs []error
	env, _ := pt.Env(policy.SMTP,
		pt.Rule(policy.Mail, func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
			errs = append(errs, s.Tx.Do(policy.Edit{Kind: policy.RemoveHeader, Name: "Subject", Index: 1})) // not here yet
			return policy.Verdict{}, s.Tx.Do(policy.Edit{Kind: policy.AddHeader, Name: "X-Early", Value: " yes"})
		}),
		pt.Rule(policy.Message, func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
			for _, e := range []policy.Edit{
				{Kind: policy.RemoveHeader, Name: "x-a", Index: 1},
				{Kind: policy.ChangeHeader, Name: "subject", Index: 1, Value: " two"},
				{Kind: policy.InsertHeader, Name: "X-Top", Value: " 1", Index: 0},
				{Kind: policy.SetSender, Path: pt.Path(t, "new@b.example")},
				{Kind: policy.AddRcpt, Path: pt.Path(t, "archive@b.example")},
				{Kind: policy.RemoveRcpt, Rcpt: s.Tx.FindRcpts("U@x.example")[0]},
				{Kind: policy.ReplaceBody, Body: []byte("gone\r\n")},
			} {
				if err := s.Tx.Do(e); err != nil {
					return policy.Verdict{}, err
				}
			}
			errs = append(errs,
				s.Tx.Do(policy.Edit{Kind: policy.RemoveHeader, Name: "X-A", Index: 2}),
				s.Tx.Do(policy.Edit{Kind: policy.AddHeader, Name: "X-Bad", Value: " a\r\nBcc: evil@x.example"}),
				s.Tx.Do(policy.Edit{Kind: policy.AddHeader, Name: "X Bad", Value: " a"}))
			return policy.Verdict{}, nil
		}))
	s := pt.Session(t, env)
	begin(t, s, "a@b.example")
	rcpt(t, s, "u@x.example", 250)
	tx := s.Tx
	tx.SetMessage(msg)
	if v := s.Ask(&policy.Event{Hook: policy.Message}); v.Decided() {
		t.Fatalf("verdict %v: %s", v.Action, v.Reason)
	}
	for i, err := range errs {
		if err == nil {
			t.Errorf("edit %d is no error", i)
		}
	}
	if got, want := string(tx.Header().Append(nil)), "X-Top: 1\r\nSubject: two\r\nX-A: 2\r\nX-Early: yes\r\n"; got != want {
		t.Errorf("header out %q, want %q", got, want)
	}
	if got := string(tx.Message.Header.Append(nil)); got != "Subject: one\r\nX-A: 1\r\nX-A: 2\r\n" {
		t.Errorf("header in was changed: %q", got)
	}
	if tx.In.From.Address != "a@b.example" || tx.Out.From.Raw != "<new@b.example>" {
		t.Errorf("sender %v, %v", tx.In.From, tx.Out.From)
	}
	if live := tx.Recipients(); len(live) != 1 || live[0].Out.Address != "archive@b.example" {
		t.Errorf("recipients %v", live)
	}
	if len(tx.Edits) != 8 {
		t.Errorf("%d edits are recorded", len(tx.Edits))
	}
	for _, e := range tx.Edits {
		if e.Rule == nil {
			t.Errorf("%s: who did it?", e)
		}
	}
	if got := tx.Edits[1].String(); got != "remove_header x-a[1] by test.lua:8" {
		t.Errorf("edit is listed as %q", got)
	}
}
