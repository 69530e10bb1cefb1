package milter

import (
	"testing"

	"github.com/emersion/go-milter"

	"github.com/moongate/moongate/milter/wire"
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

// A panic of ours is a failure of the filter: its on_error, a new connection, and
// the session goes on.
func TestFilterPanic(t *testing.T) {
	for onError, want := range map[policy.Action]policy.Action{policy.Tempfail: policy.Tempfail, policy.Accept: policy.Continue} {
		fake := fakeFilter(t, nil)
		panics := false
		f := &Filter{Label: "f", Address: fake.addr(), OnError: onError, When: func(*policy.Session) bool {
			if panics {
				panic("of a filter")
			}
			return true
		}}
		d := greeted(t, f)
		panics = true
		if v := d.mail("a@example.net"); v.Action != want || !v.Failed && want != policy.Continue {
			t.Errorf("MAIL: %s", say(v))
		}
		if d.s.Tx != nil {
			if v := d.rcpt("b@example.net"); v.Decided() {
				t.Errorf("RCPT: %s", say(v))
			}
			d.done(policy.Verdict{})
		}
		if n := d.logs.FilterMessage("panic").Len(); n != 1 {
			t.Errorf("%d panics in the log", n)
		}
		panics = false
		if v := oneMessage(d); v.Decided() {
			t.Errorf("the next message: %s", say(v))
		}
		if n := len(fake.what()); n != 2 {
			t.Errorf("%d connections", n)
		}
	}
}

// What a filter says of HELO means nothing for the message before which it is
// said again.
func TestFilterDiscardsHelo(t *testing.T) {
	f := fakeFilter(t, func(_ int, f wire.Frame) string {
		if milter.Code(f.Code) == milter.CodeHelo {
			return "\x00\x00\x00\x01d"
		}
		return goOn
	})
	d := greeted(t, &Filter{Label: "f", Address: f.addr()})
	for range 2 {
		if v := oneMessage(d); v.Decided() {
			t.Error(say(v))
		}
		d.done(policy.Verdict{})
	}
	if got := f.what(); len(got) != 1 || got[0] != "CHMRTLLLLLNBEHMRTLLLLLNBE" {
		t.Errorf("heard %q", got)
	}
}
