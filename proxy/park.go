package proxy

import (
	"bytes"
	"errors"
	"io"
	"time"
)

// errShutdown is what next answers when the client is to hear 421 4.3.2.
var errShutdown = errors.New("shutdown")

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
		wait = min(wait, stressIdle)
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
