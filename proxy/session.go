package proxy

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"go.uber.org/zap"

	"github.com/moongate/moongate/internal/socket"
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
	dropped   bool           // every recipient of the client was dropped; behind data: and nobody is left
	whole     bool           // the message at hand is here up to its final dot
	clock     *clock         // of the message at hand, from DATA to its answer
	looseBody bool           // the body begins with a blank and no empty line stands in front of it
	greeted   bool           // HELO or EHLO was accepted
	offered   *Caps          // by our EHLO reply; nil after HELO
	event     policy.Event   // of the command at hand
	verdict   policy.Verdict // about the command at hand
	errors    int            // refused commands since the last accepted message
	junk      int            // commands without a message since the last one
	cause     string         // why the session ends; "" while it goes on

	// Of a peer that may speak for others (forwarded.go).
	forwarder           bool
	peer                policy.Facts // its own
	peerHelo, peerProto string
	forward             *policy.Facts  // of the client that it named; nil: it speaks for itself
	named               bool           // it has named a client, or spoken for itself
	unheard             bool           // connect and helo are still to be asked about him
	refused             policy.Verdict // what came of that, if it refuses

	network netip.Prefix // counted under limits.per_network

	watch watch
	woken atomic.Bool // the server shuts down

	mu   sync.Mutex // guards idle, and the order of deadlines set by park and wake
	idle bool       // waits for a command with no transaction open
}

func newSession(srv *Server, set *Settings, c net.Conn, f policy.Facts) *session {
	s := &session{srv: srv, set: set, conn: socket.New(c)}
	s.out = replies{conn: s.conn, timeout: set.Timeouts.Write}
	s.hard, s.hardStop = context.WithCancel(context.Background())
	ctx, cancel := context.WithCancel(s.hard)
	s.cancel = cancel
	s.policy = set.Env.NewSession(ctx, f)
	s.forwarder, s.peer = set.mayForward(f.Remote.Addr()), f
	s.policy.Unnamed = s.forwarder
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
			s.misforwarded()
		case errors.Is(err, errBareLF), errors.Is(err, errBadOctet):
			s.answer("", replyGarbage, policy.ByMoongate, nil)
			s.misforwarded()
		default:
			s.readFailed(err)
		}
	}
}

// readFailed ends the session after an error of the connection. Nothing is
// ever read from it again.
func (s *session) readFailed(err error) {
	s.collect()
	switch {
	case s.woken.Load() && s.policy.Tx == nil:
		s.out.add(&replyShutdown)
		s.close("shutdown")
	case errors.Is(err, errWanted):
		s.out.add(&replyTimeout)
		s.close("timeout: " + errWanted.Error())
	case errors.Is(err, os.ErrDeadlineExceeded):
		s.out.add(&replyTimeout)
		s.close("timeout")
	case errors.Is(err, io.EOF):
		s.close("eof")
	case errors.Is(err, errEndless):
		s.say("", replyLongLine, policy.ByMoongate, nil, "")
		s.close("line without end")
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
	parted := s.part()
	if !parted {
		s.out.flush()
	}
	s.relay.settleDown()
	s.set.Hop.Forget(s.policy.ID)
	s.tellEnd(&policy.Event{Hook: policy.Disconnect, Cause: s.cause, By: s.ender()})
	if !parted && s.out.err == nil && s.cause != "eof" && s.cause != "connection lost" {
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

// ender is who ended the session: the client, who may also fall silent, or we,
// for its errors or our own reasons.
func (s *session) ender() policy.Source {
	switch s.cause {
	case "quit", "eof", "connection lost", "timeout":
		return policy.ByClient
	}
	return policy.ByMoongate
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
