package proxy

import (
	"bytes"
	"errors"
	"io"
	"os"
	"time"
)

// errShutdown is what next answers when the client is to hear 421 4.3.2.
var errShutdown = errors.New("shutdown")

// errWanted is what it answers when others wait for the upstream connection that
// lies idle in the client's transaction.
var errWanted = errors.New("others wait for its upstream connection")

// next returns the next command line. Before it waits, every reply that the
// client is owed has left: RFC 2920 3.2.
func (s *session) next() ([]byte, error) {
	if err := s.policy.Ctx.Err(); err != nil {
		return nil, err
	}
	if s.woken.Load() && s.policy.Tx == nil {
		return nil, errShutdown
	}
	if !s.queued() {
		s.collect()
		if s.cause != "" || s.out.flush() != nil {
			return nil, io.ErrClosedPipe
		}
		if err := s.park(); err != nil {
			return nil, err
		}
	}
	return s.in.Line(maxCommand)
}

// queued reports whether a whole command is here already.
func (s *session) queued() bool {
	if s.in.Buffered() == 0 {
		return false
	}
	span, err := s.in.Span()
	return err == nil && bytes.IndexByte(span, '\n') >= 0
}

// park waits for the client to speak, for one command line at most
// timeouts.idle. It holds no buffer and, between transactions, may be woken by
// a shutdown.
func (s *session) park() error {
	wait := s.set.Timeouts.Idle
	if s.srv.stress.Load() { // RFC 5321 4.5.3.2.7 wants 5 minutes; less by choice, as Postfix
		wait = min(wait, s.set.Timeouts.Stress)
	}
	if s.relay.up != nil {
		return s.parkHolding(wait)
	}
	s.mu.Lock()
	s.idle = s.policy.Tx == nil
	if s.idle && s.woken.Load() {
		s.mu.Unlock()
		return errShutdown
	}
	s.conn.SetReadDeadline(time.Now().Add(wait))
	s.mu.Unlock()

	err := s.in.Park()

	s.mu.Lock()
	s.idle = false
	s.mu.Unlock()
	return err
}

// parkHolding is park for a session in whose transaction an upstream connection
// lies idle. While others wait for one, a client may be silent for
// Timeouts.Stress: a few that begin transactions and fall silent would keep the
// upstream from all others. A command must be whole by then. Between DATA and
// its answer nobody is here: no message under way is cut.
func (s *session) parkHolding(wait time.Duration) error {
	now, patience := time.Now(), s.set.Timeouts.Stress
	until, look := now.Add(wait), now.Add(min(wait, patience))
	for !s.queued() {
		if s.in.Buffered() > maxCommand+1 { // too long: Line reads on and skips it, in the time of one silence
			if end := time.Now().Add(patience); end.Before(until) {
				until = end
			}
			s.conn.SetReadDeadline(until)
			return nil
		}
		s.conn.SetReadDeadline(look)
		err := s.in.More()
		switch {
		case err == nil:
			continue
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return err
		}
		if now = time.Now(); !now.Before(until) {
			return err
		}
		if s.set.Hop.wanted() {
			return errWanted
		}
		if look = now.Add(patience / 10); look.After(until) {
			look = until
		}
	}
	return nil
}

// wake tells the session that the server shuts down. It is called from another
// goroutine.
func (s *session) wake() {
	s.woken.Store(true)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.idle {
		s.conn.SetReadDeadline(time.Unix(1, 0))
	}
}

// kill ends the session now. It is called from another goroutine.
func (s *session) kill() {
	s.hardStop()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conn.Close()
}
