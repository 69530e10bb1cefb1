package proxy

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/message"
)

// Settings are what the operator chose for a front door. They are not changed
// once a session has them. Zero values mean the defaults that are named.
type Settings struct {
	Hostname string        // our name in the banner and in Received lines; required
	Env      *policy.Env   // required
	Hop      *Hop          // the upstream; required
	Spool    *message.Pool // for messages that are held; nil: 64 KiB in memory each, no bound

	Domains    []string       // recipient domains for strangers
	Networks   []netip.Prefix // clients that are no strangers, besides loopback
	XForward   []netip.Prefix // peers that may name another client with XFORWARD, and are asked about at MAIL
	RejectBare bool           // answer 550 5.5.2 to a message with bare CR or LF, instead of repairing it
	Received   string         // "auto" (the default), "always", "never"
	HoldMail   bool           // MAIL goes upstream with the first recipient that the policy let pass

	// Budget is how long a message may take from its end to our reply, judging
	// and the upstream's answer together: the client has hung up soon after.
	// Default 480 s, of the 600 that RFC 5321 4.5.3.2.6 grants.
	Budget time.Duration

	// PTR returns the forward-confirmed name of a client, "" if there is none;
	// temporary says that DNS was in trouble. It is asked before connect rules
	// run and ends within a few seconds; nil: nobody is asked.
	PTR func(ctx context.Context, a netip.Addr) (name string, temporary bool)

	Limits   Limits
	Timeouts Timeouts

	offered *atomic.Pointer[offer] // the last one, for all sessions alike
	domains map[string]bool
}

// Limits bound what one client and all of them may take.
type Limits struct {
	Size        int64 // octets of a message; default 50 MB
	Recipients  int   // of one message; default 1000
	Header      int   // octets of a header block; default 1 MB
	Line        int   // octets of a body line; default 1 MB
	Errors      int   // refused commands before 421; default 20
	Junk        int   // commands without a message before each counts as a refused one; default 100
	Connections int   // sessions at once; default 1000
	PerNetwork  int   // of them, from one /24 or /64; 0: no limit
	Turned      int   // clients that are told at the same time that there is no room; default 200
}

// Timeouts bound what a client may take. The upstream's are the Hop's.
type Timeouts struct {
	Idle  time.Duration // between commands; default 300 s
	Data  time.Duration // between two reads of a message; default 180 s
	Body  time.Duration // waiting for a message in all, and 1 s more for each 100 octets of it; default 10 times Data
	Write time.Duration // for one write of replies; default 60 s

	// Stress is what is left of Idle and Data while nearly all connections are
	// taken, and of Idle for a client in whose transaction an upstream connection
	// lies idle that others wait for. Default 10 s.
	Stress time.Duration
}

// prepared is a copy with the defaults filled in.
func (s Settings) prepared() *Settings {
	def(&s.Limits.Size, 50<<20)
	def(&s.Limits.Recipients, 1000)
	def(&s.Limits.Header, 1<<20)
	def(&s.Limits.Line, 1<<20)
	def(&s.Limits.Errors, 20)
	def(&s.Limits.Junk, 100)
	def(&s.Limits.Connections, 1000)
	def(&s.Limits.Turned, 200)
	def(&s.Timeouts.Idle, 300*time.Second)
	def(&s.Timeouts.Data, 180*time.Second)
	def(&s.Timeouts.Body, 10*s.Timeouts.Data)
	def(&s.Timeouts.Write, 60*time.Second)
	def(&s.Timeouts.Stress, 10*time.Second)
	def(&s.Budget, 480*time.Second)
	def(&s.Received, "auto")
	if s.Spool == nil {
		s.Spool = &message.Pool{MaxMemory: 64 << 10}
	}
	s.domains = make(map[string]bool, len(s.Domains))
	for _, d := range s.Domains {
		s.domains[strings.ToLower(strings.TrimSuffix(d, "."))] = true
	}
	s.offered = new(atomic.Pointer[offer])
	return &s
}

func def[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// stranger reports whether a client is one by its address. A client without
// one came over a unix socket, which has its own guard: the file's mode.
func (s *Settings) stranger(a netip.Addr) bool {
	if !a.IsValid() {
		return false
	}
	a = a.Unmap()
	return !a.IsLoopback() && !s.trusts(a)
}

// trusts reports an address of Networks.
func (s *Settings) trusts(a netip.Addr) bool {
	a = a.Unmap()
	return slices.ContainsFunc(s.Networks, func(n netip.Prefix) bool { return n.Contains(a) })
}
