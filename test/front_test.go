package test

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/moongate"
	"github.com/moongate/moongate/test/postfix"
	"github.com/moongate/moongate/test/upstream"
)

// TestQuoted sends to local parts that need their quotes; Postfix has to deliver to them as they were
// sent, each to one recipient.
func TestQuoted(t *testing.T) {
	// By default Postfix itself takes the quotes away and sends "a@b"@example.org to a@b. That is why a
	// stranger may not say it to us; here it is about the octets.
	mta := postfix.Start(t, postfix.Options{Main: map[string]string{"resolve_dequoted_address": "no"}})
	p := moongate.Start(t, moongate.Options{Upstream: mta.Addr})
	s := client.Dial(t, p.Addr, "").Greet("client.example.com")
	rcpts := []string{
		`"a b"@example.org`, `"a@b"@example.org`, `"a\"b"@example.org`, `"a\\b"@example.org`, `"a,b"@example.org`,
		`"a<b>"@example.org`, `"> RCPT TO:<x"@example.org`, `a.b+c/d=e@example.org`, `"..a"@example.org`,
	}
	for _, r := range rcpts {
		if text := s.Send(`"f g"@example.com`, r, client.Head("quoted")+"\r\n"); !strings.HasPrefix(text, "250") {
			t.Errorf("%s: %q", r, text)
		}
	}
	got := map[string]bool{}
	for _, m := range mta.Messages(len(rcpts)) {
		addr, _, _ := strings.Cut(m.Rcpts[0], "> ORCPT")
		addr = strings.TrimSuffix(addr, ">")
		got[strings.TrimPrefix(addr, "<")] = true
		if !strings.HasPrefix(m.From, `<"f g"@example.com>`) || len(m.Rcpts) != 1 {
			t.Errorf("from %s to %q", m.From, m.Rcpts)
		}
	}
	for _, r := range rcpts {
		if !got[r] {
			t.Errorf("%s was not delivered; delivered were %v", r, got)
		}
	}
	if out := mta.Outside.Messages(); len(out) != 0 {
		t.Errorf("outside: %v", out)
	}
}

// TestDemo is the five-minute start: it ends with 0, and it says where the mail lies.
func TestDemo(t *testing.T) {
	code, out := moongate.Run(t, t.TempDir(), "demo", "--once")
	if code != 0 {
		t.Fatalf("exit code %d:\n%s", code, out)
	}
	for _, want := range []string{"250 ", "550 ", ".lua:", "Maildir"} {
		if !strings.Contains(out, want) && !strings.Contains(strings.ToLower(out), strings.ToLower(want)) {
			t.Errorf("the demo does not show %q:\n%s", want, out)
		}
	}
}

// TestAdmin looks at /healthz and /metrics.
func TestAdmin(t *testing.T) {
	up := upstream.Start(t, "")
	p := moongate.Start(t, moongate.Options{Upstream: up.Addr})
	if text := client.Dial(t, p.Addr, "").Greet("client.example.com").Send("a@example.com", "b@example.org", "x: y\r\n\r\n"); !strings.HasPrefix(text, "250") {
		t.Fatal(text)
	}
	get := func(path string) (int, string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		req, _ := http.NewRequestWithContext(ctx, "GET", "http://"+p.Admin+path, nil)
		tr := &http.Transport{DisableKeepAlives: true} // no proxy from the environment
		resp, err := tr.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, _ := io.ReadAll(resp.Body)
		return resp.StatusCode, string(b)
	}
	if code, text := get("/healthz"); code != 200 {
		t.Errorf("/healthz: %d %s", code, text)
	}
	code, text := get("/metrics")
	if code != 200 || !strings.Contains(text, "\nmoongate_") {
		t.Errorf("/metrics: %d %.500s", code, text)
	}
}

// TestGarbage sends what is no SMTP: octets at random, other protocols, lines without end, floods of
// commands. The program lives, answers the next client, and has told the upstream nothing.
func TestGarbage(t *testing.T) {
	up := upstream.Start(t, "")
	p := moongate.Start(t, moongate.Options{Upstream: up.Addr, Files: map[string]string{"scripts/10-hold.lua": hold}})
	r := rand.New(rand.NewPCG(1, 1))
	noise := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = byte(r.Uint32())
		}
		return b
	}
	inputs := [][]byte{
		nil, []byte("\r\n\r\n\r\n"), []byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n"), []byte("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"),
		bytes.Repeat([]byte("A"), 1<<20), bytes.Repeat([]byte("\x00"), 100_000), bytes.Repeat([]byte("\r"), 100_000),
		bytes.Repeat([]byte("\n"), 100_000), bytes.Repeat([]byte("NOOP\r\n"), 100_000), bytes.Repeat([]byte("EHLO c\r\n"), 10_000),
		bytes.Repeat([]byte("RSET\r\n"), 50_000), append([]byte("EHLO c\r\nMAIL FROM:<"), bytes.Repeat([]byte("a"), 10_000)...),
		[]byte("EHLO " + strings.Repeat("c", 2000) + "\r\n"), []byte("PROXY TCP4 192.0.2.1 127.0.0.1 1 2\r\nEHLO c\r\n"),
		[]byte("BDAT 4294967296 LAST\r\n"), []byte("STARTTLS\r\nAUTH PLAIN AGEAYg==\r\n"),
		[]byte("EHLO c\r\nMAIL FROM:<a@b> " + strings.Repeat("X=Y ", 500) + "\r\n"),
		[]byte("EHLO c\r\nMAIL FROM:<a@b> SIZE=99999999999999999999\r\n"), []byte("EHLO c\r\nMAIL FROM:<a@b> SIZE=-1\r\n"),
		[]byte("EHLO c\r\nMAIL FROM:<a@b> BODY=8BITMIME BODY=7BIT\r\n"), []byte("EHLO c\r\nMAIL FROM:<@,@:@>\r\n"),
	}
	for range 40 {
		inputs = append(inputs, noise(1+r.IntN(5000)))
	}
	for range 40 { // real commands with an octet changed
		talk := []byte("EHLO c.example.com\r\nMAIL FROM:<a@example.com> SIZE=10\r\nRCPT TO:<b@example.org>\r\nRSET\r\nVRFY x\r\n")
		for range 1 + r.IntN(3) {
			talk[r.IntN(len(talk))] = byte(r.Uint32())
		}
		inputs = append(inputs, talk)
	}
	var wg sync.WaitGroup
	slots := make(chan struct{}, 8)
	for _, in := range inputs {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			c, err := net.Dial("tcp", p.Addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(5 * patience)) // 100,000 commands, and a busy machine
			go func() {                                 // the answers may fill the socket before all is sent
				c.Write(in)
				c.(*net.TCPConn).CloseWrite()
			}()
			if out, err := io.ReadAll(c); err != nil && !strings.Contains(err.Error(), "reset") {
				t.Errorf("%.60q: %v after %.200q", in, err, out)
			}
		})
	}
	wg.Wait()
	if text := client.Dial(t, p.Addr, "").Greet("client.example.com").Send("a@example.com", "b@example.org", "x: y\r\n\r\n"); !strings.HasPrefix(text, "250") {
		t.Errorf("afterwards a message hears %q", text)
	}
	for _, l := range up.Lines(0) {
		if i := strings.IndexFunc(l, func(c rune) bool { return c < ' ' || c == 0x7f }); i >= 0 {
			t.Errorf("the upstream was told %q", l)
		}
	}
	if n := len(up.Messages()); n != 1 {
		t.Errorf("%d messages", n)
	}
}

// TestLogReader lets the reader of the log go away and hang: mail goes on.
func TestLogReader(t *testing.T) {
	up := upstream.Start(t, "")
	for _, how := range []string{"hangs", "is gone"} {
		t.Run(how, func(t *testing.T) {
			// The port has to be known without the log.
			addr := postfix.FreeAddr(t)
			dir := moongate.Write(t, moongate.Options{Upstream: up.Addr,
				Config: strings.Replace(moongate.Default, "127.0.0.1:0", addr, 1)})
			r, w := pipe(t)
			serve(t, dir, w)
			if how == "is gone" {
				r.Close()
			} else {
				defer r.Close()
			}
			serves(t, addr)
			s := client.Dial(t, addr, "").Greet("client.example.com")
			start := time.Now()
			for range 500 { // 64 KiB fit into a pipe; these are more
				if text := s.Send("a@example.com", "b@example.org", "x: y\r\n\r\n"); !strings.HasPrefix(text, "250") {
					t.Fatalf("%q", text)
				}
			}
			if took := time.Since(start); took > patience {
				t.Errorf("500 messages took %v", took)
			}
		})
	}
}
