package proxy

import (
	"net"
	"sync"
	"time"

	"github.com/moongate/moongate/policy"
)

// replies is all that a session says to its client. Replies gather in it and
// leave in one write, which must happen before every wait (RFC 2920 3.2). What
// is gathered is given back with the write: an idle session holds nothing.
type replies struct {
	conn    net.Conn
	timeout time.Duration // for one write
	buf     *[]byte
	err     error // of the first write that failed; nothing is written after it
}

// replyBuffers are shared by all sessions.
var replyBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 2048); return &b }}

// maxGathered is when a gathered group leaves, whether somebody waits or not.
const maxGathered = 16 << 10

// add gathers a reply.
func (r *replies) add(p *policy.Reply) {
	if r.buf == nil {
		r.buf = replyBuffers.Get().(*[]byte)
	}
	*r.buf = p.Append(*r.buf)
	if len(*r.buf) > maxGathered {
		r.flush()
	}
}

// flush writes what was gathered.
func (r *replies) flush() error { return r.leave(net.Conn.Write) }

// bye writes what was gathered; the connection must be closed behind it.
func (r *replies) bye() error { return r.leave(writeLast) }

func (r *replies) leave(write func(net.Conn, []byte) (int, error)) error {
	if r.buf == nil {
		return r.err
	}
	b := r.buf
	r.buf = nil
	if r.err == nil {
		r.conn.SetWriteDeadline(time.Now().Add(r.timeout))
		_, r.err = write(r.conn, *b)
	}
	if cap(*b) <= 2*maxGathered {
		*b = (*b)[:0]
		replyBuffers.Put(b)
	}
	return r.err
}

// What moongate itself says. Outages and bugs are 4xx: a 5xx here is syntax, a
// sequence of commands that RFC 5321 forbids, or a stated limit.
var (
	replyOK       = policy.Say(250, policy.Status{2, 0, 0}, "Ok")
	replySender   = policy.Say(250, policy.Status{2, 1, 0}, "Ok")
	replyRcpt     = policy.Say(250, policy.Status{2, 1, 5}, "Ok")
	replyTaken    = policy.Say(250, policy.Status{2, 0, 0}, "Ok")
	replyBye      = policy.Say(221, policy.Status{2, 0, 0}, "Bye")
	replyHelp     = policy.Say(214, policy.Status{2, 0, 0}, "See RFC 5321")
	replyVrfy     = policy.Say(252, policy.Status{2, 5, 2}, "Send some mail, it will be tried")
	replyGoAhead  = policy.Say(354, policy.NoStatus, "End data with <CR><LF>.<CR><LF>")
	replyBusy     = policy.Say(421, policy.Status{4, 3, 2}, "Too many connections, please try again later")
	replyDown     = policy.Say(421, policy.Status{4, 3, 2}, "Service not available, please try again later")
	replyShutdown = policy.Say(421, policy.Status{4, 3, 2}, "Service shutting down, please try again later")
	replyTimeout  = policy.Say(421, policy.Status{4, 4, 2}, "Timeout, closing")
	replyErrors   = policy.Say(421, policy.Status{4, 7, 0}, "Too many errors, closing")
	replyPanic    = policy.Say(421, policy.Status{4, 3, 0}, "Internal trouble, please try again later")

	replyUnknown   = policy.Say(500, policy.Status{5, 5, 2}, "Command not recognized")
	replyGarbage   = policy.Say(500, policy.Status{5, 5, 2}, "Command lines are printable ASCII that ends in CR LF")
	replyLongLine  = policy.Say(500, policy.Status{5, 5, 2}, "Line too long")
	replyHTTP      = policy.Say(554, policy.Status{5, 5, 1}, "This is SMTP")
	replyNoArg     = policy.Say(501, policy.Status{5, 5, 4}, "No argument is allowed here")
	replyHeloArg   = policy.Say(501, policy.Status{5, 5, 4}, "A domain or an address literal is needed")
	replyNeedArg   = policy.Say(501, policy.Status{5, 5, 4}, "An argument is needed")
	replyNotHere   = policy.Say(502, policy.Status{5, 5, 1}, "Command not implemented")
	replyNoTLS     = policy.Say(502, policy.Status{5, 5, 1}, "TLS is not offered here")
	replyNoAuth    = policy.Say(503, policy.Status{5, 5, 1}, "Authentication is not offered here")
	replyNeedHelo  = policy.Say(503, policy.Status{5, 5, 1}, "Send HELO or EHLO first")
	replyNeedMail  = policy.Say(503, policy.Status{5, 5, 1}, "Send MAIL first")
	replyNeedRcpt  = policy.Say(503, policy.Status{5, 5, 1}, "Send RCPT first")
	replyNested    = policy.Say(503, policy.Status{5, 5, 1}, "A transaction is open")
	replyNoRcpts   = policy.Say(554, policy.Status{5, 5, 1}, "No valid recipients")
	replyNoneYet   = policy.Say(451, policy.Status{4, 5, 0}, "No valid recipients for now")
	replyOnlyQuit  = policy.Say(503, policy.Status{5, 5, 1}, "Only QUIT is possible")
	replyRelay     = policy.Say(550, policy.Status{5, 7, 1}, "Relay access denied")
	replyManyRcpts = policy.Say(452, policy.Status{4, 5, 3}, "Too many recipients")

	replyTooBig    = policy.Say(552, policy.Status{5, 3, 4}, "Message too big")
	replyBigHeader = policy.Say(552, policy.Status{5, 3, 4}, "Message header too big")
	replyBigLine   = policy.Say(554, policy.Status{5, 6, 0}, "A line of the message is too long")
	replyBare      = policy.Say(550, policy.Status{5, 5, 2}, "The message holds a bare CR or LF (RFC 5321 2.3.8)")
	replyLoop      = policy.Say(554, policy.Status{5, 4, 6}, "Too many hops")
	replyNoSpace   = policy.Say(452, policy.Status{4, 3, 1}, "Insufficient system storage")
	replyTrouble   = policy.Say(451, policy.Status{4, 3, 0}, "Temporary failure, please try again later")
)
