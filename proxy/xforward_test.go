package proxy

import (
	"context"
	"net/netip"
	"strings"
	"testing"

	"github.com/moongate/moongate/policy"
)

func TestXText(t *testing.T) {
	for in, want := range map[string]string{
		"":                        "[UNAVAILABLE]",
		"mx.example":              "mx.example",
		"a b":                     "a+20b",
		"a+b=c":                   "a+2Bb+3Dc",
		"x ADDR=1.2.3.4":          "x+20ADDR+3D1.2.3.4",
		"x\r\nRCPT TO:<a>":        "x+0D+0ARCPT+20TO:+3Ca+3E",
		"a\"b\\c(d)[e]<f>;":       "a+22b+5Cc+28d+29+5Be+5D+3Cf+3E+3B",
		"[192.0.2.7]":             "+5B192.0.2.7+5D",
		"a-b_c:d@e/f":             "a-b_c:d@e/f",
		"\x00\x7f\xff":            "+00+7F+FF",
		"é":                       "+C3+A9",
		strings.Repeat("a", 255):  strings.Repeat("a", 255),
		strings.Repeat("a", 256):  "[UNAVAILABLE]",
		strings.Repeat(" ", 85):   strings.Repeat("+20", 85),
		strings.Repeat(" ", 86):   "[UNAVAILABLE]",
		strings.Repeat("\n", 999): "[UNAVAILABLE]",
	} {
		if got := xtext(in); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestHostName(t *testing.T) {
	for name, ok := range map[string]bool{
		"mx.example": true, "a_b.example": true, "1.mx": true, "MX": true, "xn--a.example": true,
		"": false, ".": false, "mx.": false, "-a.b": false, "a-.b": false, "a..b": false, "1.2.3.4": false,
		"p ADDR=127.0.0.1": false, "a=b": false, "é": false, "a\r\n": false,
		strings.Repeat("a", 63) + ".b": true, strings.Repeat("a", 64) + ".b": false,
		strings.Repeat("a.", 127) + "a": true, strings.Repeat("a.", 128) + "a": false,
	} {
		if got := hostName(name); got != "" != ok || ok && got != name {
			t.Errorf("%q: %q", name, got)
		}
	}
}

func FuzzXText(f *testing.F) {
	f.Add("a b=c+d\r\n")
	f.Fuzz(func(t *testing.T, s string) {
		x := xtext(s)
		if x == "" || len(x) > maxXValue || strings.ContainsAny(strings.TrimPrefix(x, unavailable), " =\r\n\x00\t\"\\()<>[]") || notASCII([]byte(x)) {
			t.Errorf("%q: %q", s, x)
		}
	})
}

// The identity goes out before every MAIL, in the same write; each message has
// its own.
func TestXForward(t *testing.T) {
	noLeaks(t)
	local := &policy.Facts{Remote: netip.MustParseAddrPort("[2001:db8::1]:25"), Proto: "SMTP"}
	s := startScripted(t, opening+`
		C: XFORWARD NAME=c.example ADDR=192.0.2.7 PORT=4711 PROTO=ESMTP HELO=client.example IDENT=S1.1 SOURCE=REMOTE
		C: MAIL FROM:<a@a.example>
		C: RCPT TO:<b@b.example>
		S: 250 2.0.0 Ok
		S: 250 2.1.0 Ok
		S: 550 5.1.1 no
		C: RSET
		S: 250 2.0.0 Ok
		C: XFORWARD NAME=[UNAVAILABLE] ADDR=IPV6:2001:db8::1 PORT=25 PROTO=SMTP HELO=[UNAVAILABLE] IDENT=L1.7 SOURCE=LOCAL
		C: MAIL FROM:<c@a.example>
		S: 250 2.0.0 Ok
		S: 250 2.1.0 Ok
		C: RSET
		S: 250 2.0.0 Ok
		C: XFORWARD NAME=[UNAVAILABLE] ADDR=[UNAVAILABLE] PORT=[UNAVAILABLE] PROTO=[UNAVAILABLE] HELO=[UNAVAILABLE] IDENT=[UNAVAILABLE] SOURCE=REMOTE
		C: MAIL FROM:<d@a.example>
		S: 250 2.0.0 Ok
		S: 421 4.3.2 bye
		eof`)
	h := s.hop(func(h *Hop) { h.Identity = IdentityXForward })
	u := mustGet(t, h, stranger)
	u.Begin(stranger, "S1.1")
	u.Send("MAIL", []byte("FROM:<a@a.example>"))
	u.Send("RCPT", []byte("TO:<b@b.example>"))
	for _, want := range []int{250, 550} {
		if r, err := u.Reply(context.Background()); err != nil || r.Code != want {
			t.Fatal(r, err)
		}
	}
	u.Return()
	u = mustGet(t, h, local)
	u.Begin(local, "L1.7")
	mustSay(t, u, 250, "MAIL", "FROM:<c@a.example>")
	u.Return()
	u = mustGet(t, h, local) // nobody said for whom: a stranger, never the last one again
	mustSay(t, u, 421, "MAIL", "FROM:<d@a.example>")
	u.Return()
}

// What is not offered is not sent, and long values go in several commands; one
// at a time, as this upstream takes no groups.
func TestXForwardOffered(t *testing.T) {
	long := &policy.Facts{Helo: strings.Repeat("h", 250), PTR: strings.Repeat("p.", 124) + "p", Proto: "ESMTP"}
	s := startScripted(t, `
		S: 220 up
		C: EHLO moon.example
		S: 250-up
		S: 250 XFORWARD name HELO PROTO
		C: XFORWARD NAME=`+long.PTR+` PROTO=ESMTP
		S: 250 Ok
		C: XFORWARD HELO=`+long.Helo+`
		S: 250 Ok
		C: MAIL FROM:<>
		S: 250 Ok
		C: RSET
		S: 250 Ok`)
	u := mustGet(t, s.hop(func(h *Hop) { h.Identity = IdentityXForward }), stranger)
	u.Begin(long, "X")
	mustSay(t, u, 250, "MAIL", "FROM:<>")
	u.Return()
}

// An upstream that does not take the identity gets no mail under another.
func TestXForwardRefused(t *testing.T) {
	noLeaks(t)
	s := startScripted(t, `
		S: 220 up
		C: EHLO moon.example
		S: 250 up
		eof`, opening+`
		C: XFORWARD NAME=c.example ADDR=192.0.2.7 PORT=4711 PROTO=ESMTP HELO=client.example IDENT=S1.1 SOURCE=REMOTE
		C: MAIL FROM:<>
		S: 550 5.7.0 not authorized
		S: 250 Ok
		eof`)
	h := s.hop(func(h *Hop) { h.Identity = IdentityXForward })
	_, err := h.Get(context.Background(), stranger)
	if he := hopError(t, err, "ehlo"); he.Reply.Code != 451 || he.Err != errNoForward {
		t.Error(he)
	}
	u := mustGet(t, h, stranger)
	u.Begin(stranger, "S1.1")
	u.Send("MAIL", []byte("FROM:<>"))
	_, err = u.Reply(context.Background())
	if he := hopError(t, err, "XFORWARD"); he.Reply.Code != 451 || he.Said.Code != 550 {
		t.Error(he)
	}
	u.Return()
}
