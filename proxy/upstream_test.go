package proxy

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/moongate/moongate/policy"
)

var stranger = &policy.Facts{ID: "S1", Remote: netip.MustParseAddrPort("192.0.2.7:4711"), Helo: "client.example", Proto: "ESMTP", PTR: "c.example", Stranger: true}

func TestUpstreamMessage(t *testing.T) {
	noLeaks(t)
	s := startScripted(t, opening+aMail+aMail)
	h := s.hop()
	u := mustGet(t, h, stranger)
	if !u.Caps().Has("8BITMIME") || u.Caps().Size() != 1000000 || h.Caps() != u.Caps() {
		t.Error(u.Caps().Lines())
	}
	sendOne(t, u)
	u.Return()
	oneMail(t, h, stranger)
	if s.accepted() != 1 {
		t.Error("not pooled")
	}
}

// A group goes out in one write, and its replies come back in order, word for
// word.
func TestUpstreamPipelining(t *testing.T) {
	noLeaks(t)
	s := startScripted(t, opening+`
		C: MAIL FROM:<a@a.example> SIZE=10
		C: RCPT TO:<b@b.example>
		C: RCPT TO:<c@b.example>
		S: 250 2.1.0 Ok
		S: 550-5.1.1 <b@b.example>: no
		S: 550 5.1.1 such user
		S: 250 2.1.5 Ok
		C: RSET
		S: 250 2.0.0 Ok
		`)
	u := mustGet(t, s.hop(), stranger)
	defer u.Return()
	u.Send("MAIL", []byte("FROM:<a@a.example> SIZE=10"))
	u.Send("RCPT", []byte("TO:<b@b.example>"))
	u.Send("RCPT", []byte("TO:<c@b.example>"))
	for _, want := range []string{"250 2.1.0 Ok\r\n", "550-5.1.1 <b@b.example>: no\r\n550 5.1.1 such user\r\n", "250 2.1.5 Ok\r\n"} {
		if r, err := u.Reply(context.Background()); err != nil || string(r.Raw) != want {
			t.Fatalf("%q, %v; want %q", r.Raw, err, want)
		}
	}
}

// An upstream that does not announce PIPELINING hears one command at a time,
// whatever was queued.
func TestUpstreamLockStep(t *testing.T) {
	noLeaks(t)
	s := startScripted(t, `
		S: 220 up
		C: EHLO moon.example
		S: 250 up
		C: MAIL FROM:<>
		alone
		S: 250 Ok
		C: RCPT TO:<a@b.example>
		alone
		S: 250 Ok
		C: RSET
		S: 250 Ok`)
	u := mustGet(t, s.hop(), stranger)
	defer u.Return()
	u.Send("MAIL", []byte("FROM:<>"))
	u.Send("RCPT", []byte("TO:<a@b.example>"))
	u.Send("RSET", nil)
	for range 3 {
		if r, err := u.Reply(context.Background()); err != nil || r.Code != 250 {
			t.Fatal(r, err)
		}
	}
}

// A big group and an upstream that answers at length and reads on only when
// its answer is taken: neither waits for the other for ever.
func TestUpstreamBigGroup(t *testing.T) {
	noLeaks(t)
	ours, theirs := tcpPair(t)
	for _, c := range []net.Conn{ours, theirs} {
		c.(*net.TCPConn).SetReadBuffer(4096)
		c.(*net.TCPConn).SetWriteBuffer(4096)
	}
	const n = 150
	long := strings.Repeat("x", 900)
	done := make(chan struct{})
	go func() {
		defer close(done)
		r := bufio.NewReader(theirs)
		for range n {
			line, err := r.ReadString('\n')
			if err != nil {
				t.Error(err)
				return
			}
			io.WriteString(theirs, "250 2.1.5 "+line)
		}
	}()
	c := &conn{hop: &Hop{Command: patience, Block: patience}, nc: ours, rd: newLines(ours), caps: NewCaps("PIPELINING"), born: time.Now()}
	c.hop.pool.open = 1
	for range n {
		c.Send("RCPT", []byte("TO:<"+long+"@b.example>"))
	}
	for i := range n {
		if r, err := c.Reply(context.Background()); err != nil || r.Code != 250 {
			t.Fatal(i, r, err)
		}
	}
	ours.Close()
	<-done
}

// Nothing that a client or a script said can become a second command.
func TestUpstreamSendRefusesLineEnds(t *testing.T) {
	s := startScripted(t, opening)
	u := mustGet(t, s.hop(), stranger)
	defer u.Return()
	for _, arg := range []string{"TO:<a>\r\nRCPT TO:<b>", "TO:<a>\n", "\r", "a\x00"} {
		if err := u.Send("RCPT", []byte(arg)); err == nil {
			t.Errorf("%q was taken", arg)
		}
	}
	if err := u.Send("AGEA\r\nMAIL FROM:<>", nil); err == nil {
		t.Error("two lines of AUTH were taken")
	}
	if err := u.Send("DATA", nil); err == nil {
		t.Error("DATA was taken")
	}
}

func TestUpstreamDataRefused(t *testing.T) {
	noLeaks(t)
	s := startScripted(t, opening+`
		C: DATA
		S: 554 5.5.1 Error: no valid recipients
		C: NOOP
		S: 250 2.0.0 Ok
		`)
	u := mustGet(t, s.hop(), stranger)
	defer u.Return()
	w, r, err := u.Data(context.Background())
	if w != nil || err != nil || string(r.Raw) != "554 5.5.1 Error: no valid recipients\r\n" {
		t.Fatal(w, r, err)
	}
	mustSay(t, u, 250, "NOOP", "")
}

// An upstream that is lost, or talks nonsense, in each state: a 4xx, the
// connection is dropped, and what it said is taken for nothing.
func TestUpstreamLost(t *testing.T) {
	mail := "C: MAIL FROM:<a@a.example>\n"
	for name, script := range map[string]string{
		"close":            mail + "close",
		"reset":            mail + "reset",
		"half a reply":     mail + `R: 250 2.1.0 O` + "\nclose",
		"half a multiline": mail + "S: 250-2.1.0 Ok\nclose",
		"hang":             mail + "hang",
		"no code":          mail + "S: hello\nhang",
		"code 150":         mail + "S: 150 ok\nhang",
		"code 650":         mail + "S: 650 ok\nhang",
		"codes differ":     mail + "S: 250-ok\nS: 550 no\nhang",
		"354 to MAIL":      mail + "S: 354 go on\nhang",
		"CR inside":        mail + `R: 250 o\rk\r\n` + "\nhang",
		"101 lines":        mail + strings.Repeat("S: 250-x\n", 100) + "S: 250 x\nhang",
		"endless line":     mail + "R: 250 " + strings.Repeat("x", 100<<10) + "\nhang",
	} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			s := startScripted(t, opening+script, opening+aMail)
			h := s.hop()
			u := mustGet(t, h, stranger)
			h.Command = time.Second // for those that hang
			u.Send("MAIL", []byte("FROM:<a@a.example>"))
			r, err := u.Reply(context.Background())
			he := hopError(t, err, "MAIL")
			if !r.IsZero() || he.Reply.Code != 451 || he.Ambiguous || he.Verdict {
				t.Errorf("%s: %+v", r, he)
			}
			u.Return()
			// The next transaction gets a new one.
			h.Command = patience
			oneMail(t, h, stranger)
		})
	}
}

// Bytes that nobody asked for: noticed before anything is written, and never
// taken for the reply to what comes next.
func TestUpstreamGone(t *testing.T) {
	for name, script := range map[string]string{
		"idle 421":    "S: 421 4.4.2 timeout\nclose",
		"unasked 250": "S: 250 Ok\nhang",
		"close":       "close",
		"reset":       "reset",
	} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			s := startScripted(t, opening+"wait go\n"+script)
			u := mustGet(t, s.hop(), stranger)
			if !u.Alive() {
				t.Fatal("not alive")
			}
			close(s.gate("go"))
			for u.Alive() {
				time.Sleep(time.Millisecond) // for the octets to arrive; they say so in no other way
			}
			u.Send("MAIL", []byte("FROM:<a@a.example>"))
			if r, err := u.Reply(context.Background()); err != ErrGone || !r.IsZero() {
				t.Errorf("%s, %v", r, err)
			}
			u.Return()
		})
	}
}

// What comes behind a reply in the same segment is talk, too.
func TestUpstreamTwoReplies(t *testing.T) {
	noLeaks(t)
	s := startScripted(t, opening+`
		C: MAIL FROM:<a@a.example>
		S: 250 2.1.0 Ok
		S: 250 2.1.5 Ok
		eof`)
	u := mustGet(t, s.hop(), stranger)
	mustSay(t, u, 250, "MAIL", "FROM:<a@a.example>")
	u.Send("RCPT", []byte("TO:<b@b.example>"))
	if r, err := u.Reply(context.Background()); err != ErrGone {
		t.Errorf("%s, %v", r, err)
	}
	u.Return()
}

func TestUpstream421(t *testing.T) {
	noLeaks(t)
	s := startScripted(t, opening+`
		C: MAIL FROM:<a@a.example>
		S: 421 4.3.2 shutting down
		eof`, opening+aMail)
	h := s.hop()
	u := mustGet(t, h, stranger)
	r := mustSay(t, u, 421, "MAIL", "FROM:<a@a.example>")
	if string(r.Raw) != "421 4.3.2 shutting down\r\n" {
		t.Errorf("%q", r.Raw)
	}
	u.Return()
	oneMail(t, h, stranger)
}

const toData = `
	C: MAIL FROM:<a@a.example>
	S: 250 2.1.0 Ok
	C: DATA
	S: 354 go on
	`

func openData(t testing.TB, h *Hop, ctx context.Context) (Upstream, BodyWriter) {
	t.Helper()
	u := mustGet(t, h, stranger)
	mustSay(t, u, 250, "MAIL", "FROM:<a@a.example>")
	w, r, err := u.Data(ctx)
	if err != nil || w == nil {
		t.Fatal(r, err)
	}
	return u, w
}

// An abandoned body ends with the socket: no dot, RSET or QUIT, whatever was
// written before, and whatever is called behind.
func TestBodyAbort(t *testing.T) {
	big := strings.Repeat(strings.Repeat("x", 98)+"\r\n", 1000)
	for name, end := range map[string]func(u Upstream, w BodyWriter){
		"abort the body":     func(u Upstream, w BodyWriter) { w.Abort() },
		"abort the upstream": func(u Upstream, w BodyWriter) { u.Abort() },
		"return only":        func(u Upstream, w BodyWriter) {},
		"abort, then end":    func(u Upstream, w BodyWriter) { w.Abort(); w.End(context.Background()) },
		"send, then reply": func(u Upstream, w BodyWriter) {
			u.Send("RSET", nil)
			u.Send("QUIT", nil)
			u.Reply(context.Background())
		},
		"second DATA": func(u Upstream, w BodyWriter) { u.Data(context.Background()) },
	} {
		for _, written := range []string{"", "half a line", big} {
			t.Run(fmt.Sprint(name, len(written)), func(t *testing.T) {
				noLeaks(t)
				script := opening + toData + "eof"
				if len(written) == len(big) {
					script = opening + toData + "body"
				}
				s := startScripted(t, script)
				u, w := openData(t, s.hop(), context.Background())
				if _, err := io.WriteString(w, written); err != nil {
					t.Fatal(err)
				}
				end(u, w)
				u.Return()
				if _, err := w.End(context.Background()); err == nil {
					t.Error("End behind the end")
				}
			})
		}
	}
}

func TestBodyBig(t *testing.T) {
	noLeaks(t)
	var b strings.Builder
	script := opening + toData
	for i := range 5000 {
		line := fmt.Sprintf("%d %s", i, strings.Repeat("y", i%90))
		if i%7 == 0 {
			line = "." + line
			script += "C: ." + line + "\n"
		} else {
			script += "C: " + line + "\n"
		}
		b.WriteString(line + "\r\n")
	}
	s := startScripted(t, script+"C: .\nS: 250 2.0.0 Ok\n"+aMail)
	h := s.hop()
	u, w := openData(t, h, context.Background())
	for p := b.String(); p != ""; {
		n := min(len(p), 5000)
		if _, err := io.WriteString(w, p[:n]); err != nil {
			t.Fatal(err)
		}
		p = p[n:]
	}
	r, err := w.End(context.Background())
	if err != nil || r.Code != 250 {
		t.Fatal(r, err)
	}
	sendOne(t, u) // the reader that was watched is in order
	u.Return()
}

// An upstream that refuses while the body is under way: its reply is kept,
// however it goes on, and even if it reads nothing more.
func TestBodyEarlyReply(t *testing.T) {
	line := strings.Repeat("x", 998) + "\r\n"
	for name, tc := range map[string]struct {
		script string
		code   int // of the reply for the peer
		early  bool
	}{
		"552, close":   {"S: 552 5.3.4 too big\nclose", 552, true},
		"452, hang":    {"S: 452 4.3.1 full\nwait end\nhang", 452, true},
		"multiline":    {"S: 552-5.3.4 too\nS: 552 5.3.4 big\nclose", 552, true},
		"503, close":   {"S: 503 5.5.1 what\nclose", 451, true},
		"500, hang":    {"S: 500 5.5.2 what\nwait end\nhang", 451, true},
		"421, close":   {"S: 421 4.3.2 bye\nclose", 451, true},
		"250":          {"S: 250 2.0.0 Ok\nwait end\nhang", 451, false},
		"354":          {"S: 354 go on\nwait end\nhang", 451, false},
		"nonsense":     {"S: what\nwait end\nhang", 451, false},
		"close":        {"close", 451, false},
		"half a reply": {"R: 552 5.3\nwait end\nhang", 451, false},
	} {
		for _, size := range []int{10, 64} { // what fits the buffer, and what is watched
			if name == "half a reply" && size == 10 {
				continue // takes two seconds
			}
			t.Run(fmt.Sprint(name, size), func(t *testing.T) {
				noLeaks(t)
				s := startScripted(t, opening+toData+"wait go\n"+tc.script)
				defer close(s.gate("end"))
				u, w := openData(t, s.hop(func(h *Hop) { h.Block = patience }), context.Background())
				defer u.Return()
				for range size {
					if _, err := io.WriteString(w, line); err != nil {
						t.Fatal(err)
					}
				}
				close(s.gate("go"))
				var err error
				if size > 32 {
					for err == nil { // until the socket is full, and beyond
						_, err = io.WriteString(w, line)
					}
				} else {
					for u.Alive() {
						time.Sleep(time.Millisecond) // for the octets to arrive
					}
					_, err = w.End(context.Background())
				}
				he := hopError(t, err, "body")
				if he.Reply.Code != tc.code || he.Early != tc.early || he.Verdict != (tc.early && tc.code != 451) || he.Ambiguous {
					t.Errorf("%+v", he)
				}
				if he.Verdict && !bytes.Equal(he.Reply.Raw, he.Said.Raw) {
					t.Errorf("%q", he.Reply.Raw)
				}
				if u.Alive() {
					t.Error("still alive")
				}
			})
		}
	}
}

// Behind the dot all is different: what went wrong there may have been taken.
func TestBodyAmbiguous(t *testing.T) {
	for name, script := range map[string]string{
		"close":    "close",
		"reset":    "reset",
		"hang":     "hang",
		"half":     "R: 250 2.0\nclose",
		"nonsense": "S: yes\nhang",
		"354":      "S: 354 go on\nhang",
	} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			s := startScripted(t, opening+toData+"C: x\nC: .\n"+script)
			u, w := openData(t, s.hop(func(h *Hop) { h.Final = time.Second }), context.Background()) // for those that hang
			io.WriteString(w, "x\r\n")
			r, err := w.End(context.Background())
			he := hopError(t, err, "dot")
			if !r.IsZero() || !he.Ambiguous || he.Reply.Code != 451 || policy.StatusText(he.Reply.Status) != "4.4.2" {
				t.Errorf("%s %+v", r, he)
			}
			u.Return()
		})
	}
}

func TestBodyRefused(t *testing.T) {
	noLeaks(t)
	s := startScripted(t, opening+toData+"C: x\nC: .\nS: 550 5.7.1 spam\n"+aMail)
	u, w := openData(t, s.hop(), context.Background())
	io.WriteString(w, "x")
	r, err := w.End(context.Background())
	if err != nil || string(r.Raw) != "550 5.7.1 spam\r\n" {
		t.Fatal(r, err)
	}
	sendOne(t, u)
	u.Return()
}

// The end of the client's context ends whatever is waited for, at once, with
// the socket and without a dot.
func TestUpstreamCancel(t *testing.T) {
	never := func(h *Hop) {
		h.Command, h.Final, h.Block, h.Wait, h.Connect = time.Hour, time.Hour, time.Hour, time.Hour, time.Hour
	}
	gone := errors.New("client gone")
	start := func() (context.Context, context.CancelCauseFunc) {
		return context.WithCancelCause(context.Background())
	}
	check := func(t *testing.T, err error) {
		t.Helper()
		if !errors.Is(err, gone) {
			t.Error(err)
		}
	}
	t.Run("greeting", func(t *testing.T) {
		noLeaks(t)
		s := startScripted(t, proxyHeard+"tell heard\nhang")
		h := s.hop(never, func(h *Hop) { h.Identity = IdentityProxy })
		ctx, cancel := start()
		s.told("heard", func() { cancel(gone) })
		_, err := h.Get(ctx, stranger)
		check(t, err)
		if h.breaker.failures != 0 {
			t.Error("counted as the upstream's failure")
		}
	})
	t.Run("reply", func(t *testing.T) {
		noLeaks(t)
		s := startScripted(t, opening+"C: MAIL FROM:<>\ntell heard\nhang")
		u := mustGet(t, s.hop(never), stranger)
		ctx, cancel := start()
		s.told("heard", func() { cancel(gone) })
		u.Send("MAIL", []byte("FROM:<>"))
		_, err := u.Reply(ctx)
		check(t, err)
		u.Return()
	})
	t.Run("body", func(t *testing.T) {
		noLeaks(t)
		s := startScripted(t, opening+toData+"wait end\nhang")
		ctx, cancel := start()
		u, w := openData(t, s.hop(never), ctx)
		time.AfterFunc(100*time.Millisecond, func() { cancel(gone) })
		var err error
		for err == nil {
			_, err = io.WriteString(w, strings.Repeat("x", 5000)+"\r\n")
		}
		check(t, err)
		u.Return()
		close(s.gate("end"))
	})
	t.Run("before the dot", func(t *testing.T) {
		noLeaks(t)
		ctx, cancel := start()
		u, w := openData(t, startScripted(t, opening+toData+"eof").hop(never), ctx)
		io.WriteString(w, "x\r\n")
		cancel(gone)
		_, err := w.End(context.Background())
		check(t, err)
		if he := hopError(t, err, "body"); he.Ambiguous {
			t.Error("ambiguous")
		}
		u.Return()
	})
	t.Run("behind the dot", func(t *testing.T) { // the client's leaving changes nothing any more
		noLeaks(t)
		ctx, cancel := start()
		s := startScripted(t, opening+toData+"C: .\ntell heard\nwait go\nS: 250 2.0.0 Ok")
		u, w := openData(t, s.hop(never), ctx)
		s.told("heard", func() { cancel(gone); close(s.gate("go")) })
		if r, err := w.End(context.Background()); err != nil || r.Code != 250 {
			t.Error(r, err)
		}
		u.Return()
	})
	t.Run("dot", func(t *testing.T) {
		noLeaks(t)
		s := startScripted(t, opening+toData+"C: .\ntell heard\nhang")
		u, w := openData(t, s.hop(never), context.Background())
		ctx, cancel := start()
		s.told("heard", func() { cancel(gone) })
		_, err := w.End(ctx)
		check(t, err)
		if he := hopError(t, err, "dot"); !he.Ambiguous {
			t.Error("not ambiguous")
		}
		u.Return()
	})
}

// What a body needs from the upstream's point of view: nothing is held back
// for long while the client is slow.
func TestBodyTrickle(t *testing.T) {
	noLeaks(t)
	s := startScripted(t, opening+toData+"C: first\nC: second\nwait end\nC: .\nS: 250 Ok")
	u, w := openData(t, s.hop(), context.Background())
	w.(*body).last = time.Now().Add(-bodyAge)
	io.WriteString(w, "first\r\nsecond\r\n")
	close(s.gate("end"))
	if r, err := w.End(context.Background()); err != nil || r.Code != 250 {
		t.Fatal(r, err)
	}
	u.Return()
}

func BenchmarkUpstreamMessage(b *testing.B) {
	s := startScripted(b, opening+aMail) // the wire is not what is measured
	u := mustGet(b, s.hop(), stranger).(*conn)
	sendOne(b, u)
	conn := &bytesConn{}
	u.nc.Close()
	u.nc, u.rd, u.peer = conn, newLines(conn), nil
	replies := []byte("250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n354 go\r\n250 2.0.0 queued as 4711\r\n")
	msg := []byte(aMessage)
	from, to := []byte("FROM:<a@a.example>"), []byte("TO:<b@b.example>")
	b.ReportAllocs()
	for b.Loop() {
		u.refusals, u.mails = 0, 0
		conn.data = replies[:28]
		u.Send("MAIL", from)
		u.Send("RCPT", to)
		u.Reply(context.Background())
		u.Reply(context.Background())
		conn.data = replies[28:36]
		w, _, err := u.Data(context.Background())
		if err != nil {
			b.Fatal(err)
		}
		w.Write(msg)
		conn.data = replies[36:]
		if _, err := w.End(context.Background()); err != nil {
			b.Fatal(err)
		}
	}
	u.dead.Store(true)
}
