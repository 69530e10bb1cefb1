package proxy

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/moongate/moongate/policy"
)

// maxCommand is the longest command line in octets. RFC 5321 4.5.3.1.4 wants
// 512 and more with extensions; paths in use are longer than its 256.
const maxCommand = 4096

// session is one client's connection. Its goroutine owns it and the
// policy.Session in it; other goroutines reach it only through wake, kill and
// the sweeper.
type session struct {
	srv    *Server
	set    *Settings
	conn   net.Conn
	in     *lines
	out    replies
	policy *policy.Session

	hard     context.Context // ends with the server
	hardStop context.CancelFunc
	cancel   context.CancelFunc // ends policy.Ctx: the client is gone

	relay     relay
	swallow   policy.Verdict // a discard or quarantine that was decided before the end of the message
	dropped   bool           // every recipient was dropped
	whole     bool           // the message at hand is here up to its final dot
	looseBody bool           // the body begins with a blank and no empty line stands in front of it
	greeted   bool           // HELO or EHLO was accepted
	offered   *Caps          // by our EHLO reply; nil after HELO
	event     policy.Event   // of the command at hand
	errors    int            // refused commands since the last accepted message
	cause     string         // why the session ends; "" while it goes on

	// Of a peer that may speak for others (forwarded.go).
	forwarder           bool
	peer                policy.Facts // its own
	peerHelo, peerProto string
	forward             *policy.Facts  // of the client that it named; nil: it speaks for itself
	asked               bool           // connect and helo were asked about the client at hand
	refused             policy.Verdict // and this is what came of it, if it refuses

	network netip.Prefix // counted under limits.per_network

	watch watch
	woken atomic.Bool // the server shuts down

	mu   sync.Mutex // guards idle, and the order of deadlines set by park and wake
	idle bool       // waits for a command with no transaction open
}

func newSession(srv *Server, set *Settings, c net.Conn, f policy.Facts) *session {
	s := &session{srv: srv, set: set, conn: c}
	s.out = replies{conn: c, timeout: set.Timeouts.Write}
	s.hard, s.hardStop = context.WithCancel(context.Background())
	ctx, cancel := context.WithCancel(s.hard)
	s.cancel = cancel
	s.policy = set.Env.NewSession(ctx, f)
	s.forwarder, s.peer = set.mayForward(f.Remote.Addr()), f
	return s
}

// serve runs the session from the banner to its end.
func (s *session) serve() {
	defer s.end()
	defer s.recover()
	s.in = newLines(s.conn)
	s.in.strict = true
	s.srv.sweep.track(s)
	if s.greet() {
		s.converse()
	}
}

// converse reads commands until there is a reason to end.
func (s *session) converse() {
	for s.cause == "" {
		line, err := s.next()
		switch {
		case err == nil:
			s.command(line)
		case errors.Is(err, errLong):
			s.answer("", replyLongLine, policy.ByMoongate, nil)
		case errors.Is(err, errBareLF), errors.Is(err, errBadOctet):
			s.answer("", replyGarbage, policy.ByMoongate, nil)
		default:
			s.readFailed(err)
		}
	}
}

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

// readFailed ends the session after an error of the connection. Nothing is
// ever read from it again.
func (s *session) readFailed(err error) {
	s.collect()
	switch {
	case s.woken.Load() && s.policy.Tx == nil:
		s.out.add(&replyShutdown)
		s.close("shutdown")
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.out.add(&replyTimeout)
		s.close("timeout")
	case errors.Is(err, io.EOF):
		s.close("eof")
	case s.hard.Err() != nil:
		s.close("server closed")
	default:
		s.close("connection lost")
	}
}

// close says why the session is to end, after what was said so far has left.
// The first reason counts.
func (s *session) close(cause string) {
	if s.cause == "" {
		s.cause = cause
	}
}

// end leaves nothing of the session behind.
func (s *session) end() {
	s.out.flush()
	s.relay.settleDown()
	s.set.Hop.Forget(s.policy.ID)
	s.tellEnd(&policy.Event{Hook: policy.Disconnect, Cause: s.cause})
	if s.out.err == nil && s.cause != "eof" && s.cause != "connection lost" {
		linger(s.conn)
	}
	s.srv.sweep.forget(s)
	s.hardStop()
	s.cancel()
	if s.in != nil {
		s.in.Release()
	}
	s.conn.Close()
}

// recover turns a panic into 421 for this client; the others live.
func (s *session) recover() {
	p := recover()
	if p == nil {
		return
	}
	s.set.Env.Metrics.Panicked()
	s.srv.Log.Error("panic", zap.String(policy.KeySession, s.policy.ID), zap.Any(policy.KeyReason, p),
		zap.ByteString(policy.KeyStack, debug.Stack()))
	s.relay.abort()
	s.relay.awaited = s.relay.awaited[:0]
	s.out.add(&replyPanic)
	s.close("panic")
}

// ask asks the policy about the event at hand. While it is asked the sweeper
// looks after the client.
func (s *session) ask(h policy.Hook) policy.Verdict {
	s.event.Hook = h
	s.wait()
	v := s.policy.Ask(&s.event)
	s.proceed()
	return v
}

// tellEnd tells of the end of a transaction or session. Its log rules run also
// when the client is gone, which has cancelled all else.
func (s *session) tellEnd(ev *policy.Event) {
	ctx := s.policy.Ctx
	if ctx.Err() != nil {
		s.policy.Ctx = context.WithoutCancel(ctx)
	}
	s.policy.Tell(ev)
	s.policy.Ctx = ctx
}

// answer is what the client hears to a command, behind what it is still owed;
// the policy is told.
func (s *session) answer(verb string, r policy.Reply, by policy.Source, rcpt *policy.Recipient) {
	s.answerCause(verb, r, by, rcpt, "")
}

func (s *session) answerCause(verb string, r policy.Reply, by policy.Source, rcpt *policy.Recipient, cause string) {
	s.collect()
	s.say(verb, r, by, rcpt, cause)
}

// say is answer for who knows that nothing is owed. It returns the reply as the
// client hears it.
func (s *session) say(verb string, r policy.Reply, by policy.Source, rcpt *policy.Recipient, cause string) policy.Reply {
	r = s.policy.Refusal(r)
	s.out.add(&r)
	s.policy.Tell(&policy.Event{Hook: policy.Answered, Verb: verb, Reply: r, By: by, Rcpt: rcpt, Cause: cause})
	if !r.Refuses() {
		return r
	}
	s.errors++
	switch {
	case r.Code == 421:
		s.close(verb + " answered 421")
	case s.errors > s.set.Limits.Errors && s.cause == "":
		s.out.add(&replyErrors)
		s.close("too many errors")
	}
	return r
}

// refuse gives the client a verdict that refuses.
func (s *session) refuse(verb string, v policy.Verdict, rcpt *policy.Recipient) policy.Reply {
	s.collect()
	s.delay(v)
	r := s.say(verb, v.Reply, source(v), rcpt, "")
	if v.Close {
		s.close("policy")
	}
	return r
}

// source says who decided a verdict.
func source(v policy.Verdict) policy.Source {
	if v.Rule == nil {
		return policy.ByFilter
	}
	return policy.ByPolicy
}

// delay waits as long as a verdict wants, or until the client is gone.
func (s *session) delay(v policy.Verdict) { s.pause(v.Delay) }

// pause waits, or until the client is gone.
func (s *session) pause(d time.Duration) {
	if d <= 0 {
		return
	}
	t := time.NewTimer(d)
	defer t.Stop()
	s.wait()
	select {
	case <-t.C:
	case <-s.policy.Ctx.Done():
	}
	s.proceed()
}
