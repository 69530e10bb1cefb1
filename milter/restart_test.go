package milter

import (
	"os"
	"testing"

	"github.com/moongate/moongate/policy"
)

// 200 restarts of a filter that many sessions are connected to: no message is
// lost between two of them, and no descriptor is left behind.
func TestFilterRestarts(t *testing.T) {
	count := func() int {
		names, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip(err)
		}
		return len(names)
	}
	fake := fakeFilter(t, nil)
	f := &Filter{Label: "f", Address: fake.addr()}
	var doors []*door
	for range 10 {
		doors = append(doors, greeted(t, f))
	}
	judge := func() {
		for _, d := range doors {
			if v := oneMessage(d); v.Decided() {
				t.Fatal(say(v), v.Reason)
			}
			d.done(policy.Verdict{})
		}
	}
	judge()
	before := count()
	for range 200 {
		fake.hangUp()
		judge()
	}
	if after := count(); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
	for _, d := range doors {
		if n := d.logs.FilterMessage("filter failed").Len(); n > 0 {
			t.Errorf("%d failures", n)
		}
	}
}
