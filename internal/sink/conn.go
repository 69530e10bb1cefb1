package sink

import (
	"net"
	"sync"
	"time"
)

// listener hands out connections whose first failed read is the last, and
// knows those that are open, so that they can be closed.
type listener struct {
	net.Listener
	timeout time.Duration

	mu     sync.Mutex // guards what follows
	open   map[*conn]struct{}
	closed bool
}

func (l *listener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	c := &conn{Conn: nc, from: l}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		nc.Close()
	}
	l.open[c] = struct{}{}
	return c, nil
}

// closeAll ends every connection, without a word.
func (l *listener) closeAll() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.closed = true
	for c := range l.open {
		c.Conn.Close()
	}
}

// conn sets a deadline before each read, and closes itself when one fails: see doc.go.
type conn struct {
	net.Conn
	from *listener
}

func (c *conn) Read(b []byte) (int, error) {
	if err := c.Conn.SetReadDeadline(time.Now().Add(c.from.timeout)); err != nil {
		return 0, err
	}
	n, err := c.Conn.Read(b)
	if err != nil {
		c.Close()
	}
	return n, err
}

func (c *conn) Close() error {
	c.from.mu.Lock()
	delete(c.from.open, c)
	c.from.mu.Unlock()
	return c.Conn.Close()
}
