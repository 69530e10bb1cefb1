package milter

import (
	"testing"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/policytest"
)

// A filter that was not asked about the sender, and nobody had discarded the
// message before its turn, cannot be asked about the rest: that is no pass.
func TestFilterUnheard(t *testing.T) {
	b := newBadFilter(t)
	for onError, want := range map[policy.Action]policy.Action{policy.Tempfail: policy.Tempfail, policy.Accept: policy.Continue} {
		d := doorOf(t, t.Context(), []policy.Filter{&Filter{Label: "f", Address: b.addr(), OnError: onError}})
		d.connect()
		d.helo("client.example")
		d.s.Begin(policytest.Path(t, "a@example.net"), nil) // and nobody is asked
		d.answered("MAIL", policy.Verdict{}, nil)
		if v := d.rcpt("b@example.net"); v.Action != want {
			t.Errorf("RCPT: %s", say(v))
		}
		if v := d.message(aHeader, "x\r\n"); v.Action != want {
			t.Errorf("the message: %s", say(v))
		}
		if n := d.logs.FilterMessage("filter failed").Len(); n != 1 {
			t.Errorf("%d failures in the log", n)
		}
		d.done(policy.Verdict{})
		if v := oneMessage(d); v.Decided() {
			t.Errorf("the next message: %s", say(v))
		}
		d.close()
	}
}
