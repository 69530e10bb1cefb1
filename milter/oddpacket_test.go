package milter

import (
	"testing"

	"github.com/emersion/go-milter"
)

// A packet that is cut short or has too much is a failure, and not a change that
// nobody asked for: of a header field without its value the field would be removed.
func TestFilterOddPackets(t *testing.T) {
	const one = "\x00\x00\x00\x01"
	for _, p := range []string{
		"h", "hX", "hX\x00", "hX\x00v", "hX\x00v\x00w\x00", "hX\x00v\x00w", "m" + one + "X-A\x00", "m" + one + "X-A", "m" + one, "m\x00\x00", "i" + one + "X\x00", "i" + one + "X\x00v", "i",
		"+", "+<c@example.org>", "+<c@example.org>\x00NOTIFY=NEVER\x00", "-", "-<b@example.net>", "-<b@example.net>\x00\x00", "e", "e\x00", "e<c@example.org>", "e<c@example.org>\x00RET=HDRS", "e<c@example.org>\x00RET=HDRS\x00x\x00",
	} {
		f := saying(t, milter.CodeEOB, frame(t, p[0], p[1:])+goOn)
		d := greeted(t, f)
		d.mail("a@example.net")
		d.rcpt("b@example.net")
		v := d.message(aHeader, "x\r\n")
		if got, want := outcome(d.s.Tx), "<a@example.net> <b@example.net>\n"+aHeader+"X-Moongate-Unchecked: f\r\nx\r\n"; v.Decided() || got != want {
			t.Errorf("%q: %s\n%s", p, say(v), got)
		}
	}
}
