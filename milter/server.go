package milter

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"github.com/moongate/moongate/internal/socket"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/message"
)

// ErrServerClosed is returned by Serve after Shutdown or Close.
var ErrServerClosed = errors.New("milter: server closed")

// Server answers MTAs with a policy. Env must be set; the fields do not change
// once Serve is called, but Use gives later sessions another Env.
type Server struct {
	Env  *policy.Env // its Face is taken to be policy.Milter
	Name string      // of the listener in the log; "" means its address

	Pool      *message.Pool // where bodies lie; nil: memory for little, temporary files for the rest
	MaxHeader int           // octets of a header that is judged; beyond, 552 5.3.4. 0 means 1 MiB
	MaxRcpts  int           // recipients of a message, refused ones too; beyond, 452 4.5.3. 0 means 1000

	// Connections is how many MTA connections may be open at once; the next one
	// is closed at once, and the MTA does what it does when a milter is away. 0
	// means no limit. Admit changes it.
	Connections int

	// Stranger reports whether a client that has not logged in is a stranger;
	// nil: all but loopback are.
	Stranger func(netip.Addr) bool

	Idle     time.Duration // an MTA that says nothing is left after it; 0 means 7210 s, as libmilter has it
	Opening  time.Duration // the same before the negotiation; 0 means 60 s
	Write    time.Duration // a packet that the MTA does not take; 0 means 60 s
	Progress time.Duration // between packets that say we still work at end of message; 0 means 4 s: a Sendmail that was told nothing else waits 10 s

	Metrics *Metrics // nil: nothing is counted

	env   atomic.Pointer[policy.Env] // what Use gave
	admit atomic.Int64               // what Admit gave
	crew  crew

	mu      sync.Mutex // guards what follows
	ls      map[net.Listener]bool
	conns   map[*conn]bool
	down    bool
	refused int       // connections that there was no room for, since
	told    time.Time // the log was told of them
	wg      sync.WaitGroup
}

// Use gives sessions that begin from now on another Env; those that live keep
// theirs. It may be called at any time, from any goroutine.
func (s *Server) Use(env *policy.Env) { s.env.Store(env) }

// Admit changes how many connections may be open at once. Those that are open
// stay. It may be called at any time, from any goroutine.
func (s *Server) Admit(connections int) { s.admit.Store(int64(connections)) }

func (s *Server) connections() int {
	if n := s.admit.Load(); n > 0 {
		return int(n)
	}
	return s.Connections
}

func (s *Server) currentEnv() *policy.Env {
	if env := s.env.Load(); env != nil {
		return env
	}
	return s.Env
}

func (s *Server) idle() time.Duration     { return orDefault(s.Idle, 7210*time.Second) }
func (s *Server) opening() time.Duration  { return orDefault(s.Opening, 60*time.Second) }
func (s *Server) write() time.Duration    { return orDefault(s.Write, 60*time.Second) }
func (s *Server) progress() time.Duration { return orDefault(s.Progress, 4*time.Second) }

func (s *Server) maxHeader() int {
	if s.MaxHeader > 0 {
		return s.MaxHeader
	}
	return 1 << 20
}

func (s *Server) maxRcpts() int {
	if s.MaxRcpts > 0 {
		return s.MaxRcpts
	}
	return 1000
}

func (s *Server) stranger(a netip.Addr) bool {
	if s.Stranger != nil {
		return s.Stranger(a)
	}
	return !a.IsLoopback()
}

func orDefault(d, def time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return def
}

// Serve takes connections from l until Shutdown or Close, then returns
// ErrServerClosed. An Accept that fails for want of descriptors or memory is
// tried again: a listener never ends because of its clients.
func (s *Server) Serve(l net.Listener) error {
	l = socket.Listen(l)
	if !s.listen(l) {
		l.Close()
		return ErrServerClosed
	}
	defer s.unlisten(l)
	name := s.Name
	if name == "" {
		name = l.Addr().String()
	}
	var pause time.Duration
	for {
		nc, err := l.Accept()
		if err != nil {
			if s.isDown() {
				return ErrServerClosed
			}
			if errors.Is(err, net.ErrClosed) {
				return err
			}
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			s.currentEnv().Log.Warn("milter: accept failed", zap.Error(err), zap.Duration("pause", pause))
			time.Sleep(pause)
			continue
		}
		pause = 0
		c := s.newConn(nc, name)
		switch err := s.add(c); err {
		case nil:
			s.crew.serve(c)
		case errFull:
			s.turnAway(nc, name)
		default:
			nc.Close()
			return err
		}
	}
}

// tellEvery is how often the log is told of connections that were refused.
const tellEvery = time.Minute

// turnAway closes a connection that there is no room for. To leave it waiting,
// not accepted, would be worse: the MTA would keep its client without a greeting
// until its own timeout (Postfix: 30 s), and then do the same.
func (s *Server) turnAway(nc net.Conn, name string) {
	nc.Close()
	s.Metrics.turnedAway()
	s.mu.Lock()
	s.refused++
	n, now := s.refused, time.Now()
	tell := now.Sub(s.told) >= tellEvery
	if tell {
		s.refused, s.told = 0, now
	}
	s.mu.Unlock()
	if tell {
		s.currentEnv().Log.Warn("milter: too many connections", zap.String(policy.KeyListener, name),
			zap.Int("refused", n), zap.Int("limit", s.connections()))
	}
}

// ServeConn serves one connection and returns when it is over. Tests come in
// here.
func (s *Server) ServeConn(nc net.Conn) {
	name := s.Name
	if name == "" {
		name = "milter"
	}
	c := s.newConn(nc, name)
	switch s.add(c) {
	case nil:
		c.serve(newHand())
	case errFull:
		s.turnAway(nc, name)
	default:
		nc.Close()
	}
}

// linger is how long a session without a message may stay silent while the
// server shuts down. To close it at once would make the MTA tempfail a client
// that is about to say MAIL.
const linger = 2 * time.Second

// Shutdown stops listening and lets sessions end: one with a message when the
// message is decided, one without after a moment of silence. When ctx is done
// the rest is closed, and its error returned.
func (s *Server) Shutdown(ctx context.Context) error {
	for _, c := range s.stop() {
		c.drain()
	}
	done := make(chan struct{})
	go s.wait(done)
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		s.Close()
		<-done
		return ctx.Err()
	}
}

// wait is the goroutine that tells Shutdown of the last session's end.
func (s *Server) wait(done chan struct{}) {
	s.wg.Wait()
	close(done)
}

// Close closes all, listeners and sessions, at once.
func (s *Server) Close() error {
	for _, c := range s.stop() {
		c.kill()
	}
	return nil
}

// stop closes the listeners and returns the sessions that there are.
func (s *Server) stop() []*conn {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.down = true
	s.crew.leave()
	for l := range s.ls {
		l.Close()
	}
	clear(s.ls)
	all := make([]*conn, 0, len(s.conns))
	for c := range s.conns {
		all = append(all, c)
	}
	return all
}

func (s *Server) isDown() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.down
}

func (s *Server) listen(l net.Listener) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return false
	}
	if s.ls == nil {
		s.ls, s.conns = make(map[net.Listener]bool), make(map[*conn]bool)
	}
	s.ls[l] = true
	return true
}

// unlisten lets go of a listener, of which others may take the place.
func (s *Server) unlisten(l net.Listener) {
	s.mu.Lock()
	delete(s.ls, l)
	s.mu.Unlock()
	l.Close()
}

// errFull is the error of add when as many connections are open as may be.
var errFull = errors.New("milter: too many connections")

func (s *Server) add(c *conn) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.down {
		return ErrServerClosed
	}
	if most := s.connections(); most > 0 && len(s.conns) >= most {
		return errFull
	}
	if s.conns == nil {
		s.ls, s.conns = make(map[net.Listener]bool), make(map[*conn]bool)
	}
	s.conns[c] = true
	s.wg.Add(1)
	s.Metrics.opened()
	return nil
}

func (s *Server) remove(c *conn) {
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	s.Metrics.closed()
	s.wg.Done()
}
