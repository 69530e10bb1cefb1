package milter

import (
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-milter"

	"github.com/moongate/moongate/milter/wire"
	"github.com/moongate/moongate/policy"
)

// A filter that says that it is still at it where it owes no answer, between two
// questions or at a step that it agreed to be silent at, has said nothing that
// could be taken for one.
func TestFilterProgressUnowed(t *testing.T) {
	for _, at := range "CHMRTNBE" {
		f := fakeFilter(t, func(_ int, f wire.Frame) string {
			switch {
			case rune(f.Code) == at:
				return goOn + atWork + atWork
			case milter.Code(f.Code) == milter.CodeEOB:
				return refuse
			}
			return goOn
		})
		d := greeted(t, &Filter{Label: "f", Address: f.addr()})
		for range 2 {
			want := "reject 550 5.7.1 Command rejected"
			if at == 'E' {
				want = "continue"
			}
			if v := oneMessage(d); say(v) != want {
				t.Errorf("behind %c: %s %s", at, say(v), v.Reason)
			}
			d.done(policy.Verdict{})
		}
		if n := len(f.what()); n != 1 {
			t.Errorf("behind %c: %d connections", at, n)
		}
	}
}

// Behind it there may be what was not asked for, or no end of it.
func TestFilterProgressHides(t *testing.T) {
	for name, tc := range map[string]struct{ behind, want string }{
		"an answer":       {atWork + goOn, errUninvited.Error()},
		"no end":          {strings.Repeat(atWork, maxChanges+1), errUninvited.Error()},
		"half of one":     {atWork[:3], "i/o timeout"},
		"a larger one":    {"\x00\x00\x00\x02p\x00", errUninvited.Error()},
		"no length":       {"\x00\x00\x00\x00", errUninvited.Error()},
		"another command": {"\x00\x00\x00\x01x", errUninvited.Error()},
	} {
		f := fakeFilter(t, func(_ int, f wire.Frame) string {
			if milter.Code(f.Code) == milter.CodeRcpt {
				return goOn + tc.behind
			}
			return goOn
		})
		filter := &Filter{Label: "f", Address: f.addr()}
		d := greeted(t, filter)
		if name == "half of one" {
			filter.CommandTime = 200 * time.Millisecond
		}
		if v := oneMessage(d); v.Action != policy.Tempfail || !strings.Contains(v.Reason, tc.want) {
			t.Errorf("%s: %s %s", name, say(v), v.Reason)
		}
	}
}

// libmilter sends it whatever the callback, also one that has no answer to give.
func TestFilterProgressOfLibmilter(t *testing.T) {
	d := greeted(t, &Filter{Label: "working", Address: python(t, "working.py")})
	for range 2 {
		d.mail("a@example.net")
		d.rcpt("b@example.net")
		v := d.message(aHeader, strings.Repeat("0123456789abcde\r\n", 100_000))
		if v.Decided() || !strings.HasSuffix(d.out(), "\r\nX-Working: 1\r\n") {
			t.Errorf("%s %s: %q", say(v), v.Reason, d.out())
		}
		d.done(v)
	}
	if n := d.logs.FilterMessage("filter dialled anew").Len(); n > 0 {
		t.Errorf("dialled anew %d times", n)
	}
}
