package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync/atomic"
	"time"

	"github.com/moongate/moongate/internal/socket"
	"github.com/moongate/moongate/policy"
)

// conn is a connection to the next hop, past its greeting and EHLO. One
// goroutine owns it; Abort alone may come from another one.
type conn struct {
	hop  *Hop
	nc   net.Conn
	rd   *lines
	peer *socket.Peer
	caps *Caps
	dead atomic.Bool // closed, or to be closed

	out   []byte // commands not written yet
	sent  []owed // replies that are owed, in order, the unwritten ones' too
	fresh int    // how many of them are not written yet

	facts *policy.Facts // of Begin
	id    string

	inMail   bool // MAIL was accepted: a transaction is open
	inBody   bool // DATA is open
	body     *body
	authed   bool // AUTH was relayed: it survives RSET and EHLO
	refusals int  // since the last accepted message
	mails    int  // the same
	born     time.Time
	idle     time.Time // since when, in the pool

	owner policy.Facts // identity proxy and xclient: the client that it was dialled for
}

var _ Upstream = (*conn)(nil)

// owed is a command whose reply is owed.
type owed struct {
	verb string
	size int  // octets of the command
	own  bool // of this room: its reply is not for the caller
}

// maxGroup bounds what is written before replies are read, in octets: two sides
// that both write and do not read wait for each other (RFC 2920 3.1).
const maxGroup = 16 << 10

func (c *conn) Caps() *Caps     { return c.caps }
func (c *conn) Address() string { return c.hop.Address }

func (c *conn) Begin(f *policy.Facts, id string) { c.facts, c.id = f, id }

var (
	errOctets  = errors.New("command holds a line end or NUL")
	errMisuse  = errors.New("command out of turn")
	errStrange = errors.New("reply of the wrong kind")
)

func (c *conn) Send(verb string, arg []byte) error {
	if strings.ContainsAny(verb, "\r\n\x00") || bytes.ContainsAny(arg, "\r\n\x00") {
		return errOctets
	}
	if verb == "DATA" || c.inBody {
		return errMisuse
	}
	if verb == "MAIL" && c.hop.Identity == IdentityXForward {
		c.xforward()
	}
	c.queue(owed{verb: verb}, arg)
	return nil
}

func (c *conn) queue(cmd owed, arg []byte) {
	before := len(c.out)
	c.out = append(c.out, cmd.verb...)
	if len(arg) > 0 {
		c.out = append(append(c.out, ' '), arg...)
	}
	c.out = append(c.out, crlf...)
	cmd.size = len(c.out) - before
	c.sent = append(c.sent, cmd)
	c.fresh++
}

func (c *conn) Reply(ctx context.Context) (policy.Reply, error) {
	if len(c.sent) == 0 || c.inBody {
		return policy.Reply{}, c.broken("reply", errMisuse)
	}
	defer c.guard(ctx)()
	return c.reply(ctx)
}

// reply writes what is queued and reads replies up to the first that is the
// caller's.
func (c *conn) reply(ctx context.Context) (policy.Reply, error) {
	for {
		if c.fresh == len(c.sent) {
			if err := c.flush(ctx); err != nil {
				return policy.Reply{}, err
			}
		}
		cmd := c.sent[0]
		r, err := c.read(ctx, c.hop.command())
		if err != nil {
			return policy.Reply{}, c.lost(ctx, cmd.verb, err)
		}
		c.sent = append(c.sent[:0], c.sent[1:]...)
		if err := c.note(cmd, r); err != nil {
			return policy.Reply{}, err
		}
		if !cmd.own {
			return r, nil
		}
	}
}

// flush writes queued commands, in one write: all of them, but to an upstream
// that takes no groups one only, and of a big group the first part. It is
// called while no reply is awaited: an upstream that has gone or has begun to
// talk unasked is noticed before.
func (c *conn) flush(ctx context.Context) error {
	if !c.Alive() {
		c.Abort()
		return ErrGone
	}
	n, octets := 0, 0
	for _, cmd := range c.sent {
		if n > 0 && (octets+cmd.size > maxGroup || !c.caps.Has("PIPELINING")) {
			break
		}
		n, octets = n+1, octets+cmd.size
	}
	c.nc.SetWriteDeadline(time.Now().Add(c.hop.block()))
	_, err := c.nc.Write(c.out[:octets])
	c.out, c.fresh = append(c.out[:0], c.out[octets:]...), c.fresh-n
	if err != nil {
		return c.lost(ctx, c.sent[0].verb, err)
	}
	return nil
}

func (c *conn) read(ctx context.Context, within time.Duration) (policy.Reply, error) {
	c.rd.SetDeadline(time.Now().Add(within))
	return readReply(c.rd)
}

// Alive looks at the socket without reading from it: it must be open and
// silent. What came behind the last reply counts as talk, too.
func (c *conn) Alive() bool {
	return !c.dead.Load() && c.rd.Buffered() == 0 && c.rd.err == nil && c.peer.Silent()
}

// guard lets ctx close the socket, which ends whatever waits for it. The
// function that it returns must be called at the end of the wait; it reports
// whether ctx left the socket alone, and will.
func (c *conn) guard(ctx context.Context) (stop func() bool) {
	if ctx.Done() == nil {
		return func() bool { return true }
	}
	return context.AfterFunc(ctx, c.Abort)
}

func (c *conn) Data(ctx context.Context) (BodyWriter, policy.Reply, error) {
	if len(c.sent) > 0 || c.inBody {
		return nil, policy.Reply{}, c.broken("DATA", errMisuse)
	}
	stop := c.guard(ctx)
	c.queue(owed{verb: "DATA"}, nil)
	r, err := c.reply(ctx)
	switch {
	case err != nil:
		stop()
		return nil, policy.Reply{}, err
	case r.Code == 354:
		c.inBody, c.body = true, newBody(ctx, c, stop) // the body's end stops the guard
		return c.body, r, nil
	}
	stop()
	if !r.Refuses() {
		return nil, policy.Reply{}, c.said("DATA", r)
	}
	return nil, r, nil
}

func (c *conn) Abort() {
	c.dead.Store(true)
	c.nc.Close()
}

// destroy is Abort by the owner: memory and goroutines go, too.
func (c *conn) destroy() {
	c.Abort()
	if c.body != nil {
		c.body.Abort()
	}
	c.rd.Release()
}

func (c *conn) Return() {
	c.facts, c.id = nil, ""
	if c.dead.Load() || c.inBody || len(c.sent) > 0 || !c.Alive() {
		c.hop.drop(c)
		return
	}
	if !c.fit() {
		c.quit()
		c.hop.drop(c)
		return
	}
	if c.inMail {
		// The reply is read by who takes the connection next.
		c.queue(owed{verb: "RSET", own: true}, nil)
		if err := c.flush(context.Background()); err != nil {
			c.hop.drop(c)
			return
		}
	}
	c.rd.free() // while it waits it needs none
	c.hop.put(c)
}

// settle reads what Return left owed. It comes within the given time, or
// never.
func (c *conn) settle(ctx context.Context, within time.Duration) error {
	if len(c.sent) == 0 {
		return nil
	}
	defer c.guard(ctx)()
	for len(c.sent) > 0 {
		r, err := c.read(ctx, within)
		if err != nil {
			return err
		}
		cmd := c.sent[0]
		c.sent = c.sent[:0]
		if err := c.note(cmd, r); err != nil {
			return err
		}
	}
	return nil
}

var quitLine = []byte("QUIT\r\n")

// quitTime bounds the wait for the reply to the RSET of Return. No client waits
// for it, but one that takes the place of a connection that is full.
const quitTime = time.Second

// quit says QUIT, and does not wait for the answer: nothing depends on it. The
// connection must be dropped behind it. What is owed is read first: closed over
// octets unread a socket is reset, and Postfix logs a client that was lost.
func (c *conn) quit() {
	err := c.settle(context.Background(), quitTime)
	c.nc.SetWriteDeadline(time.Now().Add(time.Second))
	if err != nil { // it may still come: nothing that is kept back would leave
		c.nc.Write(quitLine)
		return
	}
	writeLast(c.nc, quitLine)
}

// lost makes an error of a connection that broke while a reply was owed.
func (c *conn) lost(ctx context.Context, op string, err error) error {
	c.Abort()
	if cause := context.Cause(ctx); cause != nil {
		err = cause
	}
	return &HopError{Op: op, Reply: hopDown, Err: fmt.Errorf("connection lost: %w", err)}
}

// said makes an error of a reply that nobody can use.
func (c *conn) said(op string, r policy.Reply) error {
	c.Abort()
	return &HopError{Op: op, Reply: hopDown, Said: r, Err: errStrange}
}

func (c *conn) broken(op string, err error) error {
	c.Abort()
	return &HopError{Op: op, Reply: hopDown, Err: err}
}
