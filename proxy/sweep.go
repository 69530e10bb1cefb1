package proxy

import (
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
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
	raw   syscall.RawConn // nil if the connection is no socket: then nobody looks
	since atomic.Int64    // the tick at which it began to wait, shifted by two flags; 0 while it does not
	next  int64           // the sweeper's own: the tick of the next look
	gone  atomic.Bool
}

const (
	watchWhole  = 1 // the end of a message is here: a half-close changes nothing
	watchQueued = 2 // commands are queued behind this one: nor here
)

// wait says that the session is about to wait for something else than its
// client.
func (s *session) wait() {
	if s.watch.raw == nil {
		return
	}
	v := (s.srv.sweep.tick.Load() + 1) << 2
	if s.whole {
		v |= watchWhole
	}
	if s.in.Buffered() > 0 {
		v |= watchQueued
	}
	s.watch.since.Store(v)
}

// proceed says that the wait is over.
func (s *session) proceed() {
	if s.watch.raw != nil {
		s.watch.since.Store(0)
	}
}

// track looks after a session until forget.
func (sw *sweeper) track(s *session) {
	c := s.conn
	if t, ok := c.(interface{ NetConn() net.Conn }); ok {
		c = t.NetConn()
	}
	sc, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return
	}
	s.watch.raw = raw
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
	waited := now - (v >> 2) + 1
	if waited < 2 || now < w.next {
		return
	}
	w.next = now + max(1, min(waited/4, 20))
	if clientGone(w.raw, v&(watchWhole|watchQueued) != 0) && w.since.Load() == v {
		w.gone.Store(true)
		cancel()
	}
}

// clientGone looks at a socket. An error or a hang-up of both sides is a reset.
// A half-close alone (nc -N, devices) is the end only if nothing is left to be
// done for the client: no command is queued and no message is here whole.
func clientGone(raw syscall.RawConn, finishing bool) (gone bool) {
	raw.Control(func(fd uintptr) {
		p := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
		if n, err := unix.Poll(p, 0); err != nil || n == 0 {
			return
		}
		switch got := p[0].Revents; {
		case got&(unix.POLLERR|unix.POLLHUP|unix.POLLNVAL) != 0:
			gone = true
		case got&unix.POLLRDHUP != 0 && !finishing:
			unread, err := unix.IoctlGetInt(int(fd), unix.TIOCINQ)
			gone = err == nil && unread == 0
		}
	})
	return gone
}
