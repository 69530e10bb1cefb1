package proxy

import (
	"context"
	"errors"
	"fmt"

	"github.com/moongate/moongate/policy"
)

// Upstream is one conversation with the next hop, in the hands of one session.
//
// Commands are Send and Reply: a plain one is one of each, a pipelined group n
// and n, in order. After an error from any method but ErrGone the connection
// is of no more use: Abort it.
type Upstream interface {
	// Caps returns what this connection's EHLO said.
	Caps() *Caps

	// Begin tells for whom the next transaction is, before its MAIL: with
	// identity xforward an XFORWARD goes out with that MAIL, in the same
	// write. id is the message's.
	Begin(f *policy.Facts, id string)

	// Send queues a command; arg may be nil. It fails only if arg holds what
	// would end the line. Nothing goes out before Reply (or Data).
	Send(verb string, arg []byte) error

	// Reply writes what is queued, once all that was written is answered, and
	// returns the oldest outstanding reply, word for word. ErrGone means that the connection was found dead or
	// chattering before anything was written while no reply was awaited: the
	// caller may dial again and replay, once (docs/mail.md 11). Every other
	// error is a *HopError. A 421 is a reply like any other; the connection is
	// not pooled after it.
	Reply(ctx context.Context) (policy.Reply, error)

	// Data sends DATA; all replies must have been read. With 354 it returns a
	// writer for the body; ctx bounds its writes, up to End. Any other reply
	// means that there is no body to write: w is nil.
	Data(ctx context.Context) (w BodyWriter, r policy.Reply, err error)

	// Alive reports whether the connection is still there and silent. Asked
	// while no reply is awaited.
	Alive() bool

	// Address names the hop, for the log.
	Address() string

	// Abort closes the socket, whatever is open: no dot, RSET or QUIT. It may
	// be called from any goroutine, more than once.
	Abort()

	// Return ends the session's use: the connection goes back to the pool if
	// it is fit for it (docs/mail.md 17), else it is closed, with QUIT where
	// that is in order and without where a body or a reply is open.
	Return()
}

// BodyWriter takes a message on its way upstream.
type BodyWriter interface {
	// Write takes octets whose lines end in CRLF, not dot-stuffed, and writes
	// them dot-stuffed. An error is a *HopError: go to Abort. If Early is set in
	// it, its Reply is what the upstream's refusal comes to.
	Write(p []byte) (int, error)

	// End writes the final dot and waits for the reply. A *HopError with
	// Ambiguous set means that the dot may have arrived.
	End(ctx context.Context) (policy.Reply, error)

	// Abort is the Upstream's.
	Abort()
}

// ErrGone is what Reply and Data answer when the upstream had gone away (or
// had begun to talk unasked: an idle 421) before anything was written to it.
var ErrGone = errors.New("upstream closed the idle connection")

// HopError is why the next hop could not do what was asked: what the peer is
// to hear of it and what the log is to hear.
type HopError struct {
	Op    string       // dial, greeting, ehlo, wait, xforward, reply, body, ...
	Reply policy.Reply // for the peer
	Said  policy.Reply // what the upstream said, if it said something
	Err   error

	Verdict   bool // Reply is the upstream's own verdict on the client or message, word for word
	Early     bool // the upstream refused while the body was under way
	Ambiguous bool // the final dot may have arrived: never send this message again
}

func (e *HopError) Error() string {
	switch {
	case e.Err == nil:
		return fmt.Sprintf("upstream %s: %s", e.Op, e.Said)
	case e.Said.IsZero():
		return fmt.Sprintf("upstream %s: %v", e.Op, e.Err)
	}
	return fmt.Sprintf("upstream %s: %v: %s", e.Op, e.Err, e.Said)
}

func (e *HopError) Unwrap() error { return e.Err }

// What the peer hears when the upstream fails; the reason is in the log.
var (
	hopDown   = policy.Say(451, policy.Status{4, 3, 0}, "Temporary failure, please try again later")
	hopBusy   = policy.Say(451, policy.Status{4, 3, 2}, "Too busy, please try again later")
	hopUnsure = policy.Say(451, policy.Status{4, 4, 2}, "Connection to the next hop lost, please try again later")
)

// ourFault reports whether a refusal code, to a command that we composed, says
// that we (or the configuration) are wrong and not the message: then the peer
// hears 451 4.3.0. docs/mail.md 20.
func ourFault(code int) bool {
	switch code {
	case 500, 502, 503, 521, 530, 538:
		return true
	}
	return false
}
