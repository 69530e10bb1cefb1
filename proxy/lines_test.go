package proxy

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"
)

// tcpPair returns the two ends of a connection over loopback.
func tcpPair(t testing.TB) (ours, theirs net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	theirs, err = net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	if ours, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return ours, theirs
}

// bytesConn is a connection that yields its octets in pieces of at most step
// octets, and then its error.
type bytesConn struct {
	net.Conn
	data []byte
	step int
	err  error
}

func (c *bytesConn) Read(p []byte) (int, error) {
	if len(c.data) == 0 {
		return 0, c.err
	}
	n := min(len(p), len(c.data))
	if c.step > 0 {
		n = min(n, c.step)
	}
	copy(p, c.data[:n])
	c.data = c.data[n:]
	return n, nil
}

func (c *bytesConn) SetReadDeadline(time.Time) error  { return nil }
func (c *bytesConn) SetWriteDeadline(time.Time) error { return nil }
func (c *bytesConn) Write(p []byte) (int, error)      { return len(p), nil }
func (c *bytesConn) Close() error                     { return nil }

func TestLines(t *testing.T) {
	long := strings.Repeat("x", 100)
	type step struct {
		line string
		err  error
	}
	for name, tc := range map[string]struct {
		in     string
		strict bool
		want   []step
	}{
		"plain":            {in: "EHLO a\r\nQUIT\r\n", want: []step{{"EHLO a", nil}, {"QUIT", nil}, {"", io.EOF}}},
		"empty":            {in: "\r\n\r\n", want: []step{{"", nil}, {"", nil}, {"", io.EOF}}},
		"bare LF":          {in: "A\nB\r\n", want: []step{{"A", nil}, {"B", nil}}},
		"bare LF, strict":  {in: "A\nB\r\n", strict: true, want: []step{{"A", errBareLF}, {"B", nil}}},
		"CR inside":        {in: "A\rB\r\nC\r\n", want: []step{{"A\rB", errBadOctet}, {"C", nil}}},
		"CR CR LF":         {in: "A\r\r\nC\r\n", want: []step{{"A\r", errBadOctet}, {"C", nil}}},
		"NUL":              {in: "A\x00B\r\nC\r\n", want: []step{{"A\x00B", errBadOctet}, {"C", nil}}},
		"just fits":        {in: long[:64] + "\r\nB\r\n", want: []step{{long[:64], nil}, {"B", nil}}},
		"too long":         {in: long[:65] + "\r\nB\r\n", want: []step{{"", errLong}, {"B", nil}}},
		"too long, bare":   {in: long[:65] + "\nB\r\n", want: []step{{"", errLong}, {"B", nil}}},
		"much too long":    {in: strings.Repeat(long, 600) + "\r\nB\r\n", want: []step{{"", errLong}, {"B", nil}}},
		"endless":          {in: strings.Repeat(long, 2000) + "\r\nB\r\n", want: []step{{"", errEndless}, {"", errEndless}}},
		"unfinished":       {in: "QUIT", want: []step{{"", io.EOF}, {"", io.EOF}}},
		"unfinished by LF": {in: "A\r\nQUIT\r", want: []step{{"A", nil}, {"", io.EOF}}},
	} {
		for _, size := range []int{0, 1, 7} {
			l := newLines(&bytesConn{data: []byte(tc.in), step: size, err: io.EOF})
			l.strict = tc.strict
			for i, w := range tc.want {
				line, err := l.Line(64)
				if !errors.Is(err, w.err) || w.err == nil && err != nil || string(line) != w.line {
					t.Errorf("%s, by %d: line %d is %q, %v; want %q, %v", name, size, i, line, err, w.line, w.err)
				}
			}
		}
	}
}

// A line of exactly the buffer, and one octet more, must not wedge the reader.
func TestLinesBufferEdge(t *testing.T) {
	for _, n := range []int{lineBuffer - 3, lineBuffer - 2, lineBuffer - 1, lineBuffer, lineBuffer + 1} {
		in := strings.Repeat("y", n) + "\r\nNEXT\r\n"
		l := newLines(&bytesConn{data: []byte(in), step: 1000, err: io.EOF})
		line, err := l.Line(lineBuffer)
		if n <= lineBuffer-2 && (err != nil || len(line) != n) || n > lineBuffer-2 && err != errLong {
			t.Errorf("%d octets: %d, %v", n, len(line), err)
		}
		if line, err := l.Line(100); err != nil || string(line) != "NEXT" {
			t.Errorf("behind %d octets: %q, %v", n, line, err)
		}
	}
}

func TestLinesSpan(t *testing.T) {
	ours, theirs := tcpPair(t)
	l := newLines(ours)
	io.WriteString(theirs, "DATA\r\nbody octets\r\n.\r\nQUIT\r\n")
	if line, err := l.Line(64); err != nil || string(line) != "DATA" {
		t.Fatal(line, err)
	}
	var body []byte
	for !bytes.HasSuffix(body, []byte("\r\n.\r\n")) {
		span, err := l.Span()
		if err != nil {
			t.Fatal(err)
		}
		body = append(body, span[0])
		l.Consume(1)
	}
	if string(body) != "body octets\r\n.\r\n" {
		t.Errorf("body %q", body)
	}
	if line, err := l.Line(64); err != nil || string(line) != "QUIT" {
		t.Errorf("behind the body: %q, %v", line, err)
	}
	if l.Buffered() != 0 {
		t.Errorf("%d octets buffered", l.Buffered())
	}
}

func TestLinesStickyError(t *testing.T) {
	ours, theirs := tcpPair(t)
	l := newLines(ours)
	l.SetDeadline(longAgo)
	if _, err := l.Span(); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	// What arrives later must never be read: it was part of a body.
	io.WriteString(theirs, "MAIL FROM:<ceo@bank.example>\r\n")
	l.SetDeadline(time.Time{})
	if line, err := l.Line(64); err == nil {
		t.Errorf("read %q behind an error", line)
	}
}

func TestLinesWatch(t *testing.T) {
	for _, pipe := range []bool{false, true} {
		ours, theirs := tcpPair(t)
		if pipe {
			ours, theirs = net.Pipe()
			defer ours.Close()
			defer theirs.Close()
		}
		l := newLines(ours)
		l.SetDeadline(longAgo)
		if err := l.Watch(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		l.SetDeadline(time.Time{})
		go io.WriteString(theirs, "hello\r\n")
		if err := l.Watch(); err != nil || l.Buffered() == 0 {
			t.Error(err, l.Buffered())
		}
		if line, err := l.Line(64); err != nil || string(line) != "hello" {
			t.Errorf("%q, %v", line, err)
		}
	}
}

// A reader that waits holds no buffer.
func TestLinesParkHoldsNoBuffer(t *testing.T) {
	ours, theirs := tcpPair(t)
	l := newLines(ours)
	io.WriteString(theirs, "NOOP\r\n")
	if _, err := l.Line(64); err != nil {
		t.Fatal(err)
	}
	if l.buf == nil {
		t.Fatal("no buffer while its line is in use")
	}
	l.SetDeadline(longAgo)
	l.Park()
	if l.buf != nil {
		t.Error("a parked reader holds a buffer")
	}
	if n := testing.AllocsPerRun(100, func() {
		l.err = nil
		l.fillEmpty()
	}); n > 4 { // the timeout is an *OpError
		t.Errorf("%v allocations to wait", n)
	}
}

func TestLinesSetConn(t *testing.T) {
	ours, theirs := tcpPair(t)
	l := newLines(ours)
	io.WriteString(theirs, "STARTTLS\r\nMAIL FROM:<smuggled@example>\r\n")
	if _, err := l.Line(64); err != nil {
		t.Fatal(err)
	}
	for l.Buffered() == 0 {
		l.Park()
	}
	if err := l.SetConn(ours); err != errPlaintext {
		t.Errorf("SetConn with plaintext behind STARTTLS: %v", err)
	}
	l.Line(64)
	a, b := net.Pipe()
	defer a.Close()
	if err := l.SetConn(a); err != nil {
		t.Error(err)
	}
	go io.WriteString(b, "EHLO x\r\n")
	if line, err := l.Line(64); err != nil || string(line) != "EHLO x" {
		t.Errorf("%q, %v", line, err)
	}
}

func FuzzLines(f *testing.F) {
	f.Add([]byte("EHLO a\r\nMAIL FROM:<a@b>\nDATA\r\r\n\x00\r\n"), uint8(3))
	f.Add(bytes.Repeat([]byte("x"), 200), uint8(0))
	f.Fuzz(func(t *testing.T, in []byte, step uint8) {
		// The octets of all lines and their ends are those that came in, however
		// they came.
		read := func(step int) (out []string) {
			l := newLines(&bytesConn{data: bytes.Clone(in), step: step, err: io.EOF})
			for {
				line, err := l.Line(64)
				if err != nil && err != errLong && err != errBadOctet {
					return append(out, err.Error())
				}
				if err == nil && (len(line) > 64 || bytes.ContainsAny(line, "\r\n\x00")) {
					t.Errorf("line %q", line)
				}
				s := string(line)
				if err != nil {
					s += " " + err.Error()
				}
				out = append(out, s)
			}
		}
		whole, split := read(0), read(int(step)+1)
		if strings.Join(whole, "|") != strings.Join(split, "|") {
			t.Errorf("whole: %q\nsplit: %q", whole, split)
		}
	})
}
