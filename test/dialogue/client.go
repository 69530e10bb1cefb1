package dialogue

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"time"
)

// client is one connection of a dialogue.
type client struct {
	*net.TCPConn
	in      *bufio.Reader
	limit   time.Duration
	pending []byte // of C+, not sent yet
}

func connect(addr string, limit time.Duration) (*client, error) {
	c, err := net.DialTimeout("tcp", addr, limit)
	if err != nil {
		return nil, err
	}
	tcp := c.(*net.TCPConn)
	return &client{TCPConn: tcp, in: bufio.NewReader(tcp), limit: limit}, nil
}

func (c *client) close() { c.Close() }

func (c *client) send(text string) error {
	c.SetWriteDeadline(time.Now().Add(c.limit))
	_, err := io.WriteString(c, text)
	// A server that has closed may be told something and never hear it; what it said before counts.
	if errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	return err
}

// line reads one line of the server. It has to end in CRLF.
func (c *client) line() (string, error) {
	c.SetReadDeadline(time.Now().Add(c.limit))
	line, err := c.in.ReadString('\n')
	if err != nil {
		if line != "" {
			return line, fmt.Errorf("after %q: %w", line, err)
		}
		return "", err
	}
	if !strings.HasSuffix(line, "\r\n") || strings.Contains(line[:len(line)-2], "\r") {
		return line, fmt.Errorf("the line has a stray CR or LF: %q", line)
	}
	return line[:len(line)-2], nil
}

// ended says whether a read error is the end of the connection, and nothing else.
func (c *client) ended(err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return fmt.Errorf("the server neither speaks nor closes")
	}
	if err == io.EOF || errors.Is(err, syscall.ECONNRESET) {
		return nil
	}
	return err
}

func (c *client) hangup(how string) error {
	switch how {
	case "!half-close":
		return c.CloseWrite()
	case "!reset":
		c.SetLinger(0)
	}
	return c.Close()
}
