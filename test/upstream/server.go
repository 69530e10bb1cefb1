package upstream

import (
	"bytes"
	"fmt"
	"net"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Server is a running scripted server.
type Server struct {
	Addr string // 127.0.0.1:port

	t     testing.TB
	rules []*rule

	guard int // a socket that is bound to Addr and never listens, see Start

	mu       sync.Mutex // guards what follows, and rule.fitted
	l        net.Listener
	conns    []*conn
	messages []Message
	changed  chan struct{} // closed and replaced whenever something was recorded
	forget   bool          // keep no octets
	wg       sync.WaitGroup
}

// Message is what a client handed over, whole or not.
type Message struct {
	Conn     int      // the number of the connection, from 1
	Mail     string   // what stood behind MAIL FROM:
	Rcpts    []string // behind each RCPT TO: that was answered 2xx
	Data     []byte   // as on the wire, stuffed, without the final dot line
	Complete bool     // the final dot was read
	Accepted bool     // and the script answered it with 2xx
}

// Body returns Data without dot-stuffing.
func (m Message) Body() []byte {
	return bytes.TrimPrefix(bytes.ReplaceAll(append([]byte("\r\n"), m.Data...), []byte("\r\n."), []byte("\r\n")), []byte("\r\n"))
}

// Start runs a server with the script until the test ends. A script with an error fails the test.
func Start(t testing.TB, script string) *Server {
	t.Helper()
	rules, err := parse(script)
	if err != nil {
		t.Fatalf("upstream script, %v", err)
	}
	s := &Server{t: t, rules: rules, changed: make(chan struct{})}
	// The guard keeps the port ours while the server is stopped: nobody else can be given it.
	if s.guard, s.Addr, err = guard(); err != nil {
		t.Fatalf("upstream: %v", err)
	}
	t.Cleanup(func() {
		s.Stop()
		syscall.Close(s.guard)
	})
	s.Listen()
	return s
}

// guard binds a socket to a free port of loopback. Others can bind to that address explicitly (as Go does,
// with SO_REUSEADDR) and listen; a connection to it is refused until then.
func guard() (fd int, addr string, err error) {
	if fd, err = syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0); err != nil {
		return 0, "", err
	}
	if err = syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err == nil {
		err = syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	var self syscall.Sockaddr
	if err == nil {
		self, err = syscall.Getsockname(fd)
	}
	if err != nil {
		syscall.Close(fd)
		return 0, "", err
	}
	return fd, fmt.Sprintf("127.0.0.1:%d", self.(*syscall.SockaddrInet4).Port), nil
}

// Listen starts a stopped server again on its address; the record and the counts go on.
func (s *Server) Listen() {
	s.t.Helper()
	l, err := net.Listen("tcp", s.Addr)
	if err != nil {
		s.t.Fatalf("upstream: %v", err)
	}
	s.mu.Lock()
	s.l = l
	s.mu.Unlock()
	s.wg.Add(1)
	go s.accept(l)
}

// Forget makes the server keep no octets of messages and connections from now on, for tests with many
// of them.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.forget = true
}

// Stop closes the listener and all connections, and waits until nothing of the server runs.
func (s *Server) Stop() {
	s.kill()
	s.wg.Wait()
}

// kill is Stop without the wait: a connection's own goroutine may call it.
func (s *Server) kill() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.l != nil {
		s.l.Close()
		s.l = nil
	}
	for _, c := range s.conns {
		c.Close()
	}
}

// Hangup closes the connections that are open and goes on listening, as a server that restarts.
func (s *Server) Hangup() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		c.Close()
	}
}

func (s *Server) accept(l net.Listener) {
	defer s.wg.Done()
	for {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.l != l {
			s.mu.Unlock()
			nc.Close()
			return
		}
		c := newConn(s, nc, len(s.conns)+1)
		s.conns = append(s.conns, c)
		s.notify()
		s.wg.Add(1)
		s.mu.Unlock()
		go func() {
			defer s.wg.Done()
			c.serve()
			c.Close()
			s.mu.Lock()
			c.closed = true
			s.notify()
			s.mu.Unlock()
		}()
	}
}

// notify wakes all who wait for a change. s.mu is held.
func (s *Server) notify() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// fit returns the rule for an event, nil if none fits.
func (s *Server) fit(event string, c *conn, line string) *rule {
	s.mu.Lock()
	defer s.mu.Unlock()
	var found *rule
	for _, r := range s.rules {
		if r.event != event || r.conn != 0 && r.conn != c.id || r.match != nil && !r.match.MatchString(line) {
			continue
		}
		r.fitted++ // also for those behind the one that is taken: #2 means the second such command
		if found == nil && (r.nth == 0 || r.nth == r.fitted) {
			found = r
		}
	}
	return found
}

// find returns the first rule of a kind that holds for a connection, whatever it says.
func (s *Server) find(event string, c *conn) *rule {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.rules {
		if r.event == event && (r.conn == 0 || r.conn == c.id) && (r.nth == 0 || r.nth == c.id) {
			return r
		}
	}
	return nil
}

// Messages returns all messages that got as far as the body.
func (s *Server) Messages() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Message(nil), s.messages...)
}

// Lines returns the commands of one connection in order, without CRLF; 0 means of all connections. A
// line that did not end in CRLF, or that holds a stray CR, is shown with what was there.
func (s *Server) Lines(conn int) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	var lines []string
	for _, c := range s.conns {
		if conn == 0 || c.id == conn {
			lines = append(lines, c.lines...)
		}
	}
	return lines
}

// Bytes returns every octet that came on a connection, in order.
func (s *Server) Bytes(conn int) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		if c.id == conn {
			return append([]byte(nil), c.all...)
		}
	}
	return nil
}

// Conns says how many connections there were, and how many of them are open.
func (s *Server) Conns() (all, open int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.conns {
		if !c.closed {
			open++
		}
	}
	return len(s.conns), open
}

// Wait blocks until yes says so; it is asked again after every change of the record. It returns false
// when that has not happened within the limit.
func (s *Server) Wait(limit time.Duration, yes func() bool) bool {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for {
		s.mu.Lock()
		changed := s.changed
		s.mu.Unlock()
		if yes() {
			return true
		}
		select {
		case <-changed:
		case <-timer.C:
			return yes()
		}
	}
}
