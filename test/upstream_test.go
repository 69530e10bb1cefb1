package test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/moongate"
	"github.com/moongate/moongate/test/upstream"
)

// badUpstreams are servers that talk out of turn, stop in the middle, or never speak. limit is what the
// program's timeouts, set below, allow at most.
var badUpstreams = []struct{ name, script string }{
	{"stray reply behind EHLO", "EHLO 250-up|250 8BITMIME|250 stray"},
	{"stray reply behind MAIL", "MAIL 250 ok|550 stray"},
	{"stray 354 behind RCPT", "RCPT 250 ok|354 stray"},
	{"stray 250 behind the 354", "DATA 354 go|250 2.0.0 Ok: queued as STRAY\n. 550 5.7.1 no"},
	{"stray 250 behind a refused dot", ". 550 5.7.1 no|250 2.0.0 Ok: queued as STRAY"},
	{"stray 250 behind the greeting", "connect 220 up|250 stray"},
	{"half a stray reply", "RCPT raw:250 ok\\r\\n25"},
	{"greets and hangs", "EHLO !hang"},
	{"never greets", "connect !hang"},
	{"hangs at MAIL", "MAIL !hang"},
	{"hangs at RCPT", "RCPT !hang"},
	{"hangs at DATA", "DATA !hang"},
	{"hangs after the dot", ". !hang"},
	{"half a reply, then nothing", "MAIL raw:250-a\\r\\n250 !hang"},
	{"half a line, then nothing", "MAIL raw:25 !hang"},
	{"closes at the greeting", "connect !close"},
	{"resets at the greeting", "connect !reset"},
	{"greets 554", "connect 554 5.7.1 not you"},
	{"greets 421", "connect 421 4.3.2 busy !close"},
	{"greets with no SMTP", "connect SSH-2.0-OpenSSH_9.2"},
	{"never ends its EHLO", "EHLO raw:" + strings.Repeat("250-x\\r\\n", 200) + " !hang"},
	{"a line without end", "MAIL raw:250 " + strings.Repeat("x", 70_000) + " !hang"},
	{"refuses EHLO and HELO", "EHLO 502 no\nHELO 502 no"},
	{"354 to the dot", ". 354 go on"},
	{"250 to DATA", "DATA 250 ok"},
	{"220 to MAIL", "MAIL 354 what"},
	{"closes behind the 250", ". 250 2.0.0 Ok: queued as U{n} !close"},
}

// TestBadUpstreams: whatever the upstream does, the client is answered in time; a 250 after the dot is
// the upstream's own to this very message; everything else is temporary, but what the upstream itself
// has refused.
func TestBadUpstreams(t *testing.T) {
	for _, path := range paths {
		t.Run(path.name, func(t *testing.T) {
			for _, tc := range badUpstreams {
				t.Run(tc.name, func(t *testing.T) {
					t.Parallel()
					up := upstream.Start(t, tc.script)
					p := moongate.Start(t, moongate.Options{Upstream: up.Addr, Files: path.files,
						Config: moongate.Default + "\n[timeouts]\nconnect = \"1s\"\ncommand = \"1s\"\nblock = \"1s\"\nfinal = \"1s\"\n"})
					s := client.Dial(t, p.Addr, "").Greet("client.example.com")
					for n := range 2 {
						start := time.Now()
						name := fmt.Sprint("message-", n)
						text := s.Send("a@example.com", "b@example.org", "X: y\r\nSubject: "+name+"\r\n\r\n")
						code := client.Code(text)
						took := time.Since(start)
						if took > 30*time.Second { // dialled twice, each with its second; a busy machine
							t.Errorf("message %d: answered after %v", n, took)
						}
						accepted := 0
						for _, m := range up.Messages() {
							if m.Accepted && subject(m.Body()) == name {
								accepted++
							}
						}
						switch {
						case code == 250 && strings.Contains(text, "STRAY"):
							t.Errorf("message %d: a stray reply was taken for the answer: %q", n, text)
						case code == 250 && accepted != 1:
							t.Errorf("message %d: 250, and the upstream has accepted it %d times", n, accepted)
						case code/100 == 5 && !strings.Contains(tc.script, text[:9]):
							t.Errorf("message %d: %q is no word of the upstream's", n, text)
						case code != 250 && code/100 != 4 && code/100 != 5:
							t.Errorf("message %d: %q", n, text)
						}
						if code == 421 || code == 0 {
							return
						}
						if text := s.Say("RSET"); !strings.HasPrefix(text, "250") {
							t.Fatalf("message %d: RSET afterwards hears %q", n, text)
						}
					}
				})
			}
		})
	}
}

// TestUpstreamNotUp starts before its upstream, as after a power cut: clients hear 451 at MAIL, or 421
// once the breaker is open, and mail flows soon after the upstream is there; and again after a restart.
func TestUpstreamNotUp(t *testing.T) {
	up := upstream.Start(t, "")
	up.Stop()
	p := moongate.Start(t, moongate.Options{Upstream: up.Addr})
	s := client.Dial(t, p.Addr, "").Greet("client.example.com")
	if text := s.Say("MAIL FROM:<a@example.com>"); !strings.HasPrefix(text, "451 4.3.0 ") {
		t.Errorf("without upstream MAIL hears %q", text)
	}
	s.Close()
	for round := range 2 {
		up.Listen()
		start := time.Now()
		sent := wait(func() bool {
			s := client.Dial(t, p.Addr, "")
			defer s.Close()
			if r := s.Reply(); !strings.HasPrefix(r, "220") {
				return false
			}
			if r := s.Say("EHLO c"); !strings.HasPrefix(r, "250") {
				return false
			}
			return strings.HasPrefix(s.Send("a@example.com", "b@example.org", "Subject: x\r\n\r\n"), "250")
		})
		if took := time.Since(start); !sent || took > 20*time.Second {
			t.Errorf("round %d: mail flows %v after the upstream is there (%v)", round, took, sent)
		}
		up.Stop()
		s := client.Dial(t, p.Addr, "")
		if text := s.Reply(); strings.HasPrefix(text, "220") {
			s.Must("250", "EHLO c")
			if text = s.Say("MAIL FROM:<a@example.com>"); !strings.HasPrefix(text, "4") {
				t.Errorf("the upstream is gone: %q", text)
			}
		} else if !strings.HasPrefix(text, "421") {
			t.Errorf("the upstream is gone: greeted with %q", text)
		}
		s.Close()
	}
}
