package milter

import (
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/emersion/go-milter"

	"github.com/moongate/moongate/milter/wire"
	"github.com/moongate/moongate/policy"
)

// greeted is a session of these filters behind EHLO.
func greeted(t *testing.T, filters ...policy.Filter) *door {
	t.Helper()
	d := doorOf(t, t.Context(), filters)
	t.Cleanup(d.close)
	d.connect()
	d.helo("client.example")
	return d
}

// An answer too many to one question must not be taken for the answer to the
// next: at the end it would be a verdict on the message that nobody gave.
func TestFilterOutOfStep(t *testing.T) {
	for _, at := range []milter.Code{milter.CodeRcpt, milter.CodeData, milter.CodeEOH, milter.CodeBody} {
		f := fakeFilter(t, func(_ int, f wire.Frame) string {
			switch milter.Code(f.Code) {
			case at:
				return goOn + goOn
			case milter.CodeEOB:
				return refuse
			}
			return goOn
		})
		d := greeted(t, &Filter{Label: "f", Address: f.addr()})
		d.mail("a@example.net")
		v := d.rcpt("b@example.net")
		if !v.Decided() {
			v = d.message(aHeader, "x\r\n")
		}
		if v.Action != policy.Tempfail || !v.Failed {
			t.Errorf("two answers to %c, then a refusal: %s", at, say(v))
		}
		if !strings.Contains(v.Reason, errUninvited.Error()) {
			t.Errorf("two answers to %c: %s", at, v.Reason)
		}
	}
}

// A filter that was restarted between two messages is up: the next message is
// judged, on a new connection that was told who the client is. So is one that
// said something behind its verdict.
func TestFilterRestartedBetween(t *testing.T) {
	f := fakeFilter(t, func(conn int, f wire.Frame) string {
		if milter.Code(f.Code) == milter.CodeEOB && conn == 2 {
			return goOn + goOn
		}
		return goOn
	})
	d := greeted(t, &Filter{Label: "f", Address: f.addr()})
	for n := range 3 {
		if v := oneMessage(d); v.Decided() {
			t.Errorf("message %d: %s", n+1, say(v))
		}
		d.done(policy.Verdict{})
		if n == 0 {
			f.hangUp()
		}
	}
	f.hangUp()
	if v := d.helo("again.example"); v.Decided() {
		t.Error(say(v))
	}
	d.close()
	f.stop()
	want := []string{"CHMRTLLLLLNBE", "CHMRTLLLLLNBE", "CHMRTLLLLLNBE", "CH"}
	got := f.what()
	for i := range got {
		got[i] = strings.TrimRight(got[i], "AQ") // it says good-bye to those that hear it
	}
	if !slices.Equal(got, want) {
		t.Errorf("heard %q, want %q", got, want)
	}
	if n := d.logs.FilterMessage("filter failed").Len(); n != 0 {
		t.Errorf("%d failures", n)
	}
}

// One that takes what is said on a kept connection and closes it then is dialled
// once more, and no more than that.
func TestFilterClosesAtMail(t *testing.T) {
	f := fakeFilter(t, func(conn int, f wire.Frame) string {
		if milter.Code(f.Code) == milter.CodeMail && conn > 1 {
			return hangUp
		}
		return goOn
	})
	d := greeted(t, &Filter{Label: "f", Address: f.addr()})
	if v := oneMessage(d); v.Decided() {
		t.Fatal(say(v))
	}
	d.done(policy.Verdict{})
	f.hangUp()
	if v := d.mail("a@example.net"); v.Action != policy.Tempfail {
		t.Errorf("on a new connection: %s", say(v))
	}
	if got := f.what(); len(got) != 2 {
		t.Errorf("connections heard %q", got)
	}
	// One that is kept, and closed in the saying, as by a restart this moment.
	first := true
	g := fakeFilter(t, func(conn int, f wire.Frame) string {
		if milter.Code(f.Code) == milter.CodeMail && conn == 1 {
			if !first {
				return hangUp
			}
			first = false
		}
		return goOn
	})
	d = greeted(t, &Filter{Label: "g", Address: g.addr()})
	for range 2 {
		if v := oneMessage(d); v.Decided() {
			t.Errorf("on a kept connection: %s", say(v))
		}
		d.done(policy.Verdict{})
	}
}

// A filter that takes connections and then hangs or dies is as good as down: the
// breaker opens. Once it has judged a message again it is asked as ever.
func TestFilterBreakerInConversation(t *testing.T) {
	var well atomic.Bool
	f := fakeFilter(t, func(_ int, f wire.Frame) string {
		if milter.Code(f.Code) == milter.CodeEOB && !well.Load() {
			return hangUp
		}
		return goOn
	})
	filter := &Filter{Label: "f", Address: f.addr()}
	d := greeted(t, filter)
	for range breakAfter {
		if v := oneMessage(d); v.Action != policy.Tempfail {
			t.Fatal(say(v))
		}
		d.done(policy.Verdict{})
	}
	if err := dialOnce(t, filter); err != errBreaker {
		t.Errorf("after %d deaths: %v", breakAfter, err)
	}
	well.Store(true)
	filter.breaker.next = time.Time{} // the second has passed
	if v := oneMessage(d); v.Decided() {
		t.Errorf("well again: %s", say(v))
	}
	if err := dialOnce(t, filter); err != nil {
		t.Errorf("well again: %v", err)
	}
}

func dialOnce(t *testing.T, f *Filter) error {
	l, err := f.dial(t.Context(), time.Now().Add(patience))
	if err == nil {
		l.quit()
	}
	return err
}

// One that was only away is back with the first client that it is told of: clients
// that send no message must not keep it away.
func TestFilterBreakerReached(t *testing.T) {
	filter := &Filter{Label: "f", Address: fakeFilter(t, nil).addr()}
	for range breakAfter {
		filter.breaker.failed(false)
	}
	filter.breaker.next = time.Time{} // the second has passed
	greeted(t, filter)
	if err := dialOnce(t, filter); err != nil {
		t.Error(err)
	}
}

// What the breaker counts.
func TestFilterBlame(t *testing.T) {
	late := &Filter{Address: "unix:/nowhere"}
	for _, tc := range []struct {
		err  error
		fair bool
		want bool
	}{
		{errLost, true, false}, {errBreaker, true, false}, {errUnasked, true, false}, {errChange, true, false},
		{errHungUp, false, true}, {os.ErrDeadlineExceeded, true, true}, {os.ErrDeadlineExceeded, false, false},
		{errors.New("nonsense"), false, true},
	} {
		c := &conversation{f: late, fair: tc.fair}
		if got := c.blame(tc.err); got != tc.want {
			t.Errorf("%v, in fair time %v: %v", tc.err, tc.fair, got)
		}
	}
}

// A filter that says that it is still at it has its time anew, as long as the
// stage lasts.
func TestFilterProgress(t *testing.T) {
	const limit, step = time.Second, 900 * time.Millisecond
	for stage, want := range map[time.Duration]error{time.Minute: nil, 3 * time.Second: os.ErrDeadlineExceeded} {
		synctest.Test(t, func(t *testing.T) {
			ours, theirs := net.Pipe()
			c := newLazyConn(ours, 100)
			c.until(limit, time.Now().Add(stage))
			var filter sync.WaitGroup
			filter.Go(func() {
				defer theirs.Close()
				for range 5 {
					time.Sleep(step)
					for i := range atWork { // an octet at a time
						theirs.Write([]byte(atWork[i : i+1]))
					}
				}
				time.Sleep(step)
				theirs.Write([]byte(goOn))
			})
			got, err := io.ReadAll(io.LimitReader(c, int64(5*len(atWork)+len(goOn))))
			if !errors.Is(err, want) || want == nil && string(got) != strings.Repeat(atWork, 5)+goOn {
				t.Errorf("stage of %v: %q, %v", stage, got, err)
			}
			ours.Close()
			filter.Wait()
		})
	}
}

// What a filter says against a client or his name is said of the session, to
// each of its messages, also when it is dialled anew in between.
func TestFilterRefusesSession(t *testing.T) {
	for _, at := range []milter.Code{milter.CodeConn, milter.CodeHelo} {
		var bad atomic.Bool
		f := fakeFilter(t, func(_ int, f wire.Frame) string {
			if bad.Load() && milter.Code(f.Code) == at {
				return refuse
			}
			return goOn
		})
		d := greeted(t, &Filter{Label: "f", Address: f.addr()})
		if v := oneMessage(d); v.Decided() {
			t.Fatalf("%c: the first message: %s", at, say(v))
		}
		d.done(policy.Verdict{})
		bad.Store(true)
		if at == milter.CodeConn {
			f.hangUp()
		}
		for range 3 {
			if v := d.mail("a@example.net"); v.Action != policy.Reject {
				t.Errorf("%c: MAIL: %s", at, say(v))
			}
		}
	}
}
