package proxy

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/moongate/moongate/policy"
)

// ErrServerClosed is what Serve returns after Shutdown or Close.
var ErrServerClosed = errors.New("proxy: server closed")

// Server is the SMTP front door of any number of listeners with the same
// settings. Fill in the fields, then call Serve; it starts nothing before.
type Server struct {
	Settings
	Log     *zap.Logger // required
	Metrics *Metrics    // nil: nothing is counted

	now    atomic.Pointer[Settings] // what new sessions get, after Use
	stress atomic.Bool              // nearly all connections are taken
	turned atomic.Int64             // clients that are being turned away
	sweep  sweeper

	mu        sync.Mutex // guards what follows
	listeners map[net.Listener]struct{}
	sessions  map[*session]struct{}
	networks  map[netip.Prefix]int // sessions of each /24 and /64
	draining  bool
	closed    bool
	group     sync.WaitGroup // sessions
}

// Use gives new sessions other settings; those that run keep theirs to their
// end. It may be called at any time.
func (srv *Server) Use(s Settings) { srv.now.Store(s.prepared()) }

// settings are those of this moment.
func (srv *Server) settings() *Settings {
	if s := srv.now.Load(); s != nil {
		return s
	}
	srv.now.CompareAndSwap(nil, srv.Settings.prepared())
	return srv.now.Load()
}

// Serve accepts clients until the listener is closed, by Shutdown or Close. An
// error of Accept never ends it: running out of file descriptors passes.
func (srv *Server) Serve(l net.Listener) error {
	if !srv.addListener(l) {
		l.Close()
		return ErrServerClosed
	}
	defer srv.dropListener(l)
	name := l.Addr().String()
	var pause time.Duration
	for {
		c, err := l.Accept()
		if err == nil {
			pause = 0
			// Who is one too many must not hold a descriptor until his goroutine
			// runs: a burst of them would take those of the others.
			if s := srv.admit(c, factsOf(c, name)); s != nil {
				go srv.serve(s)
			} else if srv.mayTurn(c) {
				go srv.turnAway(c)
			}
			continue
		}
		if srv.isClosing() {
			return ErrServerClosed
		}
		if errors.Is(err, net.ErrClosed) {
			return err
		}
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		srv.Metrics.acceptFailed()
		srv.Log.Error("accept failed", zap.String(policy.KeyListener, name), zap.Error(err), zap.Duration("pause", pause))
		time.Sleep(pause)
	}
}

// factsOf are what the socket itself tells of a client.
func factsOf(c net.Conn, listener string) policy.Facts {
	return policy.Facts{Listener: listener, Remote: addrPort(c.RemoteAddr()), Local: addrPort(c.LocalAddr())}
}

// addrPort is the address of a TCP peer, invalid for any other.
func addrPort(a net.Addr) netip.AddrPort {
	t, ok := a.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}
	}
	ap := t.AddrPort()
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
}

// ServeConn serves one client and returns when its session has ended; c is
// closed then. The facts are believed: a simulated client has an address, too.
func (srv *Server) ServeConn(c net.Conn, f policy.Facts) {
	if s := srv.admit(c, f); s != nil {
		srv.serve(s)
	} else if srv.mayTurn(c) {
		srv.turnAway(c)
	}
}

// serve is the goroutine of one session.
func (srv *Server) serve(s *session) {
	defer srv.dropSession(s)
	s.serve()
}

// admit makes a session of a client, or none if a limit is in his way. It is
// apart from serve so that what it needs is not on the stack of every session.
func (srv *Server) admit(c net.Conn, f policy.Facts) *session {
	set := srv.settings()
	f.Stranger = set.stranger(f.Remote.Addr())
	s := newSession(srv, set, c, f)
	if err := srv.addSession(s); err != nil {
		srv.Metrics.connectRefused()
		srv.Log.Info("refuse", zap.String(policy.KeyListener, f.Listener), zap.String(policy.KeyClient, f.ClientName()),
			zap.String(policy.KeyStage, "connect"), zap.Int(policy.KeyCode, replyBusy.Code), zap.String(policy.KeyReply, replyBusy.String()),
			zap.String(policy.KeyBy, string(policy.ByMoongate)), zap.String(policy.KeyCause, err.Error()))
		return nil
	}
	return s
}

// mayTurn reports whether a client may be told that there is no room for him. In
// a flood the others are closed without a word: to be polite to them must not
// cost the descriptors that the admitted ones need.
func (srv *Server) mayTurn(c net.Conn) bool {
	if srv.turned.Add(1) <= int64(srv.settings().Limits.Turned) {
		return true
	}
	srv.turned.Add(-1)
	c.Close()
	return false
}

// turnAway tells him; mayTurn has said that it may.
func (srv *Server) turnAway(c net.Conn) {
	defer srv.turned.Add(-1)
	turnAway(c, replyBusy)
}

// Errors of addSession, for the log.
var (
	errDraining    = errors.New("shutting down")
	errConnections = errors.New("limits.connections")
	errPerNetwork  = errors.New("limits.per_network")
)

// addSession counts a session, or says which limit is in its way.
func (srv *Server) addSession(s *session) error {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	switch {
	case srv.draining || srv.closed:
		return errDraining
	case len(srv.sessions) >= s.set.Limits.Connections:
		return errConnections
	}
	// A forwarder is not one client: it has as many sessions as there are clients.
	if n := s.set.Limits.PerNetwork; n > 0 && s.policy.Stranger && !s.forwarder {
		s.network = networkOf(s.policy.Remote.Addr())
		if srv.networks[s.network] >= n {
			return errPerNetwork
		}
		if srv.networks == nil {
			srv.networks = make(map[netip.Prefix]int)
		}
		srv.networks[s.network]++
	}
	if srv.sessions == nil {
		srv.sessions = make(map[*session]struct{})
	}
	srv.sessions[s] = struct{}{}
	srv.group.Add(1)
	srv.Metrics.opened()
	srv.stress.Store(len(srv.sessions)*10 >= s.set.Limits.Connections*9)
	return nil
}

func (srv *Server) dropSession(s *session) {
	srv.mu.Lock()
	delete(srv.sessions, s)
	srv.stress.Store(len(srv.sessions)*10 >= s.set.Limits.Connections*9)
	if s.network.IsValid() {
		if srv.networks[s.network]--; srv.networks[s.network] == 0 {
			delete(srv.networks, s.network)
		}
	}
	srv.mu.Unlock()
	srv.Metrics.ended()
	srv.group.Done()
}

// networkOf is the /24 or /64 of a client.
func networkOf(a netip.Addr) netip.Prefix {
	bits := 64
	if a = a.Unmap(); a.Is4() {
		bits = 24
	}
	p, _ := a.Prefix(bits)
	return p
}

func (srv *Server) addListener(l net.Listener) bool {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	if srv.draining || srv.closed {
		return false
	}
	if srv.listeners == nil {
		srv.listeners = make(map[net.Listener]struct{})
	}
	srv.listeners[l] = struct{}{}
	return true
}

func (srv *Server) dropListener(l net.Listener) {
	srv.mu.Lock()
	delete(srv.listeners, l)
	srv.mu.Unlock()
	l.Close()
}

func (srv *Server) isClosing() bool {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	return srv.draining || srv.closed
}

// Shutdown ends kindly: no client is accepted any more, those between messages
// hear 421 4.3.2 at once, open transactions may go on until ctx ends. Then all
// is closed. It returns when every session has ended, with the error of ctx if
// some had to be cut.
func (srv *Server) Shutdown(ctx context.Context) error {
	srv.mu.Lock()
	srv.draining = true
	for l := range srv.listeners {
		l.Close()
	}
	for s := range srv.sessions {
		s.wake()
	}
	srv.mu.Unlock()

	ended := make(chan struct{})
	go func() { // ends with the sessions, which Close below makes sure of
		srv.group.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		srv.Close()
		<-ended
		return ctx.Err()
	}
}

// Close closes all listeners and sessions now. A message on its way upstream
// is cut without its dot, so that it is not delivered.
func (srv *Server) Close() error {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	srv.draining, srv.closed = true, true
	for l := range srv.listeners {
		l.Close()
	}
	for s := range srv.sessions {
		s.kill()
	}
	return nil
}

// Sessions is how many clients are connected.
func (srv *Server) Sessions() int {
	srv.mu.Lock()
	defer srv.mu.Unlock()
	return len(srv.sessions)
}
