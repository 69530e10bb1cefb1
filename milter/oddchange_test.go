package milter

import (
	"strings"
	"testing"

	"github.com/emersion/go-milter"

	"github.com/moongate/moongate/milter/wire"
	"github.com/moongate/moongate/policy"
)

// What a filter may well say, in a way that must not reach the wire like that.
func TestFilterOddChanges(t *testing.T) {
	add := func(value string) wire.Modification {
		return wire.Modification{Code: milter.ActAddHeader, Name: "X", Value: value}
	}
	change := func(k uint32, value string) wire.Modification {
		return wire.Modification{Code: milter.ActChangeHeader, Name: "X-A", Index: k, Value: value}
	}
	rcpt := func(code milter.ModifyActCode, addr string) wire.Modification {
		return wire.Modification{Code: code, Addr: addr}
	}
	const envelope, header = "<a@example.net> <b@example.net>\n", "From: a@example.net\r\nX-A: 1\r\nx-a: 2\r\nX-A: 3\r\n"
	for _, tc := range []struct {
		mods []wire.Modification
		want string
	}{
		// A line without anything but blanks may be taken for the end of the header.
		{[]wire.Modification{add("a\r\n\r\nb")}, envelope + header + "X: a\r\n b\r\nx\r\n"},
		{[]wire.Modification{add("a\n\n\r\r\n\n\tb\n\n")}, envelope + header + "X: a\r\n\tb\r\nx\r\n"},
		{[]wire.Modification{add("a\n \n\t\nb"), add(" \n \n")}, envelope + header + "X: a\r\n b\r\nX:  \r\nx\r\n"},
		{[]wire.Modification{add("\r\n.\r\n")}, envelope + header + "X: \r\n .\r\nx\r\n"},
		{[]wire.Modification{add("\n")}, envelope + header + "X: \r\nx\r\n"},
		{[]wire.Modification{change(1, ""), change(2, ""), change(3, "")}, envelope + "From: a@example.net\r\nx\r\n"},
		{[]wire.Modification{change(3, ""), change(2, ""), change(1, "")}, envelope + "From: a@example.net\r\nx\r\n"},
		{[]wire.Modification{change(1, ""), change(1, ""), change(1, "")}, envelope + "From: a@example.net\r\nx\r\n"},
		{[]wire.Modification{change(2, ""), change(1, "y"), change(3, "z")}, envelope + "From: a@example.net\r\nX-A: y\r\nX-A: z\r\nx\r\n"},
		{[]wire.Modification{change(0, "zero"), change(1<<32-1, "many")}, envelope + strings.Replace(header, " 1", " zero", 1) + "X-A: many\r\nx\r\n"},
		{[]wire.Modification{rcpt(milter.ActDelRcpt, "<b@example.net>"), rcpt(milter.ActAddRcpt, "<b@example.net>")}, envelope + header + "x\r\n"},
		{[]wire.Modification{rcpt(milter.ActAddRcpt, `"c d"@example.org`)}, "<a@example.net> <b@example.net> <\"c d\"@example.org>\n" + header + "x\r\n"},
		{[]wire.Modification{rcpt(milter.ActDelRcpt, `<@x.example:"b"@example.net>`)}, "<a@example.net>\n" + header + "x\r\n"},
	} {
		d := greeted(t, changing(t, mods(t, tc.mods...)))
		d.mail("a@example.net")
		d.rcpt("b@example.net")
		if v := d.message(header, "x\r\n"); v.Decided() {
			t.Errorf("%+v: %s %s", tc.mods, say(v), v.Reason)
		} else if got := outcome(d.s.Tx); got != tc.want {
			t.Errorf("%+v:\n%q, want\n%q", tc.mods, got, tc.want)
		}
	}
	for _, addr := range []string{"<c@example.org> NOTIFY=NEVER", "<c@example.org>\r\nRCPT TO:<d@example.org>", "Joe <c@example.org>", "<c d@example.org>", "<jürgen@example.org>", "<>"} {
		d := greeted(t, changing(t, mods(t, rcpt(milter.ActAddRcpt, addr))))
		if v := oneMessage(d); v.Action != policy.Tempfail {
			t.Errorf("%q: %s %s", addr, say(v), outcome(d.s.Tx))
		}
	}
}
