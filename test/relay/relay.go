// Package relay is a wire between two TCP peers that can be cut at any octet and that remembers what
// went over it.
package relay

import (
	"net"
	"sync"
	"testing"
	"time"
)

// Relay passes connections on to Target.
type Relay struct {
	Addr string

	target string
	l      net.Listener
	wg     sync.WaitGroup

	mu    sync.Mutex // guards what follows
	cut   int        // octets from the client that a new connection lets pass; -1: all
	reset bool
	conns []*pair
	done  bool
}

// pair is one connection through the relay.
type pair struct {
	r              *Relay
	client, server *net.TCPConn
	left           int // of the client's octets; -1: no limit

	sent []byte // by the client, as far as it was passed on; guarded by Relay.mu
}

// Start runs a relay to target until the test ends.
func Start(t testing.TB, target string) *Relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &Relay{Addr: l.Addr().String(), target: target, l: l, cut: -1}
	r.wg.Add(1)
	go r.accept()
	t.Cleanup(func() {
		r.l.Close()
		r.mu.Lock()
		r.done = true
		for _, p := range r.conns {
			p.close()
		}
		r.mu.Unlock()
		r.wg.Wait()
	})
	return r
}

// Cut makes each connection that comes from now on lose both its ends after the client has sent n
// octets; the octets are still delivered, none further. With reset the client sees a RST instead of an
// end of file. A negative n cuts nothing.
func (r *Relay) Cut(n int, reset bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut, r.reset = n, reset
}

// Hangup cuts all connections that are open.
func (r *Relay) Hangup() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.conns {
		p.close()
	}
}

// Sent returns what clients sent through the relay, one entry a connection, and forgets it.
func (r *Relay) Sent() [][]byte {
	r.mu.Lock()
	defer r.mu.Unlock()
	var all [][]byte
	for _, p := range r.conns {
		all = append(all, p.sent)
		p.sent = nil
	}
	return all
}

func (r *Relay) accept() {
	defer r.wg.Done()
	for {
		c, err := r.l.Accept()
		if err != nil {
			return
		}
		s, err := net.DialTimeout("tcp", r.target, 10*time.Second)
		if err != nil {
			c.Close()
			continue
		}
		p := &pair{r: r, client: c.(*net.TCPConn), server: s.(*net.TCPConn)}
		r.mu.Lock()
		p.left = r.cut
		if r.reset {
			p.client.SetLinger(0)
		}
		r.conns = append(r.conns, p)
		if r.done {
			p.close()
		}
		r.wg.Add(2)
		r.mu.Unlock()
		go p.up()
		go p.down()
	}
}

func (p *pair) close() {
	p.client.Close()
	p.server.Close()
}

// up passes what the client says.
func (p *pair) up() {
	defer p.r.wg.Done()
	buf := make([]byte, 32<<10)
	for p.left != 0 {
		room := buf
		if p.left > 0 && p.left < len(room) {
			room = room[:p.left]
		}
		n, err := p.client.Read(room)
		if n > 0 {
			p.r.mu.Lock()
			p.sent = append(p.sent, room[:n]...)
			p.r.mu.Unlock()
			if p.left > 0 {
				p.left -= n
			}
			if _, err := p.server.Write(room[:n]); err != nil {
				break
			}
		}
		if err != nil {
			p.server.CloseWrite()
			return
		}
	}
	p.close()
}

// down passes what the server says.
func (p *pair) down() {
	defer p.r.wg.Done()
	buf := make([]byte, 32<<10)
	for {
		n, err := p.server.Read(buf)
		if n > 0 {
			if _, err := p.client.Write(buf[:n]); err != nil {
				break
			}
		}
		if err != nil {
			break
		}
	}
	p.close()
}
