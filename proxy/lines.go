package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/moongate/moongate/internal/socket"
)

// Errors of lines.Line that leave the connection usable: the line is gone, what
// follows it is the next line.
var (
	errLong     = errors.New("line too long")
	errBareLF   = errors.New("line ends in a bare LF")
	errBadOctet = errors.New("line holds a CR or NUL")
)

// errEndless ends a connection whose peer sends a line without end.
var errEndless = errors.New("line without end")

// errPlaintext is what SetConn answers when octets that came in clear would be
// taken for octets of the encrypted connection (STARTTLS injection,
// CVE-2011-0411).
var errPlaintext = errors.New("plaintext behind STARTTLS")

const (
	lineBuffer = 16 << 10 // the size of a buffer, and the longest line one can ask for
	lineSkip   = 64 << 10 // how much of a line beyond its limit is skipped before the peer is given up
)

var linePool = sync.Pool{New: func() any { return new([lineBuffer]byte) }}

// lines is the only reader of a wire in this package, the client's and the
// upstream's: lines first, then spans of a body, then lines again, out of one
// buffer, so that no octet is ever read by two readers. While it waits with
// nothing in the buffer it holds no buffer. It is not safe for concurrent use,
// but SetDeadline may be called from any goroutine.
//
// An error of the connection is sticky: after it nothing more is read, so what
// was left of a broken body can never be taken for commands.
type lines struct {
	conn   net.Conn
	raw    syscall.RawConn // nil if the connection is no socket of ours (TLS, a pipe)
	buf    *[lineBuffer]byte
	r, w   int
	err    error
	strict bool // a bare LF is an error, not the end of a line
	waited bool // the last Span had to wait for its octets

	got  int                // for readReady
	bad  error              // for readReady
	wait func(uintptr) bool // readReady, once: a method value allocates
	one  [1]byte
}

// newLines makes a reader of c.
func newLines(c net.Conn) *lines {
	l := &lines{}
	l.wait = l.readReady
	l.use(c)
	return l
}

func (l *lines) use(c net.Conn) {
	l.conn, l.raw = c, nil
	if s, ok := c.(syscall.Conn); ok {
		l.raw, _ = s.SyscallConn()
	}
}

// SetConn goes on reading from c, which took the place of the connection
// (STARTTLS). It fails if octets of the old one are still unread.
func (l *lines) SetConn(c net.Conn) error {
	if l.Buffered() > 0 {
		return errPlaintext
	}
	l.use(c)
	return nil
}

// SetDeadline sets when reading ends with a timeout; zero means never.
func (l *lines) SetDeadline(t time.Time) error { return l.conn.SetReadDeadline(t) }

// Buffered returns how many octets are here unread.
func (l *lines) Buffered() int { return l.w - l.r }

// Line returns the next line without its end, valid until the next call. max
// is the longest line in octets, at most 16 KiB. Of a longer one the rest is
// skipped and errLong returned; a line that holds a bare CR or NUL is
// errBadOctet; one that ends in a bare LF is, if strict is set, errBareLF. Any
// other error is the connection's, and final.
func (l *lines) Line(max int) ([]byte, error) {
	if max > lineBuffer-2 {
		max = lineBuffer - 2
	}
	seen := 0 // octets of the buffer known to hold no LF
	for {
		if l.Buffered() > seen {
			have := l.buf[l.r:l.w]
			if i := bytes.IndexByte(have[seen:], '\n'); i >= 0 {
				line := have[:seen+i]
				l.r += seen + i + 1
				return l.check(line, max)
			}
			seen = len(have)
		}
		if seen > max+1 { // the line and a CR
			return nil, l.skip()
		}
		if err := l.fill(); err != nil {
			return nil, err
		}
	}
}

func (l *lines) check(line []byte, max int) ([]byte, error) {
	bare := true
	if n := len(line); n > 0 && line[n-1] == '\r' {
		line, bare = line[:n-1], false
	}
	switch {
	case len(line) > max:
		return nil, errLong
	case bytes.IndexByte(line, '\r') >= 0 || bytes.IndexByte(line, 0) >= 0:
		return line, errBadOctet
	case bare && l.strict:
		return line, errBareLF
	}
	return line, nil
}

// skip drops the rest of a line that is too long.
func (l *lines) skip() error {
	for skipped := 0; skipped < lineSkip; {
		have := l.buf[l.r:l.w]
		if i := bytes.IndexByte(have, '\n'); i >= 0 {
			l.r += i + 1
			return errLong
		}
		skipped += len(have)
		l.r = l.w
		if err := l.fill(); err != nil {
			return err
		}
	}
	return l.fail(errEndless)
}

// Span returns what is here of a body, at least one octet; valid until the
// next call. What Consume does not take stays for the next Span or Line.
func (l *lines) Span() ([]byte, error) {
	l.waited = false
	if l.Buffered() == 0 {
		if err := l.fill(); err != nil {
			return nil, err
		}
	}
	return l.buf[l.r:l.w], nil
}

// Consume takes n octets of the last Span.
func (l *lines) Consume(n int) {
	if n < 0 || n > l.Buffered() {
		panic("proxy: consumed more than there is")
	}
	l.r += n
}

// Park waits until there is something to read, holding no buffer meanwhile.
// (Line and Span do the same when nothing is buffered; Park is for who wants
// to set another deadline once the peer has begun to speak.)
func (l *lines) Park() error {
	if l.Buffered() > 0 {
		return nil
	}
	return l.fill()
}

// Watch is Park for who is interrupted by SetDeadline and then reads on: a
// timeout is not final.
func (l *lines) Watch() error {
	if l.Buffered() > 0 {
		return nil
	}
	return l.More()
}

// More is Watch for who may have a part of a line: it waits for the next octets,
// whatever is here.
func (l *lines) More() error {
	err := l.fill()
	if errors.Is(err, os.ErrDeadlineExceeded) {
		l.err = nil
	}
	return err
}

// Release gives the buffer back; what is unread is gone. The reader answers
// net.ErrClosed from then on.
func (l *lines) Release() {
	l.r = l.w
	l.free()
	l.fail(net.ErrClosed)
}

func (l *lines) fail(err error) error {
	if l.err == nil {
		l.err = err
	}
	return l.err
}

func (l *lines) take() {
	if l.buf == nil {
		l.buf = linePool.Get().(*[lineBuffer]byte)
	}
}

// free gives an empty buffer back.
func (l *lines) free() {
	if l.r < l.w || l.buf == nil {
		return
	}
	linePool.Put(l.buf)
	l.buf, l.r, l.w = nil, 0, 0
}

// fill reads at least one octet more.
func (l *lines) fill() error {
	if l.err != nil {
		return l.err
	}
	if l.Buffered() == 0 {
		l.free()
		return l.fillEmpty()
	}
	if l.r > 0 {
		l.w = copy(l.buf[:], l.buf[l.r:l.w])
		l.r = 0
	}
	if l.w == lineBuffer {
		return l.fail(fmt.Errorf("%w: buffer full", errEndless))
	}
	n, err := l.conn.Read(l.buf[l.w:])
	l.w += n
	if n > 0 {
		return nil // an error comes again
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return l.fail(err)
}

// fillEmpty waits for the next octets without a buffer. On a socket the buffer
// is taken only once there is something to read; elsewhere one octet is read
// first, into the smallest of buffers.
func (l *lines) fillEmpty() error {
	if l.raw != nil {
		l.got, l.bad = 0, nil
		if err := l.raw.Read(l.wait); err != nil {
			l.free()
			return l.fail(err)
		}
		if l.bad != nil {
			l.free()
			return l.fail(l.bad)
		}
		l.w = l.got
		return nil
	}
	l.waited = true // as far as can be seen
	n, err := l.conn.Read(l.one[:])
	if n == 0 {
		if err == nil {
			err = io.ErrNoProgress
		}
		return l.fail(err)
	}
	l.take()
	l.buf[0] = l.one[0]
	l.r, l.w = 0, 1
	return nil
}

// readReady is what the runtime's poller calls when the socket may be read.
func (l *lines) readReady(fd uintptr) bool {
	l.take()
	n, err := socket.Recv(fd, l.buf[:])
	switch {
	case err == syscall.EAGAIN:
		l.free()
		l.waited = true
		return false
	case err != 0:
		l.bad = &net.OpError{Op: "read", Net: "tcp", Err: err}
	case n == 0:
		l.bad = io.EOF
	}
	l.got = n
	return true
}
