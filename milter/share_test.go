package milter

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-milter"

	"github.com/moongate/moongate/milter/wire"
	"github.com/moongate/moongate/policy"
)

// hanging is a filter that gives no answer to one command until the test ends.
func hanging(t *testing.T, at milter.Code) *fake {
	over := make(chan struct{})
	f := fakeFilter(t, func(_ int, f wire.Frame) string {
		if milter.Code(f.Code) == at {
			<-over
			return hangUp
		}
		return goOn
	})
	t.Cleanup(func() { close(over) }) // before the filter's own
	return f
}

// A filter that hangs costs the filters behind it nothing but time: they answer,
// and are not taken for ill.
func TestFilterHangsBeforeOthers(t *testing.T) {
	for _, code := range []milter.Code{milter.CodeConn, milter.CodeMail, milter.CodeRcpt, milter.CodeEOB} {
		for name, ill := range map[string]*Filter{"accept": {OnError: policy.Accept}, "shadow": {Shadow: true}} {
			t.Run(fmt.Sprintf("%s/%c", name, code), func(t *testing.T) {
				t.Parallel()
				well := fakeFilter(t, func(_ int, f wire.Frame) string {
					if milter.Code(f.Code) == milter.CodeEOB {
						return refuse
					}
					return goOn
				})
				ill.Label, ill.Address = "ill", hanging(t, code).addr()
				other := &Filter{Label: "well", Address: well.addr()}
				d := doorOf(t, t.Context(), []policy.Filter{ill, other})
				defer d.close()
				d.s.Env.StageTime, d.s.Env.AllTime = 3*time.Second, 3*time.Second
				if v := converse(d); say(v) != "reject 550 5.7.1 Command rejected" {
					t.Errorf("%s %s", say(v), v.Reason)
				}
				if other.breaker.fails != 0 {
					t.Error("the other is blamed")
				}
			})
		}
	}
}

// While a filter hangs on one message the others' are judged.
func TestFilterHangsOneSession(t *testing.T) {
	var once sync.Once
	over, asked := make(chan struct{}), make(chan struct{})
	f := fakeFilter(t, func(_ int, f wire.Frame) string {
		if milter.Code(f.Code) == milter.CodeEOB {
			first := false
			once.Do(func() { first = true })
			if first {
				close(asked)
				<-over
			}
		}
		return goOn
	})
	filter := &Filter{Label: "f", Address: f.addr()}
	done := make(chan policy.Verdict)
	d := doorOf(t, t.Context(), []policy.Filter{filter})
	go func() { done <- converse(d) }()
	<-asked
	for range 3 {
		other := doorOf(t, t.Context(), []policy.Filter{filter})
		if v := converse(other); v.Decided() {
			t.Errorf("another session: %s", say(v))
		}
		other.close()
	}
	close(over)
	if v := <-done; v.Decided() {
		t.Errorf("the one that waited: %s", say(v))
	}
	d.close()
}
