package proxy

import (
	"context"
	"errors"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/moongate/moongate/policy"
)

// A transaction that was left open is reset before the next session's.
func TestPoolResets(t *testing.T) {
	noLeaks(t)
	s := startScripted(t, opening+`
		C: MAIL FROM:<a@a.example>
		S: 250 2.1.0 Ok
		C: RSET
		S: 250 2.0.0 Ok
		`+aMail)
	h := s.hop()
	u := mustGet(t, h, stranger)
	mustSay(t, u, 250, "MAIL", "FROM:<a@a.example>")
	u.Return()
	oneMail(t, h, stranger)
}

// Connections whose RSET is never answered do not use up the time that a new
// one needs for its greeting.
func TestPoolHangs(t *testing.T) {
	noLeaks(t)
	hangs := opening + `
		C: MAIL FROM:<a@a.example>
		S: 250 2.1.0 Ok
		C: RSET
		hang`
	s := startScripted(t, hangs, hangs, opening+aMail)
	h := s.hop()
	h.Wait = 6 * time.Second // 3 s for the first, 1.5 s for the second: a busy machine greets within what is left
	var all []Upstream
	for range 2 {
		u := mustGet(t, h, stranger)
		mustSay(t, u, 250, "MAIL", "FROM:<a@a.example>")
		all = append(all, u)
	}
	for _, u := range all {
		u.Return()
	}
	oneMail(t, h, stranger)
}

// What is not fit for another client is not given to one.
func TestPoolRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		script string
		use    func(t *testing.T, u Upstream)
	}{
		"AUTH was relayed": {"C: AUTH PLAIN AGEAYg==\nS: 235 2.7.0 Ok", func(t *testing.T, u Upstream) {
			mustSay(t, u, 235, "AUTH", "PLAIN AGEAYg==")
		}},
		"AUTH failed": {"C: AUTH PLAIN AGEAYg==\nS: 535 5.7.8 no", func(t *testing.T, u Upstream) {
			mustSay(t, u, 535, "AUTH", "PLAIN AGEAYg==")
		}},
		"five refusals": {strings.Repeat("C: RCPT TO:<x@b.example>\nS: 550 5.1.1 no\n", 5), func(t *testing.T, u Upstream) {
			for range 5 {
				mustSay(t, u, 550, "RCPT", "TO:<x@b.example>")
			}
		}},
		"fifty transactions": {strings.Repeat("C: MAIL FROM:<>\nS: 250 Ok\nC: RSET\nS: 250 Ok\n", 50), func(t *testing.T, u Upstream) {
			for range 50 {
				mustSay(t, u, 250, "MAIL", "FROM:<>")
				mustSay(t, u, 250, "RSET", "")
			}
		}},
		"421":             {"C: NOOP\nS: 421 4.3.2 bye\neof", func(t *testing.T, u Upstream) { mustSay(t, u, 421, "NOOP", "") }},
		"a reply is owed": {"hang", func(t *testing.T, u Upstream) { u.Send("NOOP", nil) }},
		"too old":         {"", func(t *testing.T, u Upstream) { u.(*conn).born = time.Now().Add(-time.Hour) }},
	} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			s := startScripted(t, opening+tc.script, opening+aMail)
			h := s.hop()
			u := mustGet(t, h, stranger)
			tc.use(t, u)
			u.Return()
			oneMail(t, h, stranger)
			if n := s.accepted(); n != 2 {
				t.Errorf("%d connections", n)
			}
		})
	}
	// An accepted message clears the account.
	s := startScripted(t, opening+strings.Repeat("C: RCPT TO:<x@b.example>\nS: 550 5.1.1 no\n", 4)+aMail+
		strings.Repeat("C: RCPT TO:<x@b.example>\nS: 550 5.1.1 no\n", 4)+aMail)
	h := s.hop()
	for range 2 {
		u := mustGet(t, h, stranger)
		for range 4 {
			mustSay(t, u, 550, "RCPT", "TO:<x@b.example>")
		}
		sendOne(t, u)
		u.Return()
	}
}

// An upstream that spoke or went away while its connection waited: another one
// is dialled, unseen.
func TestPoolStale(t *testing.T) {
	for name, script := range map[string]string{
		"idle 421":  "S: 421 4.4.2 timeout\nclose",
		"restart":   "close",
		"chatter":   "S: 250 Ok\nhang",
		"lost RSET": "C: MAIL FROM:<>\nS: 250 Ok\nC: RSET\nclose",
		"late 421":  "C: MAIL FROM:<>\nS: 250 Ok\nC: RSET\nS: 421 4.3.2 bye\nclose",
	} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			if !strings.HasPrefix(script, "C:") {
				script = aMail + "wait go\n" + script
			}
			s := startScripted(t, opening+script, opening+aMail)
			h := s.hop()
			u := mustGet(t, h, stranger)
			if strings.Contains(name, "4") == strings.Contains(name, "late") && name != "restart" && name != "chatter" {
				mustSay(t, u, 250, "MAIL", "FROM:<>")
			} else {
				sendOne(t, u)
			}
			u.Return()
			close(s.gate("go"))
			for u.(*conn).peer.Silent() {
				time.Sleep(time.Millisecond) // for the octets to arrive
			}
			oneMail(t, h, stranger)
			if n := s.accepted(); n != 2 {
				t.Errorf("%d connections", n)
			}
		})
	}
}

func TestPoolFull(t *testing.T) {
	noLeaks(t)
	s := startScripted(t, opening+aMail, opening+aMail+aMail)
	reg := prometheus.NewRegistry()
	h := s.hop(func(h *Hop) { h.MaxConns, h.Metrics = 2, NewHopMetrics(reg) })
	a, b := mustGet(t, h, stranger), mustGet(t, h, stranger)
	h.Wait = time.Second
	start := time.Now()
	_, err := h.Get(context.Background(), stranger)
	h.Wait = patience
	he := hopError(t, err, "wait")
	if took := time.Since(start); !errors.Is(he, errFull) || he.Reply.String() != "451 4.3.2 Too busy, please try again later" || took > patience {
		t.Errorf("%v after %s: %s", he, took, he.Reply)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := h.Get(ctx, stranger); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	// Who waits gets what is returned.
	wait := oneWaits(t, h)
	sendOne(t, b)
	b.Return()
	wait()
	sendOne(t, a)
	a.Return()
	if h.pool.open != 2 {
		t.Error(h.pool.open, "open")
	}
}

// A place that is given away by a connection that broke goes to who waits.
func TestPoolPlaceGoesOn(t *testing.T) {
	noLeaks(t)
	s := startScripted(t, opening+"hang", opening+aMail)
	h := s.hop(func(h *Hop) { h.MaxConns = 1 })
	a := mustGet(t, h, stranger)
	wait := oneWaits(t, h)
	a.Abort()
	a.Return()
	wait()
}

func TestPoolRetires(t *testing.T) {
	noLeaks(t)
	s := startScripted(t, opening+aMail+"C: QUIT\nS: 221 bye")
	h := s.hop(func(h *Hop) { h.IdleAfter = 20 * time.Millisecond })
	oneMail(t, h, stranger)
	awaitEmpty(h)
}

func TestHopClosed(t *testing.T) {
	noLeaks(t)
	s := startScripted(t, opening+aMail, opening+aMail)
	h := s.hop()
	a, b := mustGet(t, h, stranger), mustGet(t, h, stranger)
	sendOne(t, a)
	a.Return()
	h.Close()
	sendOne(t, b) // what is in use may end
	b.Return()
	_, err := h.Get(context.Background(), stranger)
	hopError(t, err, "wait")
	if h.pool.open != 0 {
		t.Error(h.pool.open, "open")
	}
}

// Openings that fail: a 4xx, whatever the upstream says, since it does not
// know the client; and the connection is closed.
func TestHopOpening(t *testing.T) {
	for name, tc := range map[string]struct {
		script string
		op     string
		said   int
		reply  int
		counts bool // towards the breaker
	}{
		"554 greeting":    {"S: 554 5.7.1 go away\neof", "greeting", 554, 451, true},
		"421 greeting":    {"S: 421 4.3.2 busy\nclose", "greeting", 421, 451, true},
		"250 greeting":    {"S: 250 hi\neof", "greeting", 250, 451, true},
		"no SMTP":         {"S: SSH-2.0-x\neof", "greeting", 0, 451, true},
		"closes":          {"close", "greeting", 0, 451, true},
		"never greets":    {"hang", "greeting", 0, 451, true},
		"550 to EHLO":     {"S: 220 hi\nC: EHLO moon.example\nS: 550 5.7.1 no\neof", "ehlo", 550, 451, false},
		"lost at EHLO":    {"S: 220 hi\nC: EHLO moon.example\nclose", "EHLO", 0, 451, false},
		"two greetings":   {"S: 220 hi\nS: 220 hi\nhang", "ehlo", 220, 451, false},
		"speaks unasked":  {opening + "S: 421 bye\nhang", "ehlo", 421, 451, false},
		"no HELO neither": {"S: 220 hi\nC: EHLO moon.example\nS: 502 no\nC: HELO moon.example\nS: 502 no\neof", "ehlo", 502, 451, false},
	} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			s := startScripted(t, tc.script)
			h := s.hop()
			if name == "never greets" {
				h.Wait = time.Second
			}
			_, err := h.Get(context.Background(), stranger)
			he := hopError(t, err, tc.op)
			if he.Said.Code != tc.said || he.Reply.Code != tc.reply || he.Verdict || h.breaker.failures > 0 != tc.counts {
				t.Errorf("%+v, %d failures", he, h.breaker.failures)
			}
			if name == "never greets" && policy.StatusText(he.Reply.Status) != "4.3.2" {
				t.Error(he.Reply)
			}
			if h.pool.open != 0 || h.Caps() != nil {
				t.Error(h.pool.open, "open", h.Caps())
			}
		})
	}
}

func TestHopHelo(t *testing.T) {
	noLeaks(t)
	s := startScripted(t, `S: 220 old
		C: EHLO moon.example
		S: 500 5.5.2 what
		C: HELO moon.example
		S: 250-old SIZE
		S: 250 DSN
		`+aMail)
	u := mustGet(t, s.hop(), stranger)
	if len(u.Caps().Lines()) != 0 {
		t.Error(u.Caps().Lines())
	}
	sendOne(t, u)
	u.Return()
}

func TestHopDown(t *testing.T) {
	noLeaks(t)
	address, listens := deaf(t)
	h := &Hop{Address: address, Hostname: "moon.example", Wait: patience}
	defer h.Close()
	for i := range breakerAfter {
		if h.Open() {
			t.Error("open after", i)
		}
		_, err := h.Get(context.Background(), stranger)
		hopError(t, err, "dial")
	}
	if !h.Open() {
		t.Error("not open")
	}
	notYet(h)
	if _, err := h.Get(context.Background(), stranger); !errors.Is(err, errBreaker) {
		t.Error(err)
	}
	// It comes back: Open's own probe, once a second, closes the breaker.
	playOn(t, listens(), opening+"C: QUIT")
	atOnce(h)
	for h.Open() {
		time.Sleep(10 * time.Millisecond) // the probe has its own time
	}
	if !h.Caps().Has("8BITMIME") {
		t.Error("the probe learned nothing")
	}
}

// An upstream whose queue of those that wait to be accepted is full is as busy
// as one that accepts and does not greet: 451 4.3.2 when the patience is used
// up, also once the breaker is open.
func TestHopFull(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		t.Run(network, func(t *testing.T) {
			noLeaks(t)
			h := &Hop{Address: fullUpstream(t, network), Hostname: "moon.example", Wait: 300 * time.Millisecond, Connect: patience}
			defer h.Close()
			for i := range breakerAfter + 1 {
				if i == breakerAfter {
					notYet(h)
				}
				_, err := h.Get(context.Background(), stranger)
				he := hopError(t, err, "dial")
				if he.Reply.String() != hopBusy.String() || errors.Is(err, errBreaker) != (i == breakerAfter) {
					t.Errorf("%v: %s", err, he.Reply)
				}
			}
		})
	}
}

// fullUpstream listens, accepts nobody, and has as many waiting as can.
func fullUpstream(t *testing.T, network string) string {
	t.Helper()
	address, prefix := "127.0.0.1:0", ""
	if network == "unix" {
		address, prefix = t.TempDir()+"/s", "unix:"
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	address = l.Addr().String()
	raw, err := l.(syscall.Conn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(fd uintptr) { err = unix.Listen(int(fd), 0) }) // of those that wait it keeps one
	for range 4 {
		c, derr := net.DialTimeout(network, address, time.Second)
		if err = derr; err != nil {
			break
		}
		t.Cleanup(func() { c.Close() })
	}
	if err == nil {
		t.Fatal("its queue is not full")
	}
	return prefix + address
}

// notYet lets the breaker's second not pass: no attempt is let through while it
// is open.
func notYet(h *Hop) { lastAttempt(h, time.Now().Add(time.Hour)) }

// atOnce lets it be over.
func atOnce(h *Hop) { lastAttempt(h, time.Time{}) }

func lastAttempt(h *Hop, at time.Time) {
	h.breaker.probes.Wait() // one that is under way would say otherwise
	h.breaker.mu.Lock()
	defer h.breaker.mu.Unlock()
	h.breaker.last = at
}

func TestHopUnixSocket(t *testing.T) {
	noLeaks(t)
	path := t.TempDir() + "/s"
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := playOn(t, l, opening+aMail)
	h := s.hop(func(h *Hop) { h.Address = "unix:" + path })
	oneMail(t, h, stranger)
}

func TestHopProbe(t *testing.T) {
	noLeaks(t)
	s := startScripted(t, opening+"C: QUIT")
	h := s.hop()
	if err := h.Probe(context.Background()); err != nil || !h.Caps().Has("PIPELINING") {
		t.Error(err, h.Caps())
	}
	if h.pool.open != 0 {
		t.Error("the probe stays")
	}
}
