package milter

import (
	"strings"
	"testing"

	"github.com/emersion/go-milter"

	"github.com/moongate/moongate/milter/wire"
	"github.com/moongate/moongate/policy"
)

// late is a filter that gave two answers to one question, the second so late that
// it is taken for the next one's: each answer is then that to the question before,
// and the verdict is still to come when the message is at its end.
func late(t *testing.T, verdict string) *fake {
	f := fakeFilter(t, nil)
	f.parting = verdict
	return f
}

// An answer too many, unseen because it comes behind the look and before the true
// one, has one message pass that the filter refuses, and no second one: not in
// this session nor in another.
func TestFilterLateAnswer(t *testing.T) {
	fake := late(t, refuse)
	f := &Filter{Label: "f", Address: fake.addr()}
	d := greeted(t, f)
	if v := oneMessage(d); v.Decided() {
		t.Fatalf("the first message: %s: the test shows nothing", say(v))
	}
	d.done(policy.Verdict{})
	fake.say(refuse) // it has come to its verdict
	for n := range 3 {
		if v := oneMessage(d); v.Action != policy.Tempfail || !strings.Contains(v.Reason, errUninvited.Error()) {
			t.Errorf("message %d: %s %s", n+2, say(v), v.Reason)
		}
		d.done(policy.Verdict{})
	}
	if v := oneMessage(greeted(t, f)); v.Action != policy.Tempfail {
		t.Errorf("another session: %s", say(v))
	}
}

// One that was caught and answers as it should is obeyed, each message on a
// connection of its own; an answer too many that changes nothing does no harm.
func TestFilterLateAnswerHarmless(t *testing.T) {
	for name, verdict := range map[string]string{"all well": "", "it lets pass": goOn, "and says that it is at it": atWork + goOn} {
		fake := late(t, verdict)
		f := &Filter{Label: "f", Address: fake.addr()}
		f.loose.Store(true)
		d := greeted(t, f)
		for range 3 {
			if v := oneMessage(d); v.Decided() {
				t.Errorf("%s: %s %s", name, say(v), v.Reason)
			}
			d.done(policy.Verdict{})
		}
		if got := fake.what(); len(got) != 3 {
			t.Errorf("%s: %q", name, got)
		}
	}
	changes := mods(t, wire.Modification{Code: milter.ActAddHeader, Name: "X-New", Value: "v"})
	f := changing(t, changes)
	f.loose.Store(true)
	d := greeted(t, f)
	for range 2 {
		if v := oneMessage(d); v.Decided() || !strings.HasSuffix(d.out(), "X-New: v\r\n") {
			t.Errorf("one that changes: %s", say(v))
		}
		d.done(policy.Verdict{})
	}
	for name, verdict := range map[string]string{"changes": changes + goOn, "nonsense": "\x00\x00\x00\x00"} {
		f := &Filter{Label: "f", Address: late(t, verdict).addr()}
		f.loose.Store(true)
		if v := oneMessage(greeted(t, f)); v.Action != policy.Tempfail {
			t.Errorf("%s: %s", name, say(v))
		}
	}
}
