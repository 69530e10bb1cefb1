package milter

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/emersion/go-milter"
	"github.com/google/go-cmp/cmp"

	"github.com/moongate/moongate/milter/wire"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/message"
	"github.com/moongate/moongate/policy/policytest"
)

// transaction is one with a header and body, in which edits may be made as at
// message.
func transaction(t testing.TB, header, body string, rcpts ...string) *policy.Transaction {
	t.Helper()
	env, _ := policytest.Env(policy.Milter)
	s := policytest.Session(t, env)
	tx := s.Begin(policytest.Path(t, "from@example.net"), nil)
	for _, r := range rcpts {
		p := policytest.Path(t, r)
		tx.Rcpts = append(tx.Rcpts, &policy.Recipient{In: p, Out: p, State: policy.RcptAccepted})
	}
	h, n := message.ParseHeader([]byte(header))
	if n != len(header) {
		t.Fatalf("header ends at %d of %d", n, len(header))
	}
	m := &message.Message{Header: h, Blank: true, Body: new(message.Pool).New()}
	m.Body.Write([]byte(body))
	tx.SetMessage(m)
	s.Ask(&policy.Event{Hook: policy.Message}) // edits are recorded at message
	return tx
}

func do(t testing.TB, tx *policy.Transaction, edits ...policy.Edit) {
	t.Helper()
	for _, e := range edits {
		if err := tx.Do(e); err != nil {
			t.Fatalf("%s: %v", e, err)
		}
	}
}

func describeAll(t testing.TB, mods []wire.Modification) (out []string) {
	t.Helper()
	for _, m := range mods {
		f, err := m.Frame()
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, describe(f))
	}
	return out
}

func TestHeaderModifications(t *testing.T) {
	const header = "From: a\r\nX-A: 1\r\nSubject:  two\r\n\tfolded\r\nX-A: 2\r\nX-A: 3\r\n"
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
	for _, tc := range []struct {
		name  string
		d     dialect
		edits []policy.Edit
		want  []string
	}{
		{"none", dialect{true, 1, true}, nil, nil},
		{"add", dialect{true, 1, true}, []policy.Edit{add("X-New", " v")}, []string{"h X-New: v"}},
		{"add, no leading space", dialect{false, 1, true}, []policy.Edit{add("X-New", " v\r\n\tw"), add("X-Two", "  x")}, []string{"h X-New:v\n\tw", "h X-Two: x"}},
		{"insert on top of Postfix", dialect{true, 1, true}, []policy.Edit{insert(0, "X-New", " v")}, []string{"i 1 X-New: v"}},
		{"insert on top of Sendmail", dialect{true, 0, true}, []policy.Edit{insert(0, "X-New", " v")}, []string{"i 0 X-New: v"}},
		{"two on top", dialect{true, 1, true}, []policy.Edit{insert(0, "X-1", " a"), insert(0, "X-2", " b")}, []string{"i 1 X-2: b", "i 2 X-1: a"}},
		{"in the middle", dialect{true, 1, true}, []policy.Edit{insert(3, "X-M", " v")}, []string{"i 4 X-M: v"}},
		{"far behind the end", dialect{true, 1, true}, []policy.Edit{insert(99, "X-M", " v")}, []string{"h X-M: v"}},
		{"change", dialect{true, 1, true}, []policy.Edit{change("x-a", 2, " new")}, []string{"m 2 X-A: new"}},
		{"change twice is one", dialect{true, 1, true}, []policy.Edit{change("X-A", 2, " new"), change("X-A", 2, " newer")}, []string{"m 2 X-A: newer"}},
		{"change and back is none", dialect{true, 1, true}, []policy.Edit{change("X-A", 2, " new"), change("X-A", 2, " 2")}, nil},
		{"change to nothing is no removal", dialect{true, 1, true}, []policy.Edit{change("X-A", 2, "")}, []string{"m 2 X-A: "}},
		{"removed from the last", dialect{true, 1, true}, []policy.Edit{remove("X-A", 1), remove("X-A", 1)}, []string{"m 2 X-A:", "m 1 X-A:"}},
		{"the name counts as received", dialect{true, 1, true}, []policy.Edit{remove("X-A", 1), change("X-A", 1, " now")}, []string{"m 2 X-A: now", "m 1 X-A:"}},
		{"add, then remove it", dialect{true, 1, true}, []policy.Edit{add("X-New", " v"), remove("X-New", 1)}, nil},
		{"insert of a name that is there, then change the received", dialect{true, 1, true},
			[]policy.Edit{insert(0, "X-A", " 0"), change("X-A", 2, " one")}, []string{"m 1 X-A: one", "i 1 X-A: 0"}},
		{"insert below what goes", dialect{true, 1, true}, []policy.Edit{insert(2, "X-M", " v"), remove("From", 1)}, []string{"m 1 From:", "i 2 X-M: v"}},
	} {
		tx := transaction(t, header, "")
		do(t, tx, tc.edits...)
		if d := cmp.Diff(tc.want, describeAll(t, modifications(tx, tc.d))); d != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, d)
		}
	}
}

// An MTA that follows the packets, as Postfix's cleanup does, comes to the
// header that the policy wants: whatever the edits, in whatever order.
func TestHeaderModificationsRandom(t *testing.T) {
	names := []string{"A", "B", "C"}
	for seed := range uint64(2000) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var b strings.Builder
		for range rnd.IntN(6) {
			b.WriteString(names[rnd.IntN(3)] + ": " + string(rune('a'+rnd.IntN(26))) + "\r\n")
		}
		tx := transaction(t, b.String(), "")
		for range rnd.IntN(8) {
			name, v := names[rnd.IntN(3)], " "+string(rune('0'+rnd.IntN(10)))
			k := 1 + rnd.IntN(3)
			switch rnd.IntN(4) { // those that name what is not there are refused
			case 0:
				tx.Do(policy.Edit{Kind: policy.AddHeader, Name: name, Value: v})
			case 1:
				tx.Do(policy.Edit{Kind: policy.InsertHeader, Index: rnd.IntN(8), Name: name, Value: v})
			case 2:
				tx.Do(policy.Edit{Kind: policy.ChangeHeader, Index: k, Name: name, Value: v})
			case 3:
				tx.Do(policy.Edit{Kind: policy.RemoveHeader, Index: k, Name: name})
			}
		}
		d := dialect{leadSpace: rnd.IntN(2) == 0, own: 1}
		got := likePostfix(b.String(), modifications(tx, d), d)
		if want := string(tx.Header().Append(nil)); got != want {
			t.Fatalf("seed %d: header %q, edits %v\ngot  %q\nwant %q", seed, b.String(), tx.Edits, got, want)
		}
	}
}

// likePostfix applies packets as Postfix does: its own Received on top is
// counted by insertions and not by changes, a removed field is gone.
func likePostfix(header string, mods []wire.Modification, d dialect) string {
	lines := []string{"Received: own\r\n"}
	for _, l := range strings.SplitAfter(header, "\r\n") {
		if l != "" {
			lines = append(lines, l)
		}
	}
	for _, m := range mods {
		value := m.Value
		if !d.leadSpace {
			value = " " + value
		}
		line := m.Name + ":" + strings.ReplaceAll(value, "\n", "\r\n") + "\r\n"
		switch m.Code {
		case milter.ActAddHeader:
			lines = append(lines, line)
		case milter.ActInsertHeader:
			i := min(int(m.Index), len(lines))
			lines = append(lines[:i], append([]string{line}, lines[i:]...)...)
		case milter.ActChangeHeader:
			k := int(m.Index)
			for i := 1; i < len(lines); i++ {
				name, _, _ := strings.Cut(lines[i], ":")
				if strings.EqualFold(name, m.Name) {
					if k--; k == 0 {
						if m.Value == "" {
							lines = append(lines[:i], lines[i+1:]...)
						} else {
							lines[i] = line
						}
						break
					}
				}
			}
		}
	}
	return strings.Join(lines[1:], "")
}

func TestEnvelopeModifications(t *testing.T) {
	path := func(a string) policy.Path { return policytest.Path(t, a) }
	for _, tc := range []struct {
		name string
		edit func(tx *policy.Transaction)
		want []string
	}{
		{"none", func(*policy.Transaction) {}, nil},
		{"sender", func(tx *policy.Transaction) {
			do(t, tx, policy.Edit{Kind: policy.SetSender, Path: path("new@example.net")})
		}, []string{"e <new@example.net>"}},
		{"null sender", func(tx *policy.Transaction) { do(t, tx, policy.Edit{Kind: policy.SetSender, Path: path("")}) }, []string{"e <>"}},
		{"add", func(tx *policy.Transaction) {
			do(t, tx, policy.Edit{Kind: policy.AddRcpt, Path: path("c@example.org"), Params: []policy.Param{{Key: "NOTIFY", Value: "NEVER", Raw: "NOTIFY=NEVER"}}})
		}, []string{"2 <c@example.org> NOTIFY=NEVER"}},
		{"remove", func(tx *policy.Transaction) { do(t, tx, policy.Edit{Kind: policy.RemoveRcpt, Rcpt: tx.Rcpts[0]}) }, []string{"- <a@example.org>"}},
		{"replace", func(tx *policy.Transaction) {
			do(t, tx, policy.Edit{Kind: policy.ReplaceRcpt, Rcpt: tx.Rcpts[0], Path: path("z@example.org")})
		}, []string{"- <a@example.org>", "2 <z@example.org> ORCPT=rfc822;a@example.org"}},
		{"replace of one whom the client calls otherwise", func(tx *policy.Transaction) {
			tx.Rcpts[0].Params = []policy.Param{{Key: "ORCPT", Value: "rfc822;o@example.org", Raw: "ORCPT=rfc822;o@example.org"}}
			do(t, tx, policy.Edit{Kind: policy.ReplaceRcpt, Rcpt: tx.Rcpts[0], Path: path("z@example.org")})
		}, []string{"- <a@example.org>", "2 <z@example.org> ORCPT=rfc822;o@example.org"}},
		{"replace of a bare local part", func(tx *policy.Transaction) {
			tx.Rcpts[0].In = path("a")
			do(t, tx, policy.Edit{Kind: policy.ReplaceRcpt, Rcpt: tx.Rcpts[0], Path: path("z@example.org")})
		}, []string{"- <a>", "+ <z@example.org>"}},
		{"replace keeps NOTIFY and says who it was", func(tx *policy.Transaction) {
			tx.Rcpts[0].Params = []policy.Param{{Key: "NOTIFY", Value: "FAILURE", Raw: "NOTIFY=FAILURE"}}
			do(t, tx, policy.Edit{Kind: policy.ReplaceRcpt, Rcpt: tx.Rcpts[0], Path: path("z@example.org")})
		}, []string{"- <a@example.org>", "2 <z@example.org> NOTIFY=FAILURE ORCPT=rfc822;a@example.org"}},
		{"replace of one whom ORCPT cannot name", func(tx *policy.Transaction) {
			tx.Rcpts[0].Params = []policy.Param{{Key: "NOTIFY", Value: "FAILURE", Raw: "NOTIFY=FAILURE"}}
			tx.Rcpts[0].In.Address = "jos\u00e9@example.org"
			do(t, tx, policy.Edit{Kind: policy.ReplaceRcpt, Rcpt: tx.Rcpts[0], Path: path("z@example.org")})
		}, []string{"- <a@example.org>", "2 <z@example.org> NOTIFY=FAILURE"}},
		{"one of two spelled alike goes", func(tx *policy.Transaction) {
			do(t, tx, policy.Edit{Kind: policy.RemoveRcpt, Rcpt: tx.Rcpts[2]})
		}, nil},
		{"removed and added again", func(tx *policy.Transaction) {
			do(t, tx, policy.Edit{Kind: policy.RemoveRcpt, Rcpt: tx.Rcpts[0]})
			do(t, tx, policy.Edit{Kind: policy.AddRcpt, Path: path("a@example.org")})
		}, nil},
		{"swapped", func(tx *policy.Transaction) {
			do(t, tx, policy.Edit{Kind: policy.ReplaceRcpt, Rcpt: tx.Rcpts[0], Path: path("b@example.org")})
			do(t, tx, policy.Edit{Kind: policy.ReplaceRcpt, Rcpt: tx.Rcpts[1], Path: path("a@example.org")})
		}, nil},
		{"into one that was refused", func(tx *policy.Transaction) {
			tx.Rcpts[0].State = policy.RcptRefused
			do(t, tx, policy.Edit{Kind: policy.ReplaceRcpt, Rcpt: tx.Rcpts[1], Path: path("a@example.org")})
		}, []string{"2 <a@example.org> ORCPT=rfc822;b@example.org"}},
		{"into one that was dropped", func(tx *policy.Transaction) {
			tx.Rcpts[0].State = policy.RcptDropped
			do(t, tx, policy.Edit{Kind: policy.ReplaceRcpt, Rcpt: tx.Rcpts[1], Path: path("a@example.org")})
			do(t, tx, policy.Edit{Kind: policy.RemoveRcpt, Rcpt: tx.Rcpts[2]})
		}, []string{"- <b@example.org>"}},
		{"two into one", func(tx *policy.Transaction) {
			for _, r := range tx.Rcpts {
				do(t, tx, policy.Edit{Kind: policy.ReplaceRcpt, Rcpt: r, Path: path("z@example.org")})
			}
		}, []string{"- <a@example.org>", "- <b@example.org>", "2 <z@example.org> ORCPT=rfc822;a@example.org"}},
		{"dropped, and said with a source route", func(tx *policy.Transaction) {
			tx.Rcpts[0].In = path("@h.example:a@example.org")
			tx.Rcpts[0].Out, tx.Rcpts[0].State = tx.Rcpts[0].In, policy.RcptDropped
		}, []string{"- <a@example.org>"}},
		{"replaced, and said with a source route", func(tx *policy.Transaction) {
			tx.Rcpts[0].In = path(`@h.example,@i.example:"a"@Example.Org.`)
			do(t, tx, policy.Edit{Kind: policy.ReplaceRcpt, Rcpt: tx.Rcpts[0], Path: path("z@example.org")})
		}, []string{`- <"a"@Example.Org.>`, "2 <z@example.org> ORCPT=rfc822;a@example.org"}},
		{"each spelling of one", func(tx *policy.Transaction) {
			tx.Rcpts[0].In, tx.Rcpts[1].In = path(`"b"@example.org`), path("b@Example.Org")
			for _, r := range tx.Rcpts {
				r.State = policy.RcptDropped
			}
		}, []string{`- <"b"@example.org>`, "- <b@Example.Org>", "- <b@example.org>"}},
		{"one of two spellings of one goes", func(tx *policy.Transaction) {
			tx.Rcpts[1].In = path(`"b"@example.org`)
			tx.Rcpts[1].Out, tx.Rcpts[1].State = tx.Rcpts[1].In, policy.RcptDropped
		}, nil},
		{"refused and dropped", func(tx *policy.Transaction) {
			tx.Rcpts[0].State, tx.Rcpts[1].State = policy.RcptRefused, policy.RcptDropped
			tx.Rcpts[2].State = policy.RcptDropped
		}, []string{"- <b@example.org>"}},
	} {
		tx := transaction(t, "", "", "a@example.org", "b@example.org", "b@example.org")
		tc.edit(tx)
		if d := cmp.Diff(tc.want, describeAll(t, modifications(tx, dialect{dsn: true}))); d != "" {
			t.Errorf("%s (-want +got):\n%s", tc.name, d)
		}
	}
}

func TestBodyModifications(t *testing.T) {
	for _, size := range []int{0, 1, 65535, 65536, 200000} {
		body := bytes.Repeat([]byte("x"), size)
		tx := transaction(t, "", "old")
		do(t, tx, policy.Edit{Kind: policy.ReplaceBody, Body: body})
		mods := modifications(tx, dialect{})
		var got []byte
		for _, m := range mods {
			if m.Code != milter.ActReplBody || len(m.Body) > milter.MaxBodyChunk {
				t.Fatalf("%d octets: chunk %q of %d", size, m.Code, len(m.Body))
			}
			got = append(got, m.Body...)
		}
		if len(mods) == 0 || !bytes.Equal(got, body) {
			t.Errorf("%d octets: %d chunks, %d octets", size, len(mods), len(got))
		}
	}
}

// A change that the MTA does not offer is an error, never lost.
func TestPermitted(t *testing.T) {
	for _, tc := range []struct {
		code    milter.ModifyActCode
		offered milter.OptAction
		want    string
	}{
		{milter.ActChangeFrom, 0x3f, ""},
		{milter.ActQuarantine, 0, ""},
		{milter.ActReplBody, milter.OptChangeBody, "b"},
		{milter.ActInsertHeader, milter.OptAddHeader, "i"},
		{wire.ActAddRcptArgs, 0x3f, "+"},
		{wire.ActAddRcptArgs, 0x1ff, "2"},
		{wire.ActAddRcptArgs, 0, ""},
	} {
		got, err := permitted([]wire.Modification{{Code: tc.code, Args: []string{"NOTIFY=NEVER"}}}, tc.offered)
		switch {
		case tc.want == "" && !errors.Is(err, errAction):
			t.Errorf("%c with %#x: %v, %v", tc.code, tc.offered, got, err)
		case tc.want != "" && (err != nil || string(got[0].Code) != tc.want):
			t.Errorf("%c with %#x: %v, %v", tc.code, tc.offered, got, err)
		}
	}
	srv, _ := serverOf(policytest.Rule(policy.Message, func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
		return policy.Verdict{}, s.Tx.Do(policy.Edit{Kind: policy.SetSender, Path: policytest.Path(t, "new@example.net")})
	}))
	m := dial(t, srv, wire.Options{Version: 2, Actions: 0x3f, Protocol: 0x7f})
	m.hello()
	m.want("c", wire.Mail{From: "<a@example.net>"})
	m.want("c", wire.Rcpt{To: "<b@example.org>"})
	m.message("x\r\n", "Subject: x")
	if mods, a := m.end(); !strings.HasPrefix(a, "y 451 4.3.0 ") || mods != nil {
		t.Errorf("an edit that version 2 cannot make: %q %q", mods, a)
	}
}

// Values go out and come in with their blanks and folds.
func TestDialect(t *testing.T) {
	for _, lead := range []bool{true, false} {
		d := dialect{leadSpace: lead}
		for _, v := range []string{" one", "  two", " a\r\n\tb", " a\r\n b\r\n c", " ", "\tx"} {
			want := v
			if v == "\tx" && !lead {
				want = " \tx" // the MTA puts a blank in front
			}
			if got := d.decode(d.encode(v)); got != want {
				t.Errorf("leading space %v: %q came as %q", lead, v, got)
			}
		}
	}
	for in, want := range map[string]string{" a\nb": " a\r\n b", " a\n": " a", " a\rb": " a\r\n b", " a\r\n\r\n b": " a\r\n \r\n b"} {
		if got := foldCRLF(in); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

// Whatever names and values an MTA sends, the header is as long as it says.
func TestOddFields(t *testing.T) {
	var got []string
	srv, _ := serverOf(policytest.Rule(policy.Headers, func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
		for _, f := range s.Tx.Message.Header.Fields() {
			got = append(got, string(f.Raw()))
		}
		return policy.Verdict{}, nil
	}))
	m := dial(t, srv, all)
	m.hello()
	m.want("c", wire.Mail{From: "<a@example.net>"})
	m.want("c", wire.Rcpt{To: "<b@example.org>"})
	for _, h := range []wire.Header{{Name: "X-A ", Value: " 1"}, {Name: "", Value: "v"}, {Name: "a:b", Value: "v"}, {Name: "From x", Value: ""}, {Name: "X", Value: "a\nb: c\n\n d"}, {Name: strings.Repeat("n", 5000), Value: " v"}} {
		m.send(h)
	}
	m.want("c", wire.Signal{Code: milter.CodeEOH})
	want := []string{"X-A: 1\r\n", "?:v\r\n", "a?b:v\r\n", "From?x:\r\n", "X:a\r\n b: c\r\n \r\n d\r\n", strings.Repeat("n", 998) + ": v\r\n"}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// A Sendmail without DSN would lose a recipient that has a parameter.
func TestNoNameWithoutDSN(t *testing.T) {
	tx := transaction(t, "", "", "a@example.org")
	do(t, tx, policy.Edit{Kind: policy.ReplaceRcpt, Rcpt: tx.Rcpts[0], Path: policytest.Path(t, "z@example.org")})
	for want, params := range map[string][]policy.Param{
		"+ <z@example.org>": nil,
		"2 <z@example.org> NOTIFY=NEVER ORCPT=rfc822;a@example.org": {{Key: "NOTIFY", Value: "NEVER", Raw: "NOTIFY=NEVER"}},
	} {
		tx.Rcpts[0].Params = params
		if d := cmp.Diff([]string{"- <a@example.org>", want}, describeAll(t, modifications(tx, dialect{}))); d != "" {
			t.Errorf("(-want +got):\n%s", d)
		}
	}
}
