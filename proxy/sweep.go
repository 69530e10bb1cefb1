package proxy

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/moongate/moongate/internal/socket"
)

// sweepEvery is how often the sweeper looks, and how long a session may wait
// before it is looked after.
const sweepEvery = 100 * time.Millisecond

// sweeper looks at the sockets of sessions that wait for the policy or the
// upstream, and so do not read: it tells those whose client is gone. It
// consumes nothing of what the client sent. Its goroutine runs while there are
// sessions with a socket.
type sweeper struct {
	tick atomic.Int64

	mu       sync.Mutex // guards what follows
	sessions map[*session]struct{}
	running  bool
}

// watch is what the sweeper knows of one session.
type watch struct {
	peer  *socket.Peer // nil if the connection is no socket: then nobody looks
	since atomic.Int64 // the tick at which it began to wait, shifted by the flags; 0 while it does not
	next  int64        // the sweeper's own: the tick of the next look
	gone  atomic.Bool
}

const (
	watchWhole  = 1 // the end of a message is here: a half-close changes nothing
	watchQueued = 2 // commands are queued behind this one: nor here

	// A forwarder hands a message over: it closes when it gives up, and has told
	// its client to come again. What else it sent changes nothing.
	watchForwarder = 4

	watchFlags = 3 // how many bits they are
)

// wait says that the session is about to wait for something else than its
// client.
func (s *session) wait() {
	if s.watch.peer == nil {
		return
	}
	v := (s.srv.sweep.tick.Load() + 1) << watchFlags
	if s.whole {
		v |= watchWhole
	}
	if s.in.Buffered() > 0 {
		v |= watchQueued
	}
	if s.forwarder && s.clock != nil {
		v |= watchForwarder
	}
	s.watch.since.Store(v)
}

// proceed says that the wait is over.
func (s *session) proceed() {
	if s.watch.peer != nil {
		s.watch.since.Store(0)
	}
}

// track looks after a session until forget.
func (sw *sweeper) track(s *session) {
	peer := socket.PeerOf(s.conn)
	if !peer.Known() {
		return
	}
	s.watch.peer = peer
	sw.mu.Lock()
	defer sw.mu.Unlock()
	if sw.sessions == nil {
		sw.sessions = make(map[*session]struct{})
	}
	sw.sessions[s] = struct{}{}
	if !sw.running {
		sw.running = true
		go sw.run()
	}
}

func (sw *sweeper) forget(s *session) {
	sw.mu.Lock()
	delete(sw.sessions, s)
	sw.mu.Unlock()
}

// run is the sweeper's goroutine. It ends when there is no session left.
func (sw *sweeper) run() {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	for range t.C {
		now := sw.tick.Add(1)
		sw.mu.Lock()
		if len(sw.sessions) == 0 {
			sw.running = false
			sw.mu.Unlock()
			return
		}
		for s := range sw.sessions {
			s.watch.look(now, s.cancel)
		}
		sw.mu.Unlock()
	}
}

// look cancels the session if it waits since more than a tick and its client is
// gone. A session that waits long is looked at less often: 5000 of them must
// not cost a core.
func (w *watch) look(now int64, cancel func()) {
	v := w.since.Load()
	if v == 0 || w.gone.Load() {
		w.next = 0
		return
	}
	waited := now - (v >> watchFlags) + 1
	if waited < 2 || now < w.next {
		return
	}
	w.next = now + max(1, min(waited/4, 20))
	if clientGone(w.peer, v) && w.since.Load() == v {
		w.gone.Store(true)
		cancel()
	}
}

// clientGone looks at a socket. An error or a hang-up of both sides is a reset.
// A half-close alone (nc -N, devices) is the end only if nothing is left to be
// done for the client: no command is queued and no message is here whole. A
// forwarder that closes has given up.
func clientGone(peer *socket.Peer, flags int64) bool {
	seen, _ := peer.Look()
	switch {
	case seen&socket.Lost != 0:
		return true
	case seen&socket.Ended == 0:
		return false
	case flags&watchForwarder != 0:
		return true
	}
	return seen&socket.Data == 0 && flags&(watchWhole|watchQueued) == 0
}
