package proxy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"

	"github.com/moongate/moongate/policy"
)

func addrOf(s string) netip.AddrPort {
	if s == "" {
		return netip.AddrPort{}
	}
	return netip.MustParseAddrPort(s)
}

// The header, as another implementation reads it.
func TestProxyHeader(t *testing.T) {
	for _, tc := range []struct{ remote, local, from, to string }{
		{"192.0.2.7:4711", "198.51.100.1:25", "192.0.2.7:4711", "198.51.100.1:25"},
		{"[2001:db8::7]:4711", "[2001:db8::1]:25", "[2001:db8::7]:4711", "[2001:db8::1]:25"},
		{"[::ffff:192.0.2.7]:4711", "[::ffff:198.51.100.1]:25", "192.0.2.7:4711", "198.51.100.1:25"},
		{"192.0.2.7:4711", "[2001:db8::1]:25", "192.0.2.7:4711", "0.0.0.0:25"},
		{"192.0.2.7:4711", "", "192.0.2.7:4711", "0.0.0.0:0"},
		{"[2001:db8::7]:4711", "198.51.100.1:25", "[2001:db8::7]:4711", "198.51.100.1:25"},
		{"[2001:db8::7]:4711", "", "[2001:db8::7]:4711", "[::]:0"},
		{"[fe80::1%eth0]:4711", "[fe80::2%eth0]:25", "[fe80::1]:4711", "[fe80::2]:25"},
	} {
		f := &policy.Facts{Remote: addrOf(tc.remote), Local: addrOf(tc.local), Stranger: true}
		b, err := proxyHeader(f)
		if err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(bytes.NewReader(append(b, "220"...)))
		h, err := proxyproto.Read(r)
		if err != nil {
			t.Fatalf("%+v: %v", tc, err)
		}
		rest, _ := r.ReadString(0)
		if h.Version != 2 || h.Command != proxyproto.PROXY || h.SourceAddr.String() != tc.from || h.DestinationAddr.String() != tc.to || rest != "220" {
			t.Errorf("%+v: %+v, rest %q", tc, h, rest)
		}
	}
	for name, f := range map[string]*policy.Facts{"probe": nil, "unix socket": {}} {
		b, err := proxyHeader(f)
		if err != nil {
			t.Fatal(err)
		}
		if h, err := proxyproto.Read(bufio.NewReader(bytes.NewReader(b))); err != nil || h.Command != proxyproto.LOCAL {
			t.Errorf("%s: %+v, %v", name, h, err)
		}
	}
	// A stranger never goes on as us.
	if b, err := proxyHeader(&policy.Facts{Stranger: true}); err == nil {
		t.Errorf("a stranger without address: %q", b)
	}
}

func TestXClientArg(t *testing.T) {
	const all = "NAME ADDR PORT PROTO HELO REVERSE_NAME LOGIN DESTADDR DESTPORT"
	full := &policy.Facts{Remote: addrOf("192.0.2.7:4711"), Local: addrOf("198.51.100.1:25"), PTR: "c.example", User: "joe@example.org", Stranger: true}
	for _, tc := range []struct {
		offered string
		f       *policy.Facts
		want    string
	}{
		{all, full, "ADDR=192.0.2.7 PORT=4711 NAME=c.example REVERSE_NAME=c.example LOGIN=joe@example.org DESTADDR=198.51.100.1 DESTPORT=25"},
		{"name addr", full, "ADDR=192.0.2.7 NAME=c.example"},
		{all, &policy.Facts{Remote: addrOf("[2001:db8::7]:1")}, "ADDR=IPV6:2001:db8::7 PORT=1 NAME=[UNAVAILABLE] REVERSE_NAME=[UNAVAILABLE] LOGIN=[UNAVAILABLE] DESTADDR=[UNAVAILABLE] DESTPORT=[UNAVAILABLE]"},
		{all, &policy.Facts{}, "ADDR=[UNAVAILABLE] PORT=[UNAVAILABLE] NAME=[UNAVAILABLE] REVERSE_NAME=[UNAVAILABLE] LOGIN=[UNAVAILABLE] DESTADDR=[UNAVAILABLE] DESTPORT=[UNAVAILABLE]"},
		{"ADDR NAME REVERSE_NAME", &policy.Facts{Remote: addrOf("192.0.2.7:1"), PTRTemp: true}, "ADDR=192.0.2.7 NAME=[TEMPUNAVAIL] REVERSE_NAME=[TEMPUNAVAIL]"},
		{"ADDR NAME", &policy.Facts{Remote: addrOf("192.0.2.7:1"), PTR: "[TEMPUNAVAIL]"}, "ADDR=192.0.2.7 NAME=[UNAVAILABLE]"},
		{"ADDR LOGIN NAME", &policy.Facts{Remote: addrOf("192.0.2.7:1"), User: "joe ADDR=127.0.0.1\r\nRCPT TO:<a>", PTR: strings.Repeat("p", 256)},
			"ADDR=192.0.2.7 NAME=[UNAVAILABLE] LOGIN=joe+20ADDR+3D127.0.0.1+0D+0ARCPT+20TO:+3Ca+3E"},
	} {
		if got, err := xclientArg(tc.f, tc.offered); err != nil || got != tc.want {
			t.Errorf("%q, %v\nwant %q", got, err, tc.want)
		}
	}
	if _, err := xclientArg(full, "NAME LOGIN"); err == nil {
		t.Error("without ADDR")
	}
}

const proxyHeard = "proxy 192.0.2.7:4711\n"

const behindProxy = proxyHeard + `
	S: 220 up ESMTP
	C: EHLO client.example
	S: 250-up
	S: 250 SIZE
	`

const beforeXClient = `
	S: 220 up ESMTP
	C: EHLO moon.example
	S: 250-up
	S: 250 XCLIENT NAME ADDR
	C: XCLIENT ADDR=192.0.2.7 NAME=c.example
	`

const behindXClient = beforeXClient + `
	S: 220 up ESMTP
	C: EHLO client.example
	S: 250-up
	S: 250 SIZE
	`

func TestIdentity(t *testing.T) {
	for id, opening := range map[Identity]string{IdentityProxy: behindProxy, IdentityXClient: behindXClient} {
		t.Run(fmt.Sprint(id), func(t *testing.T) {
			noLeaks(t)
			other := *stranger
			other.ID, other.Helo = "S2", "other.example"
			login := *stranger
			login.User = "joe"
			second := strings.ReplaceAll(opening, "client.example", "other.example")
			s := startScripted(t, opening+aMail+aMail, second+aMail, opening+aMail)
			h := s.hop(func(h *Hop) { h.Identity = id })
			// The messages of a session share a connection, and no other
			// session does.
			for range 2 {
				oneMail(t, h, stranger)
			}
			oneMail(t, h, &other)
			if s.accepted() != 2 {
				t.Error(s.accepted(), "connections")
			}
			h.Forget(other.ID)
			// A login since then: a new one.
			oneMail(t, h, &login)
			h.Forget(login.ID)
			if h.pool.open != 0 {
				t.Error(h.pool.open, "open")
			}
		})
	}
}

// Whose fault a refusal is. docs/mail.md 20.
func TestIdentityRefused(t *testing.T) {
	for name, tc := range map[string]struct {
		id      Identity
		script  string
		op      string
		verdict string // "" if the fault is ours
	}{
		"PROXY to a stock smtpd": {IdentityProxy, `
			S: 220 mta ESMTP
			S: 500 5.5.2 Error: bad syntax
			S: 500 5.5.2 Error: bad syntax
			S: 221 2.0.0 Bye
			hang`, "proxy", ""},
		"PROXY to a stock smtpd, slow": {IdentityProxy, proxyHeard + `
			S: 220 mta ESMTP
			C: EHLO client.example
			S: 500 5.5.2 Error: bad syntax
			S: 250 mta
			hang`, "proxy", ""},
		"PROXY, two greetings":      {IdentityProxy, proxyHeard + "S: 220 mta\nS: 220 mta\nhang", "ehlo", ""},
		"PROXY, closed":             {IdentityProxy, proxyHeard + "close", "greeting", ""},
		"PROXY, never greets":       {IdentityProxy, "hang", "greeting", ""},
		"PROXY, 554 greeting":       {IdentityProxy, proxyHeard + "S: 554 5.7.1 not you\neof", "greeting", "554 5.7.1 not you"},
		"PROXY, 421 greeting":       {IdentityProxy, proxyHeard + "S: 421 4.7.0 too many from you\nclose", "greeting", "421 4.7.0 too many from you"},
		"PROXY, EHLO refused":       {IdentityProxy, proxyHeard + "S: 220 up\nC: EHLO client.example\nS: 550 5.7.1 bad name\neof", "ehlo", "550 5.7.1 bad name"},
		"PROXY, EHLO 521":           {IdentityProxy, proxyHeard + "S: 220 up\nC: EHLO client.example\nS: 521 no\neof", "ehlo", ""},
		"PROXY, EHLO 220":           {IdentityProxy, proxyHeard + "S: 220 up\nC: EHLO client.example\nS: 220 up\neof", "ehlo", ""},
		"PROXY, 503 greeting":       {IdentityProxy, proxyHeard + "S: 503 5.5.1 early\neof", "greeting", ""},
		"unproven, 554 greeting":    {IdentityProxy, "S: 554 SMTP synchronization error\nhang", "greeting", ""},
		"unproven, 421 greeting":    {IdentityProxy, proxyHeard + "S: 421 4.7.0 too many from you\nclose", "greeting", ""},
		"unproven, EHLO 501":        {IdentityProxy, proxyHeard + "S: 220 up\nC: EHLO client.example\nS: 501 NUL characters are not allowed\nhang", "ehlo", ""},
		"unproven, EHLO 554":        {IdentityProxy, proxyHeard + "S: 220 up\nC: EHLO client.example\nS: 554 what\neof", "ehlo", ""},
		"XCLIENT 530":               {IdentityXClient, beforeXClient + "S: 530 5.7.0 STARTTLS first\neof", "xclient", ""},
		"XCLIENT, 554 greeting":     {IdentityXClient, "S: 554 5.7.1 not you\neof", "greeting", ""},
		"XCLIENT not offered":       {IdentityXClient, "S: 220 up\nC: EHLO moon.example\nS: 250 up\neof", "xclient", ""},
		"XCLIENT without ADDR":      {IdentityXClient, "S: 220 up\nC: EHLO moon.example\nS: 250-up\nS: 250 XCLIENT NAME\neof", "xclient", ""},
		"XCLIENT 550 5.7.0":         {IdentityXClient, beforeXClient + "S: 550 5.7.0 insufficient authorization\neof", "xclient", ""},
		"XCLIENT 501":               {IdentityXClient, beforeXClient + "S: 501 5.5.4 bad\neof", "xclient", ""},
		"XCLIENT 503":               {IdentityXClient, beforeXClient + "S: 503 5.5.1 bad\neof", "xclient", ""},
		"XCLIENT 250":               {IdentityXClient, beforeXClient + "S: 250 2.0.0 Ok\neof", "xclient", ""},
		"XCLIENT lost":              {IdentityXClient, beforeXClient + "close", "xclient", ""},
		"XCLIENT, 220 twice":        {IdentityXClient, beforeXClient + "S: 220 up\nS: 220 up\nhang", "ehlo", ""},
		"XCLIENT 550 5.7.1":         {IdentityXClient, beforeXClient + "S: 550 5.7.1 not you\neof", "xclient", "550 5.7.1 not you"},
		"XCLIENT 421":               {IdentityXClient, beforeXClient + "S: 421 4.7.0 too many\nclose", "xclient", "421 4.7.0 too many"},
		"XCLIENT, EHLO refused":     {IdentityXClient, beforeXClient + "S: 220 up\nC: EHLO client.example\nS: 450 4.7.1 later\neof", "ehlo", "450 4.7.1 later"},
		"XCLIENT, then no greeting": {IdentityXClient, beforeXClient + "S: 220 up\nC: EHLO client.example\nS: 502 what\nC: HELO client.example\nS: 502 what\neof", "ehlo", ""},
	} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			s := startScripted(t, tc.script, "hang") // for a probe
			h := s.hop(func(h *Hop) { h.Identity = tc.id })
			h.proven.Store(!strings.HasPrefix(name, "unproven"))
			if strings.HasSuffix(name, "never greets") {
				h.Wait = time.Second
			}
			_, err := h.Get(context.Background(), stranger)
			he := hopError(t, err, tc.op)
			if he.Verdict != (tc.verdict != "") || he.Verdict && string(he.Reply.Raw) != tc.verdict+"\r\n" || !he.Verdict && he.Reply.Code != 451 {
				t.Errorf("%+v", he)
			}
			if h.pool.open != 0 {
				t.Error(h.pool.open, "open")
			}
		})
	}
}

// A verdict on one client does not make the next one wait.
func TestIdentityVerdictIsNoOutage(t *testing.T) {
	refusal := proxyHeard + "S: 554 5.7.1 not you\neof"
	s := startScripted(t, refusal, refusal, refusal, refusal, behindProxy+aMail)
	h := s.hop(func(h *Hop) { h.Identity = IdentityProxy })
	h.proven.Store(true)
	for range 4 {
		_, err := h.Get(context.Background(), stranger)
		hopError(t, err, "greeting")
	}
	if h.Open() {
		t.Error("the breaker is open")
	}
	oneMail(t, h, stranger)
}

// An upstream that answers a PROXY header as it answers any early talker bounces
// nobody's mail. The probe that a refusal sets off decides about the next one.
func TestIdentityProven(t *testing.T) {
	for name, tc := range map[string]struct {
		probe   string
		verdict bool
	}{
		"a verdict on the client":   {"proxy local\nS: 220 up\nC: EHLO moon.example\nS: 250 up\nC: QUIT", true},
		"it does not know PROXY":    {"S: 554 SMTP synchronization error\nhang", false},
		"it takes it for commands":  {"S: 220 up\nS: 500 what\nhang", false},
		"it does not answer a EHLO": {"proxy local\nS: 220 up\nC: EHLO moon.example\nS: 554 no\neof", false},
	} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			refusal := "S: 554 SMTP synchronization error\nhang"
			s := startScripted(t, refusal, tc.probe, refusal, "hang")
			h := s.hop(func(h *Hop) { h.Identity = IdentityProxy })
			_, err := h.Get(context.Background(), stranger)
			if he := hopError(t, err, "greeting"); he.Verdict || he.Reply.Code != 451 || !strings.HasSuffix(he.Error(), "understands PROXY: 554 SMTP synchronization error") {
				t.Errorf("%+v", he)
			}
			h.breaker.probes.Wait()
			_, err = h.Get(context.Background(), stranger)
			if he := hopError(t, err, "greeting"); he.Verdict != tc.verdict || !tc.verdict && he.Reply.Code != 451 {
				t.Errorf("then %+v", he)
			}
		})
	}
}

// A client for whom the upstream does not even greet cannot open the breaker;
// the probe that looks into it can.
func TestIdentityNoGreeting(t *testing.T) {
	for name, tc := range map[string]struct {
		probe string
		open  bool
	}{
		"the client's fault":   {"proxy local\nS: 220 up\nC: EHLO moon.example\nS: 250 up\nC: QUIT", false},
		"the upstream is sick": {"proxy local\nclose", true},
	} {
		t.Run(name, func(t *testing.T) {
			noLeaks(t)
			refusal := proxyHeard + "close"
			s := startScripted(t, refusal, tc.probe, refusal, refusal, refusal)
			h := s.hop(func(h *Hop) { h.Identity = IdentityProxy })
			h.breaker.failures = breakerAfter - 1
			_, err := h.Get(context.Background(), stranger)
			hopError(t, err, "greeting")
			notYet(h) // a second one would be played what is for the client
			for range 3 {
				if h.breaker.open() != tc.open {
					t.Errorf("open: %v", !tc.open)
				}
				if !tc.open {
					_, err := h.Get(context.Background(), stranger)
					hopError(t, err, "greeting")
				}
			}
		})
	}
}

func TestIdentityProbe(t *testing.T) {
	noLeaks(t)
	s := startScripted(t, "proxy local\nS: 220 up\nC: EHLO moon.example\nS: 250-up\nS: 250 DSN\nC: QUIT")
	h := s.hop(func(h *Hop) { h.Identity = IdentityProxy })
	if err := h.Probe(context.Background()); err != nil || !h.Caps().Has("DSN") {
		t.Error(err, h.Caps())
	}
	s = startScripted(t, "S: 220 up\nC: EHLO moon.example\nS: 250-up\nS: 250 XCLIENT ADDR\nC: QUIT", "S: 220 up\nC: EHLO moon.example\nS: 250 up\neof")
	h = s.hop(func(h *Hop) { h.Identity = IdentityXClient })
	if err := h.Probe(context.Background()); err != nil {
		t.Error(err)
	}
	hopError(t, h.Probe(context.Background()), "xclient")
}

// A session's connection is given up for one that needs the place, and after
// Idle anyway.
func TestIdentityIdle(t *testing.T) {
	noLeaks(t)
	other := *stranger
	other.ID = "S2"
	s := startScripted(t, behindProxy+aMail, behindProxy+aMail, behindProxy+aMail)
	h := s.hop(func(h *Hop) { h.Identity, h.MaxConns, h.IdleAfter = IdentityProxy, 1, 20*time.Millisecond })
	for _, f := range []*policy.Facts{stranger, &other, stranger} {
		oneMail(t, h, f)
	}
	awaitEmpty(h)
}

func TestHeloName(t *testing.T) {
	for helo, want := range map[string]string{
		"client.example":         "client.example",
		"[192.0.2.7]":            "[192.0.2.7]",
		"":                       "ours",
		"a b":                    "ours",
		"a\r\nMAIL FROM:<>":      "ours",
		"é.example":              "ours",
		strings.Repeat("a", 256): "ours",
	} {
		if got := heloName(&policy.Facts{Helo: helo}, "ours"); got != want {
			t.Errorf("%q: %q", helo, got)
		}
	}
}
