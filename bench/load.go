package bench

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Load is a client load: Conns clients that each send message after message
// until the time is over.
type Load struct {
	Addr  string
	Conns int
	Size  int  // octets of a message
	Keep  bool // one connection for all messages of a client, else one each
	For   time.Duration
}

// Buffers are shared by the connections of a run, so that the collector of this
// process has little to do.
var (
	readers = sync.Pool{New: func() any { return bufio.NewReaderSize(nil, 64<<10) }}
	writers = sync.Pool{New: func() any { return bufio.NewWriterSize(nil, 4<<10) }}
)

// Run sends, and returns how many messages were accepted and how long that
// took. A refused message or a broken connection is an error.
func (l Load) Run(ctx context.Context) (messages int64, took time.Duration, err error) {
	msg := message(l.Size)
	var sent atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, l.Conns)
	start := time.Now()
	end := start.Add(l.For)
	for range l.Conns {
		wg.Go(func() {
			if err := l.client(ctx, msg, end, &sent); err != nil {
				errs <- err
			}
		})
	}
	wg.Wait()
	took = time.Since(start)
	close(errs)
	return sent.Load(), took, <-errs
}

// message is a message of about that size, dot-stuffed and ended.
func message(size int) []byte {
	var b bytes.Buffer
	b.WriteString("From: Sender <sender@example.net>\r\nTo: <user@example.org>\r\nSubject: a message for the bench\r\n" +
		"Message-ID: <1@example.net>\r\nDate: Thu, 1 Oct 2026 12:00:00 +0000\r\nMIME-Version: 1.0\r\nContent-Type: text/plain\r\n\r\n")
	line := strings.Repeat("moon gate ", 7) + "\r\n"
	for b.Len() < size {
		b.WriteString(line)
	}
	b.WriteString(".\r\n")
	return b.Bytes()
}

func (l Load) client(ctx context.Context, msg []byte, end time.Time, sent *atomic.Int64) error {
	for { // at least one, however late the machine lets us begin
		if err := l.session(msg, end, sent); err != nil {
			return err
		}
		if !time.Now().Before(end) || ctx.Err() != nil {
			return nil
		}
	}
}

func (l Load) session(msg []byte, end time.Time, sent *atomic.Int64) error {
	d := net.Dialer{KeepAlive: -1} // what is measured is not this end
	c, err := d.Dial("tcp", l.Addr)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(max(0, time.Until(end)) + time.Minute))
	r := readers.Get().(*bufio.Reader)
	defer readers.Put(r)
	r.Reset(c)
	if err := expect(r, "220"); err != nil {
		return err
	}
	if _, err := io.WriteString(c, "EHLO client.example.net\r\n"); err != nil {
		return err
	}
	if err := expect(r, "250"); err != nil {
		return err
	}
	for {
		// Pipelined as every MTA does it (RFC 2920).
		if _, err := io.WriteString(c, "MAIL FROM:<sender@example.net>\r\nRCPT TO:<user@example.org>\r\nDATA\r\n"); err != nil {
			return err
		}
		for _, code := range []string{"250", "250", "354"} {
			if err := expect(r, code); err != nil {
				return err
			}
		}
		if _, err := c.Write(msg); err != nil {
			return err
		}
		if err := expect(r, "250"); err != nil {
			return err
		}
		sent.Add(1)
		if !l.Keep || time.Now().After(end) {
			break
		}
	}
	if _, err := io.WriteString(c, "QUIT\r\n"); err != nil {
		return err
	}
	return expect(r, "221")
}

// expect reads one reply.
func expect(r *bufio.Reader, code string) error {
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return fmt.Errorf("waiting for %s: %w", code, err)
		}
		if len(line) < 4 || string(line[:3]) != code {
			return fmt.Errorf("waiting for %s: %q", code, line)
		}
		if line[3] != '-' {
			return nil
		}
	}
}
