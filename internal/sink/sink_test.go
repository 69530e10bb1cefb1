package sink

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what must come. It is generous: a busy machine is no bug.
const patience = time.Minute

// serve runs a sink and returns its address and its Maildir's new directory.
func serve(t *testing.T, s *Server) (addr, stored string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return l.Addr().String(), serveOn(t, s, l)
}

func serveOn(t *testing.T, s *Server, l net.Listener) (stored string) {
	t.Helper()
	dir := t.TempDir()
	maildir, err := OpenMaildir(dir)
	if err != nil {
		t.Fatal(err)
	}
	s.Maildir = maildir
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithCancel(context.Background())
		cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("shutdown: %v", err)
		}
		if err := <-done; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return filepath.Join(dir, "new")
}

// pipes is a listener whose clients come through net.Pipe, which knows the time
// of a test's bubble.
type pipes struct {
	clients chan net.Conn
	closed  chan struct{}
	once    sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.clients:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.closed) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.TCPAddr{} }

// client speaks SMTP a line at a time and keeps the transcript.
type client struct {
	*testing.T
	net.Conn
	r *bufio.Reader
}

func dial(t *testing.T, addr string) *client {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	nc.SetDeadline(time.Now().Add(patience))
	return greeted(t, nc)
}

func greeted(t *testing.T, nc net.Conn) *client {
	t.Helper()
	t.Cleanup(func() { nc.Close() })
	c := &client{t, nc, bufio.NewReader(nc)}
	c.expect("220")
	return c
}

func (c *client) expect(prefix string) string {
	c.Helper()
	var reply strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		reply.WriteString(line)
		if err != nil {
			c.Fatalf("reading a reply that begins with %s: %v after %q", prefix, err, reply.String())
		}
		if len(line) > 3 && line[3] == ' ' {
			break
		}
	}
	if !strings.HasPrefix(reply.String(), prefix) {
		c.Fatalf("got %q, want %s", reply.String(), prefix)
	}
	return strings.TrimSpace(reply.String())
}

func (c *client) say(line, prefix string) string {
	c.Helper()
	fmt.Fprintf(c.Conn, "%s\r\n", line)
	return c.expect(prefix)
}

func files(t *testing.T, dir string) (contents []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			t.Fatal(err)
		}
		contents = append(contents, string(data))
	}
	return contents
}

func TestMessageIsStoredByteForByte(t *testing.T) {
	var told Stored
	addr, stored := serve(t, &Server{OnStored: func(s Stored) { told = s }})
	c := dial(t, addr)
	c.say("EHLO client.example", "250")
	c.say("MAIL FROM:<>", "250")
	c.say("MAIL FROM:<again@example.net>", "503")
	c.say("RCPT TO:<bob@example.org>", "250")
	c.say("RCPT TO:<eve@example.org>", "250")
	c.say("DATA", "354")
	body := "Subject: dots  and blanks \r\n\r\n.one dot\r\n..\r\n" + strings.Repeat("x", 100_000) + "\r\n\x00\xff\r\n"
	wire := strings.ReplaceAll(body, "\r\n.", "\r\n..")
	reply := c.say(wire+".", "250 2.0.0 Ok: queued as ")
	name := strings.TrimPrefix(reply, "250 2.0.0 Ok: queued as ")
	c.say("QUIT", "221")

	got, err := os.ReadFile(filepath.Join(stored, name))
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, []byte(body)) {
		t.Errorf("stored %d bytes, sent %d; first bytes %q", len(got), len(body), got[:40])
	}
	if told.Name != name || told.From != "" || len(told.To) != 2 || told.Size != int64(len(body)) {
		t.Errorf("told of %+v", told)
	}
}

// The rest of a body whose reading timed out is never taken for commands.
func TestTimeoutInBodyEndsTheConnection(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &pipes{clients: make(chan net.Conn), closed: make(chan struct{})}
		stored := serveOn(t, &Server{}, l)
		here, there := net.Pipe()
		l.clients <- there
		c := greeted(t, here)
		c.say("EHLO client.example", "250")
		c.say("MAIL FROM:<a@example.net>", "250")
		c.say("RCPT TO:<bob@example.org>", "250")
		c.say("DATA", "354")
		fmt.Fprint(c.Conn, "Subject: slow\r\n\r\n")
		// Nothing more: whatever it says, it must then close.
		start := time.Now()
		rest, _ := c.r.ReadString(0)
		if took := time.Since(start); took != 5*time.Minute {
			t.Errorf("it closed after %v", took)
		}
		if strings.Contains(rest, "250") {
			t.Errorf("after the timeout it said %q", rest)
		}
		if got := files(t, stored); len(got) != 0 {
			t.Errorf("stored %q", got)
		}
	})
}

func TestClientGoneInBody(t *testing.T) {
	addr, stored := serve(t, &Server{})
	c := dial(t, addr)
	c.say("EHLO client.example", "250")
	c.say("MAIL FROM:<a@example.net>", "250")
	c.say("RCPT TO:<bob@example.org>", "250")
	c.say("DATA", "354")
	fmt.Fprint(c.Conn, "Subject: half\r\n\r\nhalf of the ")
	c.Conn.(*net.TCPConn).CloseWrite()
	c.r.ReadString(0)
	if got := files(t, stored); len(got) != 0 {
		t.Errorf("stored %q", got)
	}
}

func TestSizeLimit(t *testing.T) {
	addr, stored := serve(t, &Server{MaxSize: 100})
	c := dial(t, addr)
	c.say("EHLO client.example", "250")
	c.say("MAIL FROM:<a@example.net>", "250")
	c.say("RCPT TO:<bob@example.org>", "250")
	c.say("DATA", "354")
	c.say(strings.Repeat("0123456789\r\n", 20)+".", "552")
	if got := files(t, stored); len(got) != 0 {
		t.Errorf("stored %q", got)
	}
}

func TestDiskTrouble(t *testing.T) {
	addr, stored := serve(t, &Server{})
	if err := os.RemoveAll(filepath.Dir(stored)); err != nil {
		t.Fatal(err)
	}
	c := dial(t, addr)
	c.say("EHLO client.example", "250")
	c.say("MAIL FROM:<a@example.net>", "250")
	c.say("RCPT TO:<bob@example.org>", "250")
	c.say("DATA", "354")
	c.say("Subject: x\r\n\r\nx\r\n.", "452 4.3.1")
}
