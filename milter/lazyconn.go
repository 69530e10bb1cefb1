package milter

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/emersion/go-milter"

	"github.com/moongate/moongate/internal/socket"
	"github.com/moongate/moongate/milter/wire"
)

// A lazyConn keeps what is written until something is read: the library writes
// each header field by itself, and most filters answer none of them.
type lazyConn struct {
	net.Conn
	w    *bufio.Writer
	peer *socket.Peer

	loose *atomic.Bool // set when the filter has said what nobody asked for; may be nil

	// What is read is followed frame by frame, as the library does not tell of
	// PROGRESS.
	most int64   // octets of one answer, changes and all
	took int64   // octets read since the question
	said int64   // frames, the same
	head [5]byte // length and code of the frame under way
	got  int     // octets of head
	left uint32  // octets of the frame behind its code
	skip int     // octets of it before its strings
	nuls int     // in its strings
	last byte    // of what was read of it
	bad  error   // it is not what its code says
	opts []byte  // the first four of the negotiation's: the filter's version

	limit time.Duration // how long one answer may take
	stage time.Time     // when the stage ends, in any case; zero: never
	fair  bool          // what was left of the stage was time enough, see fairTime
}

func newLazyConn(c net.Conn, most int64) *lazyConn {
	l := &lazyConn{Conn: c, peer: socket.PeerOf(c), most: most}
	l.w = bufio.NewWriterSize(question{l}, 16<<10)
	return l
}

var (
	errHungUp    = errors.New("milter: the filter has closed the connection")
	errUninvited = errors.New("milter: the filter said what nobody asked for")
	errEndless   = errors.New("milter: the filter's answer is longer than any that it may give")
)

// quiet is nil if the connection is open and nothing waits to be read. Only
// then may a question be put: an answer that is there already is not the answer
// to it, and would move all those behind it by one, so that the verdict on a
// message would be taken from what was said of a recipient.
//
// One that comes behind this look, and before the true answer, is not seen until
// the true one waits here in its turn: no answer says to what it is one, and only
// the end of a connection shows that there are no more. At the end of a message
// that is too late. So it can happen once: see confirm.
//
// PROGRESS is no answer, and is passed over: libmilter sends it from any
// callback, also one that has agreed to give none, and Postfix takes it there.
func (c *lazyConn) quiet() error {
	for range maxChanges {
		switch v, err := c.peer.Look(); {
		case err != nil:
			return err
		case v&socket.Data != 0:
			if err := c.passProgress(); err != nil {
				return err
			}
		case v != 0:
			return errHungUp
		default:
			return nil
		}
	}
	return c.uninvited()
}

func (c *lazyConn) uninvited() error {
	if c.loose != nil {
		c.loose.Store(true)
	}
	return errUninvited
}

// passProgress reads a PROGRESS, and of anything else only what tells that it is
// none. It reads past follow, as no limit runs.
func (c *lazyConn) passProgress() error {
	const frame = "\x00\x00\x00\x01" + string(wire.ActProgress)
	var got [len(frame)]byte
	for n := 0; n < len(frame); {
		m, err := c.Conn.Read(got[n:])
		if n += m; string(got[:n]) != frame[:n] {
			return c.uninvited()
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// A question is the way out of a lazyConn, behind its buffer.
type question struct{ c *lazyConn }

// Write implements io.Writer.
func (q question) Write(p []byte) (int, error) {
	if err := q.c.quiet(); err != nil {
		return 0, err
	}
	q.c.took, q.c.said = 0, 0
	return q.c.Conn.Write(p)
}

// until sets the deadline of what follows: the filter's own limit for one
// answer, or the stage's end if that is nearer.
func (c *lazyConn) until(limit time.Duration, stage time.Time) {
	c.limit, c.stage = limit, stage
	c.fair = stage.IsZero() || time.Until(stage) >= min(limit, fairTime)
	c.restart()
}

// fairTime is how long a filter must have had before its silence is its own
// fault, and not that of those before it, who have left it no more of the stage.
const fairTime = 5 * time.Second

// restart begins the filter's limit anew.
func (c *lazyConn) restart() {
	t := time.Now().Add(c.limit)
	if !c.stage.IsZero() && c.stage.Before(t) {
		t = c.stage
	}
	c.SetDeadline(t)
}

// Write implements net.Conn.
func (c *lazyConn) Write(p []byte) (int, error) { return c.w.Write(p) }

// Close implements net.Conn: QUIT goes out first.
func (c *lazyConn) Close() error {
	c.w.Flush()
	return c.Conn.Close()
}

// Read implements net.Conn.
func (c *lazyConn) Read(p []byte) (int, error) {
	if c.w.Buffered() > 0 {
		if err := c.w.Flush(); err != nil {
			return 0, err
		}
	}
	n, err := c.Conn.Read(p)
	c.follow(p[:n])
	if c.bad != nil {
		return 0, c.bad
	}
	// The library keeps all changes until the verdict has come.
	if c.took += int64(n); c.took > c.most || c.said > maxChanges+c.took/512 {
		return 0, errEndless
	}
	return n, err
}

// maxChanges bounds how many changes one answer may hold. Each costs much more
// than its octets, and those of the header more with each that is there. A new
// body may come in many pieces, if they are not tiny.
const maxChanges = 10_000

// version is the filter's, 0 before it has answered the offer.
func (c *lazyConn) version() uint32 {
	if len(c.opts) < 4 {
		return 0
	}
	return binary.BigEndian.Uint32(c.opts)
}

// readVersion takes note of the version in a piece of the answer to our offer.
// The library takes one before 6 for a failure if more was offered than version 2
// has. As for any MTA it is none: what the filter does not know it does not ask
// for. So the library reads 6.
func (c *lazyConn) readVersion(p []byte) {
	n := min(len(p), 4-len(c.opts))
	c.opts = append(c.opts, p[:n]...)
	if v := c.version(); v >= wire.MinVersion && v < wire.MaxVersion {
		p[n-1] = wire.MaxVersion
	}
}

// follow takes note of what was read. A PROGRESS begins the limit anew: the
// filter works on it.
func (c *lazyConn) follow(p []byte) {
	for len(p) > 0 {
		if c.got < len(c.head) {
			n := copy(c.head[c.got:], p)
			c.got, p = c.got+n, p[n:]
			if c.got < len(c.head) {
				return
			}
			c.left = uint32(c.head[0])<<24 | uint32(c.head[1])<<16 | uint32(c.head[2])<<8 | uint32(c.head[3])
			if c.left == 0 { // malformed, and the reader says so
				c.got = 0
				return
			}
			c.left--
			c.said++
			c.skip, c.nuls, c.last = skipped(c.head[4]), 0, 0xff
		}
		n := min(c.left, uint32(len(p)))
		if c.head[4] == byte(milter.CodeOptNeg) && len(c.opts) < 4 {
			c.readVersion(p[:n])
		}
		if n > 0 {
			c.last = p[n-1]
			k := min(c.skip, int(n))
			c.skip, c.nuls = c.skip-k, c.nuls+bytes.Count(p[k:n], []byte{0})
		}
		c.left, p = c.left-n, p[n:]
		if c.left > 0 {
			return
		}
		c.got = 0
		if !c.whole() {
			c.bad = fmt.Errorf("%w: change %q", wire.ErrMalformed, c.head[4])
			return
		}
		if c.head[4] == byte(wire.ActProgress) {
			c.restart()
		}
	}
}

// skipped is how many octets stand before the strings of a change.
func skipped(code byte) int {
	switch milter.ModifyActCode(code) {
	case milter.ActInsertHeader, milter.ActChangeHeader:
		return 4
	}
	return 0
}

// whole reports whether the frame that was read has the strings of its change, and
// each its end. The library reads one without an end, and as empty one that is not
// there: a field whose new value is missing would be removed. No MTA takes them.
func (c *lazyConn) whole() bool {
	switch milter.ModifyActCode(c.head[4]) {
	case milter.ActAddHeader, milter.ActInsertHeader, milter.ActChangeHeader:
		return c.last == 0 && c.nuls == 2
	case milter.ActAddRcpt, milter.ActDelRcpt:
		return c.last == 0 && c.nuls == 1
	case milter.ActChangeFrom:
		return c.last == 0
	}
	return true
}
