package test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moongate/moongate/test/moongate"
)

// patience bounds each wait of these tests. What has a limit of its own by the promise is measured.
const patience = 30 * time.Second

// session is a plain SMTP client that sees what it is answered and judges nothing.
type session struct {
	t testing.TB
	*net.TCPConn
	in *bufio.Reader
}

// connect opens a session from the given local address, "" for any.
func connect(t testing.TB, addr, from string) *session {
	t.Helper()
	d := net.Dialer{Timeout: patience}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	c, err := d.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return &session{t, c.(*net.TCPConn), bufio.NewReader(c)}
}

// reply reads one whole reply: its code, 0 at the end of the connection, and its text.
func (s *session) reply() (code int, text string) {
	s.t.Helper()
	s.SetReadDeadline(time.Now().Add(patience))
	for {
		line, err := s.in.ReadString('\n')
		if errors.Is(err, os.ErrDeadlineExceeded) {
			s.t.Fatalf("no reply in %v; so far %q", patience, text)
		}
		if err != nil {
			return 0, text
		}
		text += line
		if len(line) < 4 || line[3] != '-' {
			fmt.Sscanf(line, "%3d", &code)
			return code, text
		}
	}
}

// say sends a line and reads the reply.
func (s *session) say(line string) (int, string) {
	s.t.Helper()
	s.SetWriteDeadline(time.Now().Add(patience))
	io.WriteString(s, line+"\r\n")
	return s.reply()
}

// must is say where only one code will do.
func (s *session) must(line string, want int) string {
	s.t.Helper()
	code, text := s.say(line)
	if code != want {
		s.t.Fatalf("%s: got %q, want %d", line, text, want)
	}
	return text
}

// greet reads the greeting and says EHLO.
func (s *session) greet() *session {
	s.t.Helper()
	if code, text := s.reply(); code != 220 {
		s.t.Fatalf("greeted with %q", text)
	}
	s.must("EHLO client.example.com", 250)
	return s
}

// send sends a message, stuffed, and returns the first code that was neither 2xx nor 354, or the code
// after the dot.
func (s *session) send(from, rcpt, message string) (int, string) {
	s.t.Helper()
	for _, line := range []string{"MAIL FROM:<" + from + ">", "RCPT TO:<" + rcpt + ">", "DATA"} {
		code, text := s.say(line)
		if code/100 != 2 && code != 354 {
			return code, text
		}
	}
	return s.say(stuff(message) + ".")
}

// stuff doubles the dot at the beginning of a line.
func stuff(message string) string {
	message = strings.ReplaceAll(message, "\r\n.", "\r\n..")
	if strings.HasPrefix(message, ".") {
		message = "." + message
	}
	return message
}

// head is what Postfix would add for a client that it trusts; with it a message passes Postfix as it is.
func head(subject string) string {
	return "From: a@example.com\r\nTo: b@example.org\r\nDate: Sat, 21 Nov 2026 10:00:00 +0000\r\nMessage-ID: <" +
		subject + "@example.com>\r\nSubject: " + subject + "\r\n"
}

// freeAddr is a loopback address that nobody listens on now.
func freeAddr(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func pipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	return r, w
}

// serve runs `moongate serve` with its log in a file until the test ends, for tests that do without the
// help of package moongate.
func serve(t testing.TB, dir, log string) {
	t.Helper()
	f, err := os.Create(log)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(moongate.Binary(t, true), "serve", "-c", dir+"/moongate.toml")
	cmd.Stderr = f
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	f.Close()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
		defer timer.Stop()
		cmd.Wait()
	})
}
