package upstream

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// conn is one client of the server. Its goroutine alone writes to it; lines, all and closed are guarded
// by Server.mu.
type conn struct {
	net.Conn
	s      *Server
	id     int
	lines  []string
	all    []byte
	closed bool

	buf   []byte // read and not yet used
	room  []byte // where fill reads into
	limit int    // octets that may still be read, -1: any number (an input rule)
	mute  bool   // !hang was said
	msg   Message
}

var errEnd = errors.New("the script ends the connection")

func newConn(s *Server, nc net.Conn, id int) *conn {
	return &conn{s: s, Conn: nc, id: id, limit: -1, msg: Message{Conn: id}}
}

func (c *conn) serve() {
	// A test that forgot its client must not hang for ever.
	c.SetDeadline(time.Now().Add(10 * time.Minute))
	input := c.s.find("input", c)
	if input != nil {
		c.limit = input.n
	}
	err := c.session()
	if input != nil && c.limit == 0 && errors.Is(err, errLimit) {
		c.do(input, "")
	}
}

func (c *conn) session() error {
	if c.s.find("proxy", c) != nil {
		if err := c.proxyHeader(); err != nil {
			return err
		}
	}
	if _, err := c.react("connect", "", "220 upstream.example ESMTP"); err != nil {
		return err
	}
	for {
		line, err := c.command()
		if err != nil {
			return err
		}
		if err := c.obey(line); err != nil {
			return err
		}
	}
}

const ehlo = "250-upstream.example|250-PIPELINING|250-SIZE 52428800|250-8BITMIME|250-SMTPUTF8|250-DSN|250 ENHANCEDSTATUSCODES"

// obey answers one command.
func (c *conn) obey(line string) error {
	verb, arg, _ := strings.Cut(line, " ")
	verb = strings.ToUpper(verb)
	usual := map[string]string{
		"EHLO": ehlo, "HELO": "250 upstream.example", "LHLO": ehlo,
		"MAIL": "250 2.1.0 Ok", "RCPT": "250 2.1.5 Ok", "RSET": "250 2.0.0 Ok", "NOOP": "250 2.0.0 Ok",
		"QUIT": "221 2.0.0 Bye", "XCLIENT": "220 upstream.example ESMTP", "XFORWARD": "250 2.0.0 Ok",
		"VRFY": "252 2.0.0 who knows", "DATA": "354 End data with <CR><LF>.<CR><LF>",
	}[verb]
	if usual == "" {
		usual = "502 5.5.2 Error: command not recognized"
	}
	if verb == "DATA" && len(c.msg.Rcpts) == 0 {
		usual = "554 5.5.1 Error: no valid recipients"
	}
	code, err := c.react(verb, line, usual)
	if err != nil {
		return err
	}
	switch {
	case verb == "EHLO" || verb == "HELO" || verb == "RSET" || verb == "XCLIENT":
		c.msg = Message{Conn: c.id}
	case verb == "MAIL" && code/100 == 2:
		c.msg = Message{Conn: c.id, Mail: strings.TrimSpace(afterColon(arg))}
	case verb == "RCPT" && code/100 == 2:
		c.msg.Rcpts = append(c.msg.Rcpts, strings.TrimSpace(afterColon(arg)))
	case verb == "DATA" && code == 354:
		return c.data()
	case verb == "QUIT":
		return errEnd
	}
	return nil
}

func afterColon(arg string) string {
	_, rest, _ := strings.Cut(arg, ":")
	return rest
}

// data reads a message up to CRLF.CRLF; no other sequence ends it.
func (c *conn) data() error {
	c.s.mu.Lock()
	at := len(c.s.messages)
	c.s.messages = append(c.s.messages, c.msg)
	c.s.mu.Unlock()
	msg := c.msg
	c.msg = Message{Conn: c.id}
	keep := func() {
		c.s.mu.Lock()
		c.s.messages[at] = msg
		c.s.notify()
		c.s.mu.Unlock()
	}
	defer keep()

	cut := c.s.find("body", c)
	for seen := 0; ; {
		end := endOfData(c.buf, seen)
		if cut != nil && len(c.buf) >= cut.n && (end < 0 || end > cut.n) {
			msg.Data = c.buf
			return c.do(cut, "")
		}
		if end >= 0 {
			msg.Data, c.buf = c.buf[:end:end], c.buf[end+3:]
			break
		}
		if seen = len(c.buf); cut == nil && seen > 4 && c.forgets() {
			c.buf = append(c.buf[:0], c.buf[seen-4:]...)
			seen = 4
		}
		if err := c.fill(); err != nil {
			msg.Data = c.buf
			return err
		}
	}
	r, code := c.choose(".", "", "250 2.0.0 Ok: queued as U{n}")
	msg.Complete, msg.Accepted = true, code/100 == 2
	keep() // before the reply: who hears it may look at once
	return c.do(r, "")
}

func (c *conn) forgets() bool {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	return c.s.forget
}

// endOfData returns where in b the line of the final dot begins, -1 if it is not there. Octets before
// seen were looked at already.
func endOfData(b []byte, seen int) int {
	if bytes.HasPrefix(b, []byte(".\r\n")) {
		return 0
	}
	from := max(0, seen-4)
	if i := bytes.Index(b[from:], []byte("\r\n.\r\n")); i >= 0 {
		return from + i + 2
	}
	return -1
}

// react does what the first fitting rule says, or what is usual. It returns the code of the reply.
func (c *conn) react(event, line, usual string) (int, error) {
	r, code := c.choose(event, line, usual)
	return code, c.do(r, line)
}

// choose finds the rule for an event, and the code of its reply.
func (c *conn) choose(event, line, usual string) (*rule, int) {
	r := c.s.fit(event, c, line)
	if r == nil {
		r = &rule{reply: usual}
	}
	code := 0
	if len(r.reply) >= 3 {
		code, _ = strconv.Atoi(r.reply[:3])
	}
	return r, code
}

// do says a rule's reply and does what follows it.
func (c *conn) do(r *rule, line string) error {
	_, arg, _ := strings.Cut(line, " ")
	c.s.mu.Lock()
	n := len(c.s.messages)
	c.s.mu.Unlock()
	text := r.wire(strings.NewReplacer("{n}", strconv.Itoa(n), "{conn}", strconv.Itoa(c.id), "{arg}", arg))
	if !c.mute && text != "" {
		if _, err := io.WriteString(c, text); err != nil {
			return err
		}
	}
	switch r.then {
	case "hang":
		c.mute = true
	case "close":
		return errEnd
	case "reset":
		c.Conn.(*net.TCPConn).SetLinger(0)
		return errEnd
	case "stop":
		c.s.kill()
		return errEnd
	}
	return nil
}

// command reads one line. An idle rule counts here.
func (c *conn) command() (string, error) {
	idle := c.s.find("idle", c)
	for {
		if i := bytes.IndexByte(c.buf, '\n'); i >= 0 {
			line := string(c.buf[:i+1])
			c.buf = c.buf[i+1:]
			line = strings.TrimSuffix(line, "\r\n")
			c.s.mu.Lock()
			c.lines = append(c.lines, line)
			c.s.notify()
			c.s.mu.Unlock()
			return line, nil
		}
		if idle != nil {
			c.SetReadDeadline(time.Now().Add(idle.idle))
		}
		err := c.fill()
		if idle != nil && errors.Is(err, os.ErrDeadlineExceeded) {
			if err := c.do(idle, ""); err != nil {
				return "", err
			}
			idle = nil
			c.SetReadDeadline(time.Time{})
			continue
		}
		if err != nil {
			return "", err
		}
	}
}

var errLimit = errors.New("the script reads no further")

// fill reads what there is, never past the limit of an input rule.
func (c *conn) fill() error {
	if c.limit == 0 {
		return errLimit
	}
	if c.room == nil {
		c.room = make([]byte, 32<<10)
	}
	room := c.room
	if c.limit > 0 && c.limit < len(room) {
		room = room[:c.limit]
	}
	n, err := c.Read(room)
	if n > 0 {
		c.buf = append(c.buf, room[:n]...)
		c.s.mu.Lock()
		if !c.s.forget {
			c.all = append(c.all, room[:n]...)
		}
		c.s.notify()
		c.s.mu.Unlock()
		if c.limit > 0 {
			c.limit -= n
		}
		return nil
	}
	return err
}

var proxy2 = []byte("\r\n\r\n\x00\r\nQUIT\n")

// proxyHeader reads the header of the PROXY protocol and records it as a line: version 1 as it came,
// version 2 in the words of version 1 with PROXY2 in front.
func (c *conn) proxyHeader() error {
	need := func(n int) error {
		for len(c.buf) < n {
			if err := c.fill(); err != nil {
				return err
			}
		}
		return nil
	}
	if err := need(16); err != nil {
		return err
	}
	if !bytes.HasPrefix(c.buf, proxy2) {
		line, err := c.command()
		if err == nil && !strings.HasPrefix(line, "PROXY ") {
			return fmt.Errorf("no PROXY header: %q", line)
		}
		return err
	}
	length := int(binary.BigEndian.Uint16(c.buf[14:16]))
	if err := need(16 + length); err != nil {
		return err
	}
	head, addr := c.buf[:16], c.buf[16:16+length]
	c.buf = c.buf[16+length:]
	line := fmt.Sprintf("PROXY2 %#02x", head[12:14])
	switch {
	case head[12] == 0x20:
		line = "PROXY2 LOCAL"
	case head[13] == 0x11 && length >= 12:
		line = fmt.Sprintf("PROXY2 TCP4 %s %s %d %d", net.IP(addr[:4]), net.IP(addr[4:8]),
			binary.BigEndian.Uint16(addr[8:]), binary.BigEndian.Uint16(addr[10:]))
	case head[13] == 0x21 && length >= 36:
		line = fmt.Sprintf("PROXY2 TCP6 %s %s %d %d", net.IP(addr[:16]), net.IP(addr[16:32]),
			binary.BigEndian.Uint16(addr[32:]), binary.BigEndian.Uint16(addr[34:]))
	}
	c.s.mu.Lock()
	c.lines = append(c.lines, line)
	c.s.notify()
	c.s.mu.Unlock()
	return nil
}
