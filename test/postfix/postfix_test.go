package postfix_test

import (
	"bytes"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/postfix"
)

const body = "From: a@example.com\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\nMessage-ID: <1@example.com>\r\n" +
	"Subject: bytes\r\n\r\n..two dots were one\r\nlatin \xe4\r\n\r\n"

// message sends body, which is stuffed as it stands.
func message(c *client.Client, from, rcpt string) {
	c.Must("250", "MAIL FROM:<"+from+">")
	last(c, rcpt)
}

// last is the rest of it, in a transaction that has its MAIL.
func last(c *client.Client, rcpt string) {
	c.Must("250", "RCPT TO:<"+rcpt+">")
	c.Must("354", "DATA")
	c.Must("250", body+".")
}

func TestDelivery(t *testing.T) {
	p := postfix.Start(t, postfix.Options{})
	c := client.Dial(t, p.Addr, "").Greet("client.example.com")
	message(c, "a@example.com", `"x y"@example.org`)
	message(c, "a@example.com", "v@elsewhere.example")
	c.Must("221", "QUIT")
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
	c := client.Dial(t, p.Addr, "")
	c.Reply()
	c.Must("250", "HELO client")
	c.Must("250", "MAIL FROM:<a@example.com>")
	c.Must("250", "RCPT TO:<b@example.org>")
	c.Must("354", "DATA")
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
		c := client.Dial(t, p.Addr, "")
		fmt.Fprint(c, "PROXY TCP4 192.0.2.7 127.0.0.1 4711 25\r\n")
		c.Greet("c.example.com")
		c.Must("250", "MAIL FROM:<a@example.com>")
		c.Must("454 4.7.1", "RCPT TO:<v@elsewhere.example>")
		last(c, "b@example.org")
		c.Must("221", "QUIT")
		if r := p.Messages(1)[0].Received(); !strings.Contains(r, "[192.0.2.7]") {
			t.Errorf("Received: %q", r)
		}
	})
	t.Run("XCLIENT", func(t *testing.T) {
		p := postfix.Start(t, postfix.Options{XClient: true})
		c := client.Dial(t, p.Addr, "").Greet("c.example.com")
		c.Must("220", "XCLIENT ADDR=192.0.2.8 NAME=[UNAVAILABLE]")
		c.Must("250", "EHLO d.example.com")
		c.Must("250", "MAIL FROM:<a@example.com>")
		c.Must("454 4.7.1", "RCPT TO:<v@elsewhere.example>")
		last(c, "b@example.org")
		c.Must("221", "QUIT")
		if r := p.Messages(1)[0].Received(); !strings.Contains(r, "[192.0.2.8]") {
			t.Errorf("Received: %q", r)
		}
	})
}

func TestRestart(t *testing.T) {
	p := postfix.Start(t, postfix.Options{})
	c := client.Dial(t, p.Addr, "")
	c.Reply()
	p.Stop()
	if r := c.Reply(); r != "" {
		t.Errorf("a session outlived Stop: %q", r)
	}
	if nc, err := net.Dial("tcp", p.Addr); err == nil {
		nc.Close()
		t.Fatal("somebody listens after Stop")
	}
	p.Restart()
	c = client.Dial(t, p.Addr, "")
	c.Reply()
	c.Must("250", "HELO client")
	message(c, "a@example.com", "b@example.org")
	p.Messages(1)
}
