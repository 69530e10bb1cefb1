package deploy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// patience bounds each wait. What has a limit of its own is measured.
const patience = 30 * time.Second

// client speaks SMTP and keeps a transcript, which a failed test shows.
type client struct {
	t testing.TB
	net.Conn
	in  *bufio.Reader
	log strings.Builder
}

// dial connects from an address, "" for any, and waits for no greeting.
func dial(t testing.TB, addr, from string) *client {
	t.Helper()
	d := net.Dialer{Timeout: patience}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(patience))
	cl := &client{t: t, Conn: c, in: bufio.NewReader(c)}
	t.Cleanup(func() {
		c.Close()
		if t.Failed() {
			t.Logf("transcript of the client from %s:\n%s", from, &cl.log)
		}
	})
	return cl
}

// connect dials, reads the greeting and says EHLO.
func connect(t testing.TB, addr, from, helo string) *client {
	t.Helper()
	c := dial(t, addr, from)
	if r := c.reply(); !strings.HasPrefix(r, "220 ") {
		t.Fatalf("greeted with %q", r)
	}
	c.must("250", "EHLO "+helo)
	return c
}

// reply reads one whole reply; its lines are joined by LF. It is "" at the end of the connection.
func (c *client) reply() string {
	c.t.Helper()
	var lines []string
	for {
		line, err := c.in.ReadString('\n')
		if err == io.EOF || line == "" && err != nil && !isTimeout(err) {
			return strings.Join(lines, "\n")
		}
		if err != nil {
			c.t.Fatalf("read: %v", err)
		}
		c.log.WriteString("S: " + line)
		line = strings.TrimRight(line, "\r\n")
		lines = append(lines, line)
		if len(line) < 4 || line[3] != '-' {
			return strings.Join(lines, "\n")
		}
	}
}

func isTimeout(err error) bool {
	ne, ok := err.(net.Error)
	return ok && ne.Timeout()
}

func (c *client) say(line string) string {
	c.t.Helper()
	c.log.WriteString("C: " + line + "\n")
	fmt.Fprintf(c, "%s\r\n", line)
	return c.reply()
}

// must is say where only one answer will do.
func (c *client) must(prefix, line string) string {
	c.t.Helper()
	r := c.say(line)
	if !strings.HasPrefix(r, prefix) {
		c.t.Fatalf("%s: got %q, want %s", line, r, prefix)
	}
	return r
}

// send sends a message and returns the first reply that refuses, or the one to the dot.
func (c *client) send(from, rcpt, message string) string {
	c.t.Helper()
	for _, line := range []string{"MAIL FROM:<" + from + ">", "RCPT TO:<" + rcpt + ">", "DATA"} {
		if r := c.say(line); r == "" || r[0] != '2' && r[0] != '3' {
			return r
		}
	}
	return c.say(stuff(message) + ".")
}

// stuff doubles the dot at the beginning of a line.
func stuff(message string) string {
	message = strings.ReplaceAll(message, "\r\n.", "\r\n..")
	if strings.HasPrefix(message, ".") {
		message = "." + message
	}
	return message
}

// letter is a message that Postfix has nothing to add to but its Received line.
func letter(subject string) string {
	return "From: a@example.com\r\nTo: b@example.org\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\nMessage-ID: <" +
		subject + "@example.com>\r\nSubject: " + subject + "\r\n\r\nHello.\r\n"
}
