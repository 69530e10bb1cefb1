package postfix_test

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/moongate/moongate/test/postfix"
)

// client is the shortest SMTP client: it says a line and wants a code.
type client struct {
	t testing.TB
	net.Conn
	in *bufio.Reader
}

func dial(t testing.TB, addr string) *client {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(time.Minute))
	return &client{t, c, bufio.NewReader(c)}
}

func (c *client) want(code string) string {
	c.t.Helper()
	for {
		line, err := c.in.ReadString('\n')
		if err != nil {
			c.t.Fatalf("want %s: %v", code, err)
		}
		if len(line) > 3 && line[3] == '-' {
			continue
		}
		if !strings.HasPrefix(line, code) {
			c.t.Fatalf("got %q, want %s", line, code)
		}
		return line
	}
}

func (c *client) say(line, code string) string {
	c.t.Helper()
	fmt.Fprintf(c, "%s\r\n", line)
	return c.want(code)
}

const body = "From: a@example.com\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@example.com>\r\n" +
	"Subject: bytes\r\n\r\n..two dots were one\r\nlatin \xe4\r\n\r\n"

func (c *client) message(from, rcpt string) {
	c.t.Helper()
	c.say("MAIL FROM:<"+from+">", "250")
	c.say("RCPT TO:<"+rcpt+">", "250")
	c.say("DATA", "354")
	c.say(body+".", "250")
}

func TestDelivery(t *testing.T) {
	p := postfix.Start(t, postfix.Options{})
	c := dial(t, p.Addr)
	c.want("220")
	c.say("EHLO client.example.com", "250")
	c.message("a@example.com", `"x y"@example.org`)
	c.message("a@example.com", "v@elsewhere.example")
	c.say("QUIT", "221")
	msgs := p.Messages(1)
	if len(msgs) != 1 {
		t.Fatalf("%d messages inside, want 1", len(msgs))
	}
	want := strings.Replace(body, "\r\n..", "\r\n.", 1)
	if got := string(msgs[0].Body()); got != want {
		t.Errorf("delivered\n%q, want\n%q", got, want)
	}
	if len(msgs[0].Rcpts) != 1 || !strings.HasPrefix(msgs[0].Rcpts[0], `<"x y"@example.org>`) {
		t.Errorf("recipients %q", msgs[0].Rcpts)
	}
	if !strings.Contains(msgs[0].Received(), "client.example.com") {
		t.Errorf("Received: %q", msgs[0].Received())
	}
	// 127.0.0.1 may relay in a stock Postfix; it ends in the other sink.
	if out := p.Outside.Messages(); len(out) != 1 || !bytes.Equal(out[0].Body(), msgs[0].Body()) {
		t.Errorf("outside: %q", out)
	}
	p.WaitLog(`postfix/smtpd\[\d+\]: disconnect from .* quit=1`)
}

func TestHalfMessageIsNone(t *testing.T) {
	p := postfix.Start(t, postfix.Options{})
	c := dial(t, p.Addr)
	c.want("220")
	c.say("HELO client", "250")
	c.say("MAIL FROM:<a@example.com>", "250")
	c.say("RCPT TO:<b@example.org>", "250")
	c.say("DATA", "354")
	fmt.Fprint(c, body)
	c.Close()
	p.WaitLog(`lost connection after DATA`)
	if msgs := p.Messages(0); len(msgs) != 0 {
		t.Errorf("half a message was delivered: %q", msgs)
	}
}

func TestIdentities(t *testing.T) {
	t.Run("PROXY", func(t *testing.T) {
		p := postfix.Start(t, postfix.Options{Proxy: true})
		c := dial(t, p.Addr)
		fmt.Fprint(c, "PROXY TCP4 192.0.2.7 127.0.0.1 4711 25\r\n")
		c.want("220")
		c.say("EHLO c.example.com", "250")
		c.say("MAIL FROM:<a@example.com>", "250")
		c.say("RCPT TO:<v@elsewhere.example>", "454 4.7.1")
		c.message2("b@example.org")
		if r := p.Messages(1)[0].Received(); !strings.Contains(r, "[192.0.2.7]") {
			t.Errorf("Received: %q", r)
		}
	})
	t.Run("XCLIENT", func(t *testing.T) {
		p := postfix.Start(t, postfix.Options{XClient: true})
		c := dial(t, p.Addr)
		c.want("220")
		c.say("EHLO c.example.com", "250")
		c.say("XCLIENT ADDR=192.0.2.8 NAME=[UNAVAILABLE]", "220")
		c.say("EHLO d.example.com", "250")
		c.say("MAIL FROM:<a@example.com>", "250")
		c.say("RCPT TO:<v@elsewhere.example>", "454 4.7.1")
		c.message2("b@example.org")
		if r := p.Messages(1)[0].Received(); !strings.Contains(r, "[192.0.2.8]") {
			t.Errorf("Received: %q", r)
		}
	})
}

// message2 goes on in a transaction that has its MAIL.
func (c *client) message2(rcpt string) {
	c.t.Helper()
	c.say("RCPT TO:<"+rcpt+">", "250")
	c.say("DATA", "354")
	c.say(body+".", "250")
	c.say("QUIT", "221")
}

func TestRestart(t *testing.T) {
	p := postfix.Start(t, postfix.Options{})
	c := dial(t, p.Addr)
	c.want("220")
	p.Stop()
	if _, err := c.in.ReadString('\n'); err == nil {
		t.Error("a session outlived Stop")
	}
	if nc, err := net.Dial("tcp", p.Addr); err == nil {
		nc.Close()
		t.Fatal("somebody listens after Stop")
	}
	p.Restart()
	c = dial(t, p.Addr)
	c.want("220")
	c.say("HELO client", "250")
	c.message("a@example.com", "b@example.org")
	p.Messages(1)
}
