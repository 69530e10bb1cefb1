package milter

import (
	"bytes"
	"strings"
	"testing"

	"github.com/emersion/go-milter"
	"github.com/google/go-cmp/cmp"

	"github.com/moongate/moongate/milter/wire"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/message"
	"github.com/moongate/moongate/policy/policytest"
)

// mods are frames of changes, as a filter sends them.
func mods(t *testing.T, all ...wire.Modification) string {
	t.Helper()
	var b []byte
	for _, m := range all {
		f, err := m.Frame()
		if err != nil {
			t.Fatal(err)
		}
		if b, err = f.Append(b); err != nil {
			t.Fatal(err)
		}
	}
	return string(b)
}

// changing is a filter that answers the end of each message so.
func changing(t *testing.T, answer string) *Filter {
	f := fakeFilter(t, func(_ int, f wire.Frame) string {
		if milter.Code(f.Code) == milter.CodeEOB {
			return answer + goOn
		}
		return goOn
	})
	return &Filter{Label: "f", Address: f.addr()}
}

// Changes are made all or not at all: with on_error = "accept" nothing of a
// filter whose last change cannot be made goes on.
func TestFilterChangesAllOrNothing(t *testing.T) {
	good := []wire.Modification{
		{Code: milter.ActAddHeader, Name: "X-New", Value: "v"}, {Code: milter.ActChangeHeader, Index: 1, Name: "Subject"},
		{Code: milter.ActAddRcpt, Addr: "<new@example.org>"}, {Code: milter.ActDelRcpt, Addr: "<b@example.net>"},
		{Code: milter.ActChangeFrom, Addr: "<new@example.net>"}, {Code: milter.ActReplBody, Body: []byte("new")},
	}
	for name, bad := range map[string]wire.Modification{
		"a field":             {Code: milter.ActAddHeader, Name: "X: Y", Value: " v"},
		"an address":          {Code: milter.ActAddRcpt, Addr: "<no address>"},
		"a sender's argument": {Code: milter.ActChangeFrom, Addr: "<c@example.net>", Args: []string{"SIZE=7"}},
		"a quarantine":        {Code: milter.ActQuarantine, Reason: "r"},
	} {
		f := changing(t, mods(t, append(good[:len(good):len(good)], bad)...))
		f.OnError = policy.Accept
		d := greeted(t, f)
		d.mail("a@example.net")
		d.rcpt("b@example.net")
		if v := d.message(aHeader, "x\r\n"); v.Decided() {
			t.Errorf("%s: %s", name, say(v))
		}
		if got, want := outcome(d.s.Tx), "<a@example.net> <b@example.net>\n"+aHeader+"X-Moongate-Unchecked: f\r\nx\r\n"; got != want {
			t.Errorf("%s:\n%s", name, cmp.Diff(want, got))
		}
		if n := len(d.s.Tx.Edits); n != 1 {
			t.Errorf("%s: %d edits", name, n)
		}
		if f.breaker.fails != 0 {
			t.Errorf("%s: the breaker counts it", name)
		}
	}
	d := greeted(t, changing(t, mods(t, good...)))
	d.mail("a@example.net")
	d.rcpt("b@example.net")
	d.message(aHeader, "x\r\n")
	if got, want := outcome(d.s.Tx), "<new@example.net> <new@example.org>\n"+strings.Replace(aHeader, "Subject: S\r\n", "", 1)+"X-New: v\r\nnew"; got != want {
		t.Errorf("the good ones alone:\n%s", cmp.Diff(want, got))
	}
}

// RET and ENVID of a new sender are taken in the place of the client's, which
// stay what they were; all other parameters are a failure.
func TestFilterChangesSenderParameters(t *testing.T) {
	for _, tc := range []struct {
		args []string
		want string // "" for a failure
	}{
		{nil, "SIZE=10 RET=FULL ENVID=old"},
		{[]string{"RET=hdrs"}, "SIZE=10 ENVID=old RET=hdrs"},
		{[]string{"ret=HDRS ENVID=a+2Bb"}, "SIZE=10 RET=HDRS ENVID=a+2Bb"},
		{[]string{"RET=HDRS", "ENVID=x"}, "SIZE=10 RET=HDRS ENVID=x"},
		{[]string{"RET=ALL"}, ""}, {[]string{"RET"}, ""}, {[]string{"ENVID="}, ""}, {[]string{"ENVID=a=b"}, ""}, {[]string{"ENVID=a+2"}, ""},
		{[]string{"ENVID=" + strings.Repeat("x", 101)}, ""}, {[]string{"RET=FULL RET=HDRS"}, ""}, {[]string{"SIZE=1"}, ""}, {[]string{"NOTIFY=NEVER"}, ""},
	} {
		d := greeted(t, changing(t, mods(t, wire.Modification{Code: milter.ActChangeFrom, Addr: "<new@example.net>", Args: tc.args})))
		d.mail("a@example.net", "SIZE=10", "RET=FULL", "ENVID=old")
		d.rcpt("b@example.net")
		v := d.message(aHeader, "x\r\n")
		if (v.Action == policy.Tempfail) != (tc.want == "") {
			t.Errorf("%q: %s", tc.args, say(v))
		}
		want := tc.want
		if want == "" {
			want = "SIZE=10 RET=FULL ENVID=old"
		}
		if got := strings.Join(rawParams(d.s.Tx.Out.Params), " "); got != want {
			t.Errorf("%q: %s, want %s", tc.args, got, want)
		}
		if got := strings.Join(rawParams(d.s.Tx.In.Params), " "); got != "SIZE=10 RET=FULL ENVID=old" {
			t.Errorf("%q: what the client said is %s now", tc.args, got)
		}
	}
}

// A filter removes a recipient by the address it was told, also if a rule has
// replaced it; and by the new one.
func TestFilterRemovesReplacedRecipient(t *testing.T) {
	for _, addr := range []string{"<B@example.net>", "<new@example.net>"} {
		f := changing(t, mods(t, wire.Modification{Code: milter.ActDelRcpt, Addr: addr}))
		d := doorOf(t, t.Context(), []policy.Filter{f}, policytest.Rule(policy.Rcpt, func(s *policy.Session, ev *policy.Event) (policy.Verdict, error) {
			if ev.Rcpt.In.Local != "b" {
				return policy.Verdict{}, nil
			}
			return policy.Verdict{}, s.Tx.Do(policy.Edit{Kind: policy.ReplaceRcpt, Rcpt: ev.Rcpt, Path: policytest.Path(t, "new@example.net")})
		}))
		d.connect()
		d.helo("client.example")
		d.mail("a@example.net")
		d.rcpt("b@example.net")
		d.rcpt("c@example.net")
		if v := d.message(aHeader, "x\r\n"); v.Decided() {
			t.Error(say(v))
		}
		if r := d.s.Tx.Recipients(); len(r) != 1 || r[0].Out.Address != "c@example.net" {
			t.Errorf("%s: it goes on to %d", addr, len(r))
		}
		d.close()
	}
}

// An insertion on top stands behind mbox lines, in the header and as the filter
// counts.
func TestFilterInsertsBehindMbox(t *testing.T) {
	f := changing(t, mods(t,
		wire.Modification{Code: milter.ActInsertHeader, Index: 0, Name: "X-Top", Value: "1"},
		wire.Modification{Code: milter.ActInsertHeader, Index: 2, Name: "X-Mid", Value: "2"},
		wire.Modification{Code: milter.ActInsertHeader, Index: 4, Name: "X-Low", Value: "3"},
	))
	for _, signs := range []bool{false, true} {
		f.Sign = signs
		d := greeted(t, f)
		d.mail("a@example.net")
		d.rcpt("b@example.net")
		if v := d.message("From x@y Thu Jan 1\r\n>From z\r\nA: a\r\nB: b\r\n", "x\r\n"); v.Decided() {
			t.Error(say(v))
		}
		if got, want := d.out(), "From x@y Thu Jan 1\r\n>From z\r\nX-Top: 1\r\nX-Mid: 2\r\nA: a\r\nX-Low: 3\r\nB: b\r\n"; got != want {
			t.Errorf("(-want +got):\n%s", cmp.Diff(want, got))
		}
	}
}

// A line that is too long is folded where it has a blank, and goes on as it is
// where it has none: no reason to refuse the message for ever.
func TestFilterLongLines(t *testing.T) {
	word := strings.Repeat("x", 600)
	endless := strings.Repeat("y", 1500)
	for in, want := range map[string]string{
		"short":                          " short",
		word + " " + word:                " " + word + "\r\n " + word,
		endless:                          " " + endless,
		word + " " + endless + " z":      " " + word + "\r\n " + endless + "\r\n z",
		"a\n\t" + word + "  " + word:     " a\r\n\t" + word + " \r\n " + word,
		endless + strings.Repeat(" ", 9): " " + endless + strings.Repeat(" ", 9),
	} {
		d := greeted(t, changing(t, mods(t, wire.Modification{Code: milter.ActAddHeader, Name: "X-Long", Value: in})))
		d.mail("a@example.net")
		d.rcpt("b@example.net")
		if v := d.message(aHeader, "x\r\n"); v.Decided() {
			t.Errorf("%.20q: %s %s", in, say(v), v.Reason)
			continue
		}
		f, _ := d.s.Tx.Header().Get("X-Long", 1)
		if got := string(bytes.TrimSuffix(f.Raw(), []byte("\r\n"))); got != "X-Long:"+want {
			t.Errorf("%.20q:\n%s", in, cmp.Diff("X-Long:"+want, got))
		}
	}
}

// Changes cost far more than their octets, so there is an end to their number,
// and to the header that they make; a body in small pieces is no such thing.
func TestFilterTooMuch(t *testing.T) {
	field := mods(t, wire.Modification{Code: milter.ActAddHeader, Name: "X", Value: "y"})
	large := mods(t, wire.Modification{Code: milter.ActAddHeader, Name: "X", Value: strings.Repeat(strings.Repeat("z", 900)+"\n ", 60)})
	piece := mods(t, wire.Modification{Code: milter.ActReplBody, Body: make([]byte, 600)})
	tiny := mods(t, wire.Modification{Code: milter.ActReplBody, Body: []byte("x")})
	for _, tc := range []struct{ name, answer, want string }{
		{"header fields", strings.Repeat(field, maxChanges-10), ""},
		{"too many of them", strings.Repeat(field, 2*maxChanges), errEndless.Error()},
		{"pieces of a body", strings.Repeat(piece, 2*maxChanges), ""},
		{"tiny ones", strings.Repeat(tiny, 2*maxChanges), errEndless.Error()},
		{"header", strings.Repeat(large, 10), ""},
		{"too large a header", strings.Repeat(large, 20), "a header of "},
	} {
		d := greeted(t, changing(t, tc.answer))
		v := oneMessage(d)
		if tc.want == "" && v.Decided() || tc.want != "" && (v.Action != policy.Tempfail || !strings.Contains(v.Reason, tc.want)) {
			t.Errorf("%s: %s %s", tc.name, say(v), v.Reason)
		}
		d.done(v)
	}
}

// A filter that changes thousands of fields among thousands: each change finds
// its field.
func TestFilterManyChanges(t *testing.T) {
	var all []wire.Modification
	for i := range 4000 { // a number stays with its field, removed or not
		all = append(all, wire.Modification{Code: milter.ActChangeHeader, Index: uint32(i + 1), Name: "x-spam", Value: ""})
		all = append(all, wire.Modification{Code: milter.ActChangeHeader, Index: uint32(i + 1), Name: "X-B", Value: "new"})
	}
	f := changing(t, mods(t, all...))
	for _, signs := range []bool{false, true} {
		f.Sign = signs
		d := greeted(t, f)
		d.mail("a@example.net")
		d.rcpt("b@example.net")
		if v := d.message(strings.Repeat("X-Spam: yes\r\nX-B: old\r\n", message.MaxFields/2), "x\r\n"); v.Decided() {
			t.Error(say(v), v.Reason)
		}
		want := strings.Repeat("X-B: new\r\n", 4000) + strings.Repeat("X-Spam: yes\r\nX-B: old\r\n", 1000)
		if d.out() != want {
			t.Errorf("%d octets, want %d", len(d.out()), len(want))
		}
		d.done(policy.Verdict{})
	}
	// What it adds has an end; what came with so many fields may lose some.
	for v, want := range map[string]string{"x": "it makes a header of 10001 fields", "": ""} {
		f = changing(t, mods(t, wire.Modification{Code: milter.ActChangeHeader, Index: 1, Name: "X-C", Value: v}))
		d := greeted(t, f)
		d.mail("a@example.net")
		d.rcpt("b@example.net")
		if v := d.message(strings.Repeat("X-B: old\r\n", message.MaxFields), "x\r\n"); (want != "") != v.Decided() || !strings.Contains(v.Reason, want) {
			t.Error(say(v), v.Reason)
		}
		d.done(policy.Verdict{})
	}
}

// A filter that never comes to its verdict is not kept in memory.
func TestFilterEndlessAnswer(t *testing.T) {
	f := changing(t, strings.Repeat(mods(t, wire.Modification{Code: milter.ActReplBody, Body: make([]byte, 60000)}), 20))
	f.MaxAnswer = 1 << 20
	d := greeted(t, f)
	if v := oneMessage(d); v.Action != policy.Tempfail || !strings.Contains(v.Reason, errEndless.Error()) {
		t.Errorf("%s %s", say(v), v.Reason)
	}
	d.done(policy.Verdict{})
	f.MaxAnswer = 2 << 20
	if v := oneMessage(d); v.Decided() {
		t.Errorf("with room: %s", say(v))
	}
}

// The line ends of a new body are CRLF wherever it was cut, and it is kept once.
func TestNewBody(t *testing.T) {
	const in, want = "a\r\nb\nc\rd\r\r\n\n\r\n.\r\n\r", "a\r\nb\r\nc d \r\n\r\n\r\n.\r\n "
	for cut := range len(in) + 1 {
		mods := []milter.ModifyAction{
			{Code: milter.ActReplBody, Body: []byte(in[:cut])}, {Code: milter.ActAddHeader}, {Code: milter.ActReplBody}, {Code: milter.ActReplBody, Body: []byte(in[cut:])},
		}
		if got := newBody(mods); string(got) != want || cap(got) > len(want)+2 {
			t.Errorf("cut at %d: %q in %d octets, want %q", cut, got, cap(got), want)
		}
		if mods[0].Body != nil || mods[3].Body != nil {
			t.Error("the pieces are kept, too")
		}
	}
	if got := newBody([]milter.ModifyAction{{Code: milter.ActReplBody}}); len(got) != 0 {
		t.Errorf("an empty body: %q", got)
	}
}
