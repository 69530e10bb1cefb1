// Package client is an SMTP client for tests: it says what it is told and judges nothing. Real mail
// clients are in package clients.
package client

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// patience bounds each wait for a reply. It is generous: a busy machine is no bug, and what has a limit
// of its own is measured by the test.
const patience = 3 * time.Minute

// Client is one session. A reply is text as it came, its lines joined by LF, and "" at the end of the
// connection: half a reply is none. What is written to the connection itself is not in the transcript.
type Client struct {
	*net.TCPConn
	t   testing.TB
	in  *bufio.Reader
	out io.Writer
	log strings.Builder // shown when the test has failed
}

// Dial connects, from a local address or "" for any, and reads nothing yet. The connection is closed at
// the end of the test.
func Dial(t testing.TB, addr, from string) *Client {
	t.Helper()
	d := net.Dialer{Timeout: patience}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	conn, err := d.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c := &Client{t: t, TCPConn: conn.(*net.TCPConn), in: bufio.NewReader(conn), out: conn}
	t.Cleanup(func() {
		c.Close()
		if t.Failed() && shown.Add(1) <= 20 {
			t.Logf("transcript of the client at %s:\n%s", c.LocalAddr(), &c.log)
		}
	})
	return c
}

var shown atomic.Int32 // a test of thousands of sessions needs no thousands of transcripts

// Greet reads the greeting and says EHLO.
func (c *Client) Greet(name string) *Client {
	c.t.Helper()
	if r := c.Reply(); !strings.HasPrefix(r, "220") {
		c.t.Fatalf("greeted with %q", r)
	}
	c.Must("250", "EHLO "+name)
	return c
}

// Reply reads one whole reply.
func (c *Client) Reply() string {
	c.t.Helper()
	c.SetReadDeadline(time.Now().Add(patience))
	var lines []string
	for {
		line, err := c.in.ReadString('\n')
		if errors.Is(err, os.ErrDeadlineExceeded) {
			c.t.Fatalf("no reply in %v; so far %q", patience, lines)
		}
		if err != nil {
			c.note("S: ", fmt.Sprintf("%q %v\n", line, err))
			return ""
		}
		c.note("S: ", line)
		line = strings.TrimRight(line, "\r\n")
		lines = append(lines, line)
		if len(line) < 4 || line[3] != '-' {
			return strings.Join(lines, "\n")
		}
	}
}

// Code is the number of a reply, 0 at the end of the connection.
func Code(reply string) (n int) {
	fmt.Sscanf(reply, "%3d", &n)
	return n
}

// Say sends a line and reads the reply.
func (c *Client) Say(line string) string {
	c.t.Helper()
	c.note("C: ", line+"\n")
	c.SetWriteDeadline(time.Now().Add(patience))
	fmt.Fprintf(c.out, "%s\r\n", line)
	return c.Reply()
}

// Must is Say where only one reply will do: it begins with want.
func (c *Client) Must(want, line string) string {
	c.t.Helper()
	r := c.Say(line)
	if !strings.HasPrefix(r, want) {
		c.t.Fatalf("%s: got %q, want %s", clip(line), r, want)
	}
	return r
}

// Send sends a message, which it stuffs, to one recipient. It returns the first reply that is neither 2xx
// nor 3xx, or the one to the dot.
func (c *Client) Send(from, rcpt, message string) string {
	c.t.Helper()
	for _, line := range []string{"MAIL FROM:<" + from + ">", "RCPT TO:<" + rcpt + ">", "DATA"} {
		if r := c.Say(line); r == "" || r[0] != '2' && r[0] != '3' {
			return r
		}
	}
	return c.Say(Stuff(message) + ".")
}

// StartTLS goes on under TLS, whatever the certificate.
func (c *Client) StartTLS(max uint16) {
	c.t.Helper()
	c.Must("220", "STARTTLS")
	secure := tls.Client(c.TCPConn, &tls.Config{InsecureSkipVerify: true, MaxVersion: max})
	c.in, c.out = bufio.NewReader(secure), secure
}

// note keeps the transcript, and keeps it short.
func (c *Client) note(who, line string) {
	if c.log.Len() > 32<<10 {
		c.log.Reset()
		c.log.WriteString("[...]\n")
	}
	c.log.WriteString(who + clip(line))
}

func clip(s string) string {
	if len(s) > 500 {
		return s[:500] + "[...]\n"
	}
	return s
}

// Stuff doubles the dot at the beginning of a line.
func Stuff(message string) string {
	message = strings.ReplaceAll(message, "\r\n.", "\r\n..")
	if strings.HasPrefix(message, ".") {
		message = "." + message
	}
	return message
}

// Head is what Postfix would add for a client that it trusts; with it a message passes Postfix as it is.
func Head(subject string) string {
	return "From: a@example.com\r\nTo: b@example.org\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\nMessage-ID: <" +
		subject + "@example.com>\r\nSubject: " + subject + "\r\n"
}
