package postfix

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"
)

// Message is what Postfix delivered.
type Message struct {
	From  string   // the argument of MAIL FROM:, parameters included, as Postfix sent it
	Rcpts []string // the arguments of RCPT TO:
	Raw   []byte   // the message with CRLF line ends and without dot-stuffing
}

// Body returns the message as it was before Postfix put its own Received field on top: what the client
// of Postfix sent, if it sent a From, a Date and a Message-ID (Postfix adds missing ones for local
// clients).
func (m Message) Body() []byte {
	raw := m.Raw
	if !bytes.HasPrefix(raw, []byte("Received: ")) {
		return raw
	}
	return raw[len(m.Received()):]
}

// Received returns the topmost Received field with its continuation lines and final CRLF, "" if the
// message does not begin with one.
func (m Message) Received() string {
	if !bytes.HasPrefix(m.Raw, []byte("Received: ")) {
		return ""
	}
	rest := m.Raw
	for n := 0; ; {
		i := bytes.Index(rest[n:], []byte("\r\n"))
		if i < 0 {
			return string(m.Raw)
		}
		n += i + 2
		if n == len(rest) || rest[n] != ' ' && rest[n] != '\t' {
			return string(rest[:n])
		}
	}
}

// Sink is an LMTP server that takes everything and keeps it.
type Sink struct {
	l net.Listener

	mu    sync.Mutex // guards what follows
	got   []Message
	conns map[net.Conn]bool
	more  chan struct{} // closed and replaced when got grows

	wg sync.WaitGroup
}

func newSink() (*Sink, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	s := &Sink{l: l, conns: map[net.Conn]bool{}, more: make(chan struct{})}
	s.wg.Add(1)
	go s.accept()
	return s, nil
}

// Messages returns what came so far, in the order of delivery.
func (s *Sink) Messages() []Message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]Message(nil), s.got...)
}

// wait blocks until n messages have come or the deadline is reached.
func (s *Sink) wait(n int, deadline time.Time) bool {
	timer := time.NewTimer(time.Until(deadline))
	defer timer.Stop()
	for {
		s.mu.Lock()
		have, more := len(s.got), s.more
		s.mu.Unlock()
		if have >= n {
			return true
		}
		select {
		case <-more:
		case <-timer.C:
			return false
		}
	}
}

func (s *Sink) accept() {
	defer s.wg.Done()
	for {
		c, err := s.l.Accept()
		if err != nil {
			return
		}
		s.mu.Lock()
		if s.conns == nil { // closing
			s.mu.Unlock()
			c.Close()
			return
		}
		s.conns[c] = true
		s.mu.Unlock()
		s.wg.Add(1)
		go s.serve(c)
	}
}

func (s *Sink) close() {
	s.l.Close()
	s.mu.Lock()
	for c := range s.conns {
		c.Close()
	}
	s.conns = nil
	s.mu.Unlock()
	s.wg.Wait()
}

func (s *Sink) add(m Message) {
	s.mu.Lock()
	s.got = append(s.got, m)
	close(s.more)
	s.more = make(chan struct{})
	s.mu.Unlock()
}

// serve speaks LMTP, RFC 2033, with one client. Its only client is Postfix, so it is short on manners.
func (s *Sink) serve(c net.Conn) {
	defer s.wg.Done()
	defer func() {
		c.Close()
		s.mu.Lock()
		delete(s.conns, c)
		s.mu.Unlock()
	}()
	in := bufio.NewReader(c)
	fmt.Fprint(c, "220 sink LMTP\r\n")
	var m Message
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		line = strings.TrimRight(line, "\r\n")
		verb, arg, _ := strings.Cut(line, ":")
		switch strings.ToUpper(verb) {
		case "MAIL FROM":
			m = Message{From: arg}
			fmt.Fprint(c, "250 2.1.0 ok\r\n")
		case "RCPT TO":
			m.Rcpts = append(m.Rcpts, arg)
			fmt.Fprint(c, "250 2.1.5 ok\r\n")
		case "DATA":
			fmt.Fprint(c, "354 go on\r\n")
			if m.Raw, err = readData(in); err != nil {
				return
			}
			s.add(m)
			for range m.Rcpts {
				fmt.Fprint(c, "250 2.0.0 kept\r\n")
			}
			m = Message{}
		case "QUIT":
			fmt.Fprint(c, "221 2.0.0 bye\r\n")
			return
		default:
			if strings.HasPrefix(strings.ToUpper(line), "LHLO") {
				// Without these Postfix would convert what it delivers.
				fmt.Fprint(c, "250-sink\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250-DSN\r\n250-ENHANCEDSTATUSCODES\r\n250 PIPELINING\r\n")
			} else {
				m = Message{}
				fmt.Fprint(c, "250 2.0.0 ok\r\n")
			}
		}
	}
}

// readData reads up to CRLF.CRLF and undoes the stuffing. A bare LF ends no line here: what Postfix
// keeps of one must be seen in the bytes.
func readData(in *bufio.Reader) ([]byte, error) {
	var raw, line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		if err == bufio.ErrBufferFull {
			continue
		}
		if err != nil {
			return nil, io.ErrUnexpectedEOF
		}
		if !bytes.HasSuffix(line, []byte("\r\n")) {
			continue
		}
		if string(line) == ".\r\n" {
			return raw, nil
		}
		if line[0] == '.' {
			line = line[1:]
		}
		raw = append(raw, line...)
		line = line[:0]
	}
}
