package milter

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"time"

	"github.com/emersion/go-milter"

	"github.com/moongate/moongate/internal/socket"
	"github.com/moongate/moongate/milter/wire"
)

// What we offer a filter: the actions and steps of version 6 without those
// whose answers go-milter cannot parse: ADDRCPT_PAR (0x80), SETSYMLIST
// (0x100), SKIP (0x400); and without RCPT_REJ (0x800), as we never tell of a
// refused recipient. With its own default, a protocol mask of 0, libmilter
// takes us for version 1 and hangs up where a filter has no eoh callback.
const (
	offerActions  milter.OptAction   = 0x7f
	offerProtocol milter.OptProtocol = 0x1ff3ff
)

// A link is one connection to a filter: go-milter's session, and the socket
// under it, which the library does not let go of in every case.
type link struct {
	*milter.ClientSession
	c    *lazyConn
	stop func() bool // ends the watch of the context
}

// dial reaches a filter and agrees on options, before the deadline.
func (f *Filter) dial(ctx context.Context, deadline time.Time) (*link, error) {
	if !f.breaker.allow() {
		return nil, errBreaker
	}
	return f.negotiate(ctx, deadline)
}

func (f *Filter) negotiate(ctx context.Context, deadline time.Time) (*link, error) {
	l := &link{}
	opts := milter.ClientOptions{ActionMask: offerActions, ProtocolMask: offerProtocol}
	opts.Dialer = dialFunc(func(network, address string) (net.Conn, error) {
		d := net.Dialer{Deadline: deadline}
		c, err := d.DialContext(ctx, network, address)
		if err != nil {
			return nil, err
		}
		c.SetDeadline(deadline)
		l.c = newLazyConn(socket.NewQuick(c), f.maxAnswer())
		l.c.loose = &f.loose
		l.stop = context.AfterFunc(ctx, func() { c.Close() })
		return l.c, nil
	})
	network, address := f.network()
	s, err := milter.NewClientWithOptions(network, address, opts).Session()
	if err != nil {
		// Session leaves the socket open when the negotiation fails.
		l.drop()
		return nil, err
	}
	l.ClientSession = s
	return l, nil
}

type dialFunc func(network, address string) (net.Conn, error)

// Dial implements milter.Dialer.
func (fn dialFunc) Dial(network, address string) (net.Conn, error) { return fn(network, address) }

// drop closes the socket, whatever is under way.
func (l *link) drop() {
	if l.stop != nil {
		l.stop()
	}
	if l.c != nil {
		l.c.Conn.Close()
	}
}

// quit takes leave: ABORT if a message is open, QUIT. A filter that does not
// take it within a second is left.
func (l *link) quit() {
	l.c.SetDeadline(time.Now().Add(time.Second))
	l.ClientSession.Close()
	l.drop() // the library does not, if QUIT could not be written
}

// raw says a command for which the library has no method, and returns the
// answer as the library's own methods do. The library reads no octet ahead, so
// the two can take turns.
func (l *link) raw(cmd wire.Command, silent milter.OptProtocol) (*milter.Action, error) {
	f, err := cmd.Frame()
	if err != nil {
		return nil, err
	}
	b, err := f.Append(nil)
	if err != nil {
		return nil, err
	}
	if _, err := l.c.Write(b); err != nil {
		return nil, err
	}
	if l.ProtocolOption(silent) {
		return &milter.Action{Code: milter.ActContinue}, nil
	}
	for {
		r := wire.NewReader(&oneFrame{r: l.c})
		f, err := r.Next()
		if err != nil {
			return nil, err
		}
		switch a := milter.ActionCode(f.Code); a {
		case wire.ActProgress:
			continue
		case milter.ActAccept, milter.ActContinue, milter.ActDiscard, milter.ActReject, milter.ActTempFail:
			return &milter.Action{Code: a}, nil
		case milter.ActReplyCode:
			text, _, _ := bytes.Cut(f.Data, []byte{0})
			if len(text) < 4 {
				return nil, wire.ErrMalformed
			}
			code, _, err := wire.DecodeReply(f)
			return &milter.Action{Code: a, SMTPCode: code, SMTPText: string(text[4:])}, err
		}
		return nil, fmt.Errorf("%w: answer 0x%02x", wire.ErrMalformed, f.Code)
	}
}

// oneFrame reads no further than one frame: first the four octets of its
// length, then the rest as it is asked for.
type oneFrame struct {
	r    io.Reader
	head [4]byte
	got  int
	left int
}

// Read implements io.Reader.
func (o *oneFrame) Read(p []byte) (int, error) {
	limit := 4 - o.got
	if limit == 0 {
		limit = o.left
	}
	if limit == 0 {
		return 0, io.EOF
	}
	n, err := o.r.Read(p[:min(len(p), limit)])
	if o.got < 4 {
		copy(o.head[o.got:], p[:n])
		if o.got += n; o.got == 4 {
			o.left = int(min(uint32(o.head[0])<<24|uint32(o.head[1])<<16|uint32(o.head[2])<<8|uint32(o.head[3]), wire.MaxFrame))
		}
	} else {
		o.left -= n
	}
	return n, err
}
