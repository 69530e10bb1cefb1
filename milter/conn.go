package milter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime/debug"
	"sync"
	"time"

	"github.com/emersion/go-milter"
	"go.uber.org/zap"

	"github.com/moongate/moongate/internal/socket"
	"github.com/moongate/moongate/milter/wire"
	"github.com/moongate/moongate/policy"
)

// A conn is one connection of an MTA. Its goroutine owns all but what the
// mutex guards, the policy.Session among it.
type conn struct {
	srv   *Server
	name  string // the listener's
	nc    net.Conn
	peer  *socket.Peer
	r     *wire.Reader
	out   []byte // answers not written yet
	watch watch

	ctx    context.Context
	cancel context.CancelFunc

	options wire.Options // what was agreed; version 0 before it
	env     policy.Env   // the server's, with an Engine of this connection
	pin     pin
	macros  macros
	said    milter.Code     // what the last macros were for, until they are used
	s       *policy.Session // nil before CONNECT
	submits bool            // a program on the MTA's machine submits, there is no SMTP client
	mail    mail            // the message under way

	stage  time.Duration // what the rules of a stage may take
	behind time.Duration // how long we have worked since the MTA last waited for us
	owed   time.Duration // delays of stages at which it does not wait

	writing limit // of an answer

	mu       sync.Mutex
	draining bool
	busy     bool  // a message is under way
	reading  limit // of the wait for the next command
}

func (s *Server) newConn(nc net.Conn, name string) *conn {
	nc = socket.NewQuick(nc)
	c := &conn{srv: s, name: name, nc: nc, peer: socket.PeerOf(nc)}
	c.ctx, c.cancel = context.WithCancel(context.Background())
	c.watch.c, c.watch.peer = c, socket.PeerOf(nc) // the timer looks while we do
	c.env = *s.currentEnv()
	c.env.Face = policy.Milter
	c.stage = orDefault(c.env.StageTime, 20*time.Second)
	c.pin = pin{Engine: c.env.Engine, filters: len(c.env.Filters) > 0}
	c.env.Engine = &c.pin
	return c
}

// errQuit ends a connection in peace.
var errQuit = errors.New("quit")

// serve serves one connection with the memory of h.
func (c *conn) serve(h *hand) {
	cause := ""
	h.lend(c)
	defer h.clear(c)
	defer c.srv.remove(c)
	defer func() {
		if p := recover(); p != nil {
			c.env.Metrics.Panicked()
			c.env.Log.Error("panic", zap.String(policy.KeyListener, c.name),
				zap.Any(policy.KeyReason, p), zap.ByteString(policy.KeyStack, debug.Stack()))
			cause = "panic"
		}
		c.watch.end()
		socket.Part(c.nc)
		c.end(cause)
		c.cancel()
	}()
	err := c.loop()
	switch {
	case err == errQuit:
	case err == io.EOF:
		cause = "the MTA closed the connection"
	case c.isDraining() && errors.Is(err, os.ErrDeadlineExceeded):
		cause = "shutdown"
	default:
		cause = err.Error()
		c.srv.Metrics.broke()
		c.env.Log.Warn("milter: connection ended", zap.String(policy.KeyListener, c.name),
			zap.Stringer(policy.KeyPeer, c.nc.RemoteAddr()), zap.Error(err))
	}
}

// end tells the policy that the session is over. It runs behind the recover of
// serve, so it has one of its own: a panic in a log rule ends here.
func (c *conn) end(cause string) {
	defer func() {
		if p := recover(); p != nil {
			c.env.Metrics.Panicked()
			c.env.Log.Error("panic", zap.String(policy.KeyListener, c.name),
				zap.Any(policy.KeyReason, p), zap.ByteString(policy.KeyStack, debug.Stack()))
		}
	}()
	c.endSession(cause)
}

func (c *conn) loop() error {
	for {
		c.catchUp()
		if err := c.deadline(); err != nil {
			return err
		}
		f, err := c.r.Next()
		if err != nil {
			return err
		}
		cmd, err := wire.Decode(f)
		if err != nil {
			return err
		}
		if err := c.command(cmd); err != nil {
			return err
		}
		if err := c.flush(); err != nil {
			return err
		}
	}
}

// A limit is when a read or a write gives up. One that is late by a hundredth will
// do: to set it costs as much as a small rule.
type limit struct{ at time.Time }

// set has the wait from now on end in time, and at most a hundredth later.
func (l *limit) set(wait time.Duration, deadline func(time.Time) error) error {
	end := time.Now().Add(wait)
	if late := l.at.Sub(end); late >= 0 && late <= wait/100 {
		return nil
	}
	l.at = end.Add(wait / 100)
	return deadline(l.at)
}

// deadline is how long the next command may take to come: an SMTP session may
// idle for long, one of a server that shuts down may not.
func (c *conn) deadline() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy = c.s != nil && c.s.Tx != nil
	wait := c.srv.idle()
	if c.options.Version == 0 {
		wait = min(wait, c.srv.opening())
	}
	if c.draining && !c.busy {
		wait = linger
	}
	return c.reading.set(wait, c.nc.SetReadDeadline)
}

// drain makes a session without a message end soon, and one with a message
// when that is decided.
func (c *conn) drain() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.draining = true
	if !c.busy {
		c.reading.set(linger, c.nc.SetReadDeadline)
	}
}

func (c *conn) isDraining() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.draining
}

// kill ends the connection from another goroutine.
func (c *conn) kill() {
	c.cancel()
	c.nc.Close()
}

// command does what one packet says. An error ends the connection.
func (c *conn) command(cmd wire.Command) error {
	if o, ok := cmd.(wire.Options); ok {
		return c.negotiate(o)
	}
	if c.options.Version == 0 {
		return fmt.Errorf("%w: a command before the negotiation", wire.ErrMalformed)
	}
	switch cmd := cmd.(type) {
	case wire.Macros:
		c.macros.set(cmd.For, cmd.Pairs)
		c.said = cmd.For
		return nil
	case wire.Connect:
		return c.connect(cmd)
	case wire.Signal:
		switch cmd.Code {
		case milter.CodeQuit:
			return errQuit
		case milter.CodeQuitNewConn:
			c.endSession("")
			return nil
		}
	}
	if c.s == nil {
		switch cmd := cmd.(type) { // as libmilter does
		case wire.Unknown:
			return c.goOn(policy.Unknown)
		case wire.Signal:
			if cmd.Code == milter.CodeAbort {
				return nil
			}
		}
		// An MTA that was told not to send CONNECT would be right: we never do.
		return fmt.Errorf("%w: a command before CONNECT", wire.ErrMalformed)
	}
	switch cmd := cmd.(type) {
	case wire.Helo:
		return c.helo(cmd)
	case wire.Mail:
		return c.mailFrom(cmd)
	case wire.Rcpt:
		return c.rcptTo(cmd)
	case wire.Header:
		return c.header(cmd)
	case wire.Body:
		return c.body(cmd.Chunk)
	case wire.End:
		return c.endOfMessage(cmd)
	case wire.Unknown:
		return c.unknown(cmd)
	case wire.Signal:
		switch cmd.Code {
		case milter.CodeData:
			return c.data()
		case milter.CodeEOH:
			return c.endOfHeader()
		case milter.CodeAbort:
			c.abort("aborted by the MTA")
			return nil
		}
	}
	return fmt.Errorf("%w: unexpected command %T", wire.ErrMalformed, cmd)
}

func (c *conn) negotiate(offer wire.Options) error {
	if c.options.Version != 0 {
		return fmt.Errorf("%w: a second negotiation", wire.ErrMalformed)
	}
	rules := c.pin.Engine.Rules(&policy.Facts{Listener: c.name})
	got, err := meet(offer, spared(rules, c.pin.filters))
	if err != nil {
		return err
	}
	c.options, c.pin.spare, c.pin.last = got, got.Protocol, rules
	f, err := got.Frame()
	if err != nil {
		return err
	}
	return c.send(f)
}

// send queues a packet; flush writes what is queued in one go.
func (c *conn) send(f wire.Frame) (err error) {
	c.out, err = f.Append(c.out)
	return err
}

func (c *conn) act(a milter.ActionCode) error {
	c.out = append(c.out, bareAnswers[a]...)
	return nil
}

func (c *conn) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	c.behind = 0
	c.writing.set(c.srv.write(), c.nc.SetWriteDeadline)
	_, err := c.nc.Write(c.out)
	if cap(c.out) > 128<<10 {
		c.out = nil // a replaced body does not stay with an idle session
	}
	c.out = c.out[:0]
	return err
}

// bareAnswers are single packets, made once.
var bareAnswers = func() map[milter.ActionCode][]byte {
	m := make(map[milter.ActionCode][]byte)
	for _, a := range []milter.ActionCode{milter.ActContinue, milter.ActAccept, milter.ActDiscard, milter.ActTempFail, milter.ActSkip} {
		m[a], _ = wire.Act(a).Append(nil)
	}
	return m
}()
