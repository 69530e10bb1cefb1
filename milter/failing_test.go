package milter

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"net"
	"os"
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

// A badFilter answers everything with continue, but for the command at which
// it does what it should not.
type badFilter struct {
	l    net.Listener
	at   atomic.Int32 // the command's code; 0: it is good
	mode atomic.Value // string
	wg   sync.WaitGroup
	conn sync.Map
	hung chan struct{} // it hangs now, and did not before
}

func newBadFilter(t *testing.T) *badFilter {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &badFilter{l: l, hung: make(chan struct{}, 1)}
	b.mode.Store("")
	b.wg.Add(1)
	go b.accept()
	t.Cleanup(func() {
		l.Close()
		b.conn.Range(func(c, _ any) bool { c.(net.Conn).Close(); return true })
		b.wg.Wait()
	})
	return b
}

func (b *badFilter) addr() string { return b.l.Addr().String() }

func (b *badFilter) accept() {
	defer b.wg.Done()
	for {
		c, err := b.l.Accept()
		if err != nil {
			return
		}
		b.conn.Store(c, nil)
		b.wg.Add(1)
		go b.serve(c)
	}
}

func (b *badFilter) serve(c net.Conn) {
	defer b.wg.Done()
	defer b.conn.Delete(c)
	defer c.Close()
	r := wire.NewReader(c)
	for {
		f, err := r.Next()
		if err != nil {
			return
		}
		if int32(f.Code) == b.at.Load() {
			if !b.misbehave(c, r) {
				return
			}
			continue
		}
		switch milter.Code(f.Code) {
		case milter.CodeOptNeg:
			o, _ := wire.Options{Version: 6, Actions: 0x7f}.Frame()
			out, _ := o.Append(nil)
			c.Write(out)
		case milter.CodeMacro, milter.CodeAbort:
		case milter.CodeQuit:
			return
		default:
			out, _ := wire.Act(milter.ActContinue).Append(nil)
			c.Write(out)
		}
	}
}

var misdeeds = map[string]string{
	"close":             "",
	"zero frame":        "\x00\x00\x00\x00",
	"four gigabytes":    "\xff\xff\xff\xffc",
	"no such answer":    "\x00\x00\x00\x01?",
	"half an answer":    "\x00\x00\x00\x09y550",
	"reply of 250":      "\x00\x00\x00\x08y250 ok\x00",
	"reply in pieces":   "\x00\x00\x00\x0fy550-a\r\n451 b\x00",
	"skip not offered":  "\x00\x00\x00\x01s",
	"shutdown":          "\x00\x00\x00\x014",
	"not a milter":      "HTTP/1.1 400 Bad Request\r\n\r\n",
	"header with fault": "\x00\x00\x00\x0ahX\x00a\r\n.\r\n",
}

func (b *badFilter) misbehave(c net.Conn, r *wire.Reader) (goOn bool) {
	mode := b.mode.Load().(string)
	if mode == "hang" {
		select {
		case b.hung <- struct{}{}:
		default:
		}
		r.Next() // until the other side has enough
		return false
	}
	if answer, ok := ownMisdeeds.Load(mode); ok {
		c.Write([]byte(answer.(string)))
		r.Next() // until the other side has read it
		return false
	}
	c.Write([]byte(misdeeds[mode]))
	return false
}

// ownMisdeeds are those of single tests, by the test's name.
var ownMisdeeds sync.Map

func misdeed(t *testing.T, answer string) {
	ownMisdeeds.Store(t.Name(), answer)
	t.Cleanup(func() { ownMisdeeds.Delete(t.Name()) })
}

// A filter that hangs, dies or answers nonsense, at each stage: its on_error,
// in time.
func TestFilterFails(t *testing.T) {
	modes := []string{"hang"}
	for m := range misdeeds {
		modes = append(modes, m)
	}
	codes := "OCHMRTLNBE"
	for _, onError := range []policy.Action{policy.Tempfail, policy.Accept, policy.Reject} {
		for _, mode := range modes {
			t.Run(onError.String()+"/"+mode, func(t *testing.T) {
				t.Parallel()
				b := newBadFilter(t)
				b.mode.Store(mode)
				for _, code := range codes {
					b.at.Store(code)
					f := &Filter{Label: "bad", Address: b.addr(), OnError: onError}
					if mode == "hang" {
						f.ConnectTime, f.CommandTime, f.EndTime = 100*time.Millisecond, 100*time.Millisecond, 100*time.Millisecond
					}
					d := doorOf(t, t.Context(), []policy.Filter{f})
					start := time.Now()
					v := converse(d)
					if took := time.Since(start); took > 25*time.Second { // the filter's own time was taken: 30 s
						t.Errorf("at %c: %v", code, took)
					}
					want := onError
					if want == policy.Accept {
						want = policy.Continue
						if _, marked := d.s.Tx.Header().Get("X-Moongate-Unchecked", 1); !marked {
							t.Errorf("at %c: the message is not marked", code)
						}
					}
					if v.Action != want {
						t.Errorf("at %c: %s, want %s", code, say(v), want)
					}
					if onError != policy.Accept && !v.Failed {
						t.Errorf("at %c: the verdict does not say that the filter failed", code)
					}
					if d.logs.FilterMessage("filter failed").Len() == 0 {
						t.Errorf("at %c: nothing in the log", code)
					}
					d.done(v)
					// The filter is well again, and the session goes on.
					b.at.Store(0)
					f.ConnectTime, f.CommandTime, f.EndTime = 0, 0, 0
					if v := oneMessage(d); v.Decided() {
						t.Errorf("at %c: the next message: %s", code, say(v))
					}
					d.done(policy.Verdict{})
					d.close()
				}
			})
		}
	}
}

// converse plays a session up to the end of a message and returns the verdict
// that decided.
func converse(d *door) policy.Verdict {
	for _, v := range []policy.Verdict{d.connect(), d.helo("client.example")} {
		if v.Decided() {
			return v
		}
	}
	return oneMessage(d)
}

func oneMessage(d *door) policy.Verdict {
	if v := d.mail("a@example.net"); v.Decided() {
		return v
	}
	if v := d.rcpt("b@example.net"); v.Decided() {
		return v
	}
	return d.message(aHeader, "x\r\n")
}

// A filter that is lost at a command outside the message is missed in it: what
// it has not seen from MAIL on it is not asked about.
func TestFilterLostBetween(t *testing.T) {
	b := newBadFilter(t)
	b.mode.Store("close")
	b.at.Store('U')
	d := doorOf(t, t.Context(), []policy.Filter{&Filter{Address: b.addr()}})
	defer d.close()
	d.connect()
	d.helo("client.example")
	d.mail("a@example.net")
	d.rcpt("b@example.net")
	for range 2 {
		if v := d.s.Ask(&policy.Event{Hook: policy.Unknown, Line: []byte("WIZ")}); v.Decided() {
			t.Errorf("at the unknown command: %s", say(v))
		}
	}
	if v := d.rcpt("c@example.net"); v.Action != policy.Tempfail {
		t.Errorf("the next recipient: %s", say(v))
	}
	if v := d.message(aHeader, "x\r\n"); v.Action != policy.Tempfail {
		t.Errorf("the message: %s", say(v))
	}
	d.done(policy.Verdict{})
	if v := oneMessage(d); v.Decided() {
		t.Errorf("the next message: %s", say(v))
	}
}

// A client that goes away does not wait for its filter.
func TestFilterClientGone(t *testing.T) {
	b := newBadFilter(t)
	b.mode.Store("hang")
	b.at.Store('E')
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	d := doorOf(t, ctx, []policy.Filter{&Filter{Address: b.addr()}})
	defer d.close()
	waited := make(chan struct{})
	go func() {
		defer close(waited)
		select {
		case <-b.hung: // it was asked, and does not answer
		case <-ctx.Done():
		}
		cancel()
	}()
	if v := converse(d); v.Action != policy.Tempfail || !strings.HasSuffix(v.Reason, errGoneText) {
		t.Errorf("%s: %s", say(v), v.Reason)
	}
	cancel()
	<-waited
}

// errGoneText is how a verdict says that nobody waits for it.
const errGoneText = "the client is gone"

// 200 restarts of a filter leave no descriptor behind, whether it dies in the
// negotiation, in a message or is not there at all.
func TestFilterDescriptors(t *testing.T) {
	b := newBadFilter(t)
	b.mode.Store("zero frame")
	count := func() int {
		names, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Skip(err)
		}
		return len(names)
	}
	f := &Filter{Address: b.addr()}
	d := doorOf(t, t.Context(), []policy.Filter{f})
	d.connect()
	before := count()
	for n := range 200 {
		b.at.Store(int32("OCME"[n%4]))
		f.breaker.served()
		d.mail("a@example.net")
		if d.s.Tx != nil {
			d.rcpt("b@example.net")
			d.done(d.message(aHeader, "x\r\n"))
		}
	}
	b.at.Store(0)
	f.breaker.served()
	if v := oneMessage(d); v.Decided() {
		t.Errorf("the filter is back: %s", say(v))
	}
	d.close()
	// The other ends of the sockets are ours, too: they go when their
	// goroutines have read the end.
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		left := 0
		b.conn.Range(func(any, any) bool { left++; return true })
		if after := count(); left == 0 && after <= before {
			return
		} else if time.Now().After(deadline) {
			t.Fatalf("%d descriptors before, %d after, %d connections", before, after, left)
		}
	}
}

// A filter that is down is not dialled by every session.
func TestFilterBreaker(t *testing.T) {
	nobody := "unix:" + t.TempDir() + "/s"
	synctest.Test(t, func(t *testing.T) {
		f := &Filter{Address: nobody}
		dial := func() error {
			_, err := f.dial(t.Context(), time.Now().Add(time.Second))
			if err != errBreaker {
				f.breaker.failed(false)
			}
			return err
		}
		for range breakAfter {
			if err := dial(); !errors.Is(err, fs.ErrNotExist) {
				t.Fatalf("dial: %v", err)
			}
		}
		for range 2 {
			if err := dial(); err != errBreaker {
				t.Errorf("after %d failures: %v", breakAfter, err)
			}
			time.Sleep(probeEvery)
			if err := dial(); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("no probe is let through: %v", err)
			}
		}
	})
}

// While the breaker is open a session tells of the filter once: with the message
// that misses it.
func TestFilterBreakerTells(t *testing.T) {
	f := &Filter{Address: "unix:" + t.TempDir() + "/s", OnError: policy.Accept}
	for range breakAfter {
		f.breaker.failed(false)
	}
	d := doorOf(t, t.Context(), []policy.Filter{f})
	defer d.close()
	if v := converse(d); v.Decided() {
		t.Errorf("the message: %s", say(v))
	}
	if n := d.logs.FilterMessage("filter failed").Len(); n != 1 {
		t.Errorf("%d lines, want 1: %v", n, d.logs.FilterMessage("filter failed").All())
	}
}

// Old versions are taken, too, as they are: each hears what it knows and no more.
func TestFilterVersions(t *testing.T) {
	for version, want := range map[uint32]string{2: "CHMRLLLLLNBEAQ", 3: "CHUMRLLLLLNBEAQ", 4: "CHUMRTLLLLLNBEAQ", 5: "CHUMRTLLLLLNBEAQ", 6: "CHUMRTLLLLLNBEAQ"} {
		addr, heard := ofVersion(t, version)
		d := doorOf(t, t.Context(), []policy.Filter{&Filter{Address: addr}})
		d.connect()
		d.helo("client.example")
		d.s.Ask(&policy.Event{Hook: policy.Unknown, Line: []byte("WIZ")})
		if v := oneMessage(d); v.Decided() {
			t.Errorf("version %d: %s", version, say(v))
		}
		d.close()
		if got := <-heard; got != want {
			t.Errorf("version %d: heard %s, want %s", version, got, want)
		}
	}
	for _, version := range []uint32{0, 1} {
		addr, heard := ofVersion(t, version)
		d := greeted(t, &Filter{Address: addr})
		if v := oneMessage(d); v.Action != policy.Tempfail {
			t.Errorf("version %d: %s", version, say(v))
		}
		if got := <-heard; got != "" {
			t.Errorf("version %d: heard %s", version, got)
		}
	}
}

// A version may come an octet at a time.
func TestFilterVersionInPieces(t *testing.T) {
	ours, theirs := net.Pipe()
	defer ours.Close()
	c := newLazyConn(ours, 100)
	go func() {
		defer theirs.Close()
		for _, b := range []byte("\x00\x00\x00\x0dO\x00\x00\x00\x04\x00\x00\x00\x01\x00\x00\x00\x02") {
			theirs.Write([]byte{b})
		}
	}()
	got, err := io.ReadAll(c)
	if want := "\x00\x00\x00\x0dO\x00\x00\x00\x06\x00\x00\x00\x01\x00\x00\x00\x02"; string(got) != want || err != nil || c.version() != 4 {
		t.Errorf("the library reads %q, %v, of version %d", got, err, c.version())
	}
}

// ofVersion serves filters of a version until the test ends, and tells of each
// connection what it heard.
func ofVersion(t *testing.T, version uint32) (addr string, heard <-chan string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	said := make(chan string, 8)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			said <- serveVersion(c, version)
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l.Addr().String(), said
}

// serveVersion is a filter of a version; it returns the commands it heard.
func serveVersion(c net.Conn, version uint32) (heard string) {
	defer c.Close()
	r := wire.NewReader(c)
	for {
		f, err := r.Next()
		if err != nil {
			return heard
		}
		var out []byte
		switch milter.Code(f.Code) {
		case milter.CodeMacro:
			continue
		case milter.CodeOptNeg:
			o, _ := wire.Options{Version: version}.Frame()
			out, _ = o.Append(nil)
		case milter.CodeQuit:
			return heard + "Q"
		case milter.CodeAbort:
			heard += "A"
			continue
		default:
			heard += string(rune(f.Code))
			out, _ = wire.Act(milter.ActContinue).Append(nil)
		}
		c.Write(out)
	}
}
