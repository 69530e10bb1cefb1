package bench

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"sync"
)

// Sink takes every message and forgets it, as fast as it can. It stands for an
// MTA: it knows PROXY v2, XCLIENT and XFORWARD as Postfix does.
type Sink struct {
	listener net.Listener
	proxy    bool
	mu       sync.Mutex // guards conns
	conns    map[net.Conn]struct{}
	done     sync.WaitGroup
}

// NewSink listens on loopback. With proxy, a connection begins with a PROXY v2
// header.
func NewSink(proxy bool) (*Sink, error) {
	lc := net.ListenConfig{KeepAlive: -1}
	l, err := lc.Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Sink{listener: l, proxy: proxy, conns: map[net.Conn]struct{}{}}
	s.done.Go(s.accept)
	return s, nil
}

// Addr is where it listens.
func (s *Sink) Addr() string { return s.listener.Addr().String() }

// Close ends it with all its connections.
func (s *Sink) Close() {
	s.listener.Close()
	s.mu.Lock()
	for c := range s.conns {
		c.Close()
	}
	s.mu.Unlock()
	s.done.Wait()
}

func (s *Sink) accept() {
	for {
		c, err := s.listener.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		s.conns[c] = struct{}{}
		s.mu.Unlock()
		s.done.Go(func() {
			s.serve(c)
			c.Close()
			s.mu.Lock()
			delete(s.conns, c)
			s.mu.Unlock()
		})
	}
}

const ehlo = "250-sink.example.org\r\n250-PIPELINING\r\n250-SIZE 102400000\r\n250-ENHANCEDSTATUSCODES\r\n250-8BITMIME\r\n250-DSN\r\n" +
	"250-XCLIENT NAME ADDR PORT PROTO HELO LOGIN DESTADDR DESTPORT REVERSE_NAME\r\n250-XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE\r\n250 SMTPUTF8\r\n"

func (s *Sink) serve(c net.Conn) {
	r, w := readers.Get().(*bufio.Reader), writers.Get().(*bufio.Writer)
	defer readers.Put(r)
	defer writers.Put(w)
	r.Reset(c)
	w.Reset(c)
	if s.proxy {
		head := make([]byte, 16)
		if _, err := io.ReadFull(r, head); err != nil {
			return
		}
		if _, err := r.Discard(int(head[14])<<8 | int(head[15])); err != nil {
			return
		}
	}
	w.WriteString("220 sink.example.org ESMTP\r\n")
	for {
		if r.Buffered() == 0 && w.Flush() != nil {
			return
		}
		line, err := r.ReadSlice('\n')
		if err != nil || len(line) < 4 {
			return
		}
		switch {
		case is(line, "EHLO"):
			w.WriteString(ehlo)
		case is(line, "DATA"):
			w.WriteString("354 End data with <CR><LF>.<CR><LF>\r\n")
			if w.Flush() != nil || body(r) != nil {
				return
			}
			w.WriteString("250 2.0.0 Ok: queued as 4BENCH\r\n")
		case is(line, "XCLI"):
			w.WriteString("220 sink.example.org ESMTP\r\n")
		case is(line, "QUIT"):
			w.WriteString("221 2.0.0 Bye\r\n")
			w.Flush()
			return
		default:
			w.WriteString("250 2.0.0 Ok\r\n")
		}
	}
}

func is(line []byte, verb string) bool { return bytes.EqualFold(line[:4], []byte(verb)) }

var end = []byte("\r\n.\r\n")

// body reads up to the final dot.
func body(r *bufio.Reader) error {
	var tail [8]byte // the last octets of what was read before
	kept := 2
	copy(tail[:], "\r\n")
	for {
		if _, err := r.Peek(1); err != nil {
			return err
		}
		span, _ := r.Peek(r.Buffered())
		// The end may straddle two spans: look at the seam first.
		seam := append(tail[:kept:kept], span[:min(4, len(span))]...)
		if i := bytes.Index(seam, end); i >= 0 {
			r.Discard(i + len(end) - kept)
			return nil
		}
		if i := bytes.Index(span, end); i >= 0 {
			r.Discard(i + len(end))
			return nil
		}
		all := append(append([]byte(nil), tail[:kept]...), span[max(0, len(span)-4):]...)
		all = all[max(0, len(all)-4):]
		kept = copy(tail[:], all)
		r.Discard(len(span))
	}
}
