package milter

import (
	"context"
	"strings"
	"sync/atomic"
	"time"

	"github.com/moongate/moongate/policy"
)

// Filter is a milter of others (rspamd, opendkim, clamav-milter) that the door
// asks as an MTA would. It is a policy.Filter; its fields do not change once
// it is in use, and it is used by many sessions at once.
type Filter struct {
	Label    string // its name in the log and in msg.filters; "" means its address
	Address  string // "127.0.0.1:11332" or "unix:/run/opendkim/opendkim.sock"
	Hostname string // who we are to it: macro {j}

	Sign    bool          // asked last, when all edits are made, instead of first
	OnError policy.Action // it cannot be asked: Tempfail (also the zero value), Accept (with a header that says so), Reject
	Shadow  bool          // asked and logged, not obeyed

	// When is asked at MAIL; false leaves the filter out of that message. nil
	// means always.
	When func(s *policy.Session) bool

	// How long it may take: to be reached and agree on options, to answer one
	// command, to take each piece of a message and to judge it, where PROGRESS
	// begins the time anew. 0 means 20 s, 20 s, 120 s; the stage's own deadline
	// is kept in any case.
	ConnectTime, CommandTime, EndTime time.Duration

	// MaxAnswer bounds what it may say behind the end of a message, a new body
	// among it, and MaxHeader the header that it makes. 0 means 64 MiB and 1 MiB.
	MaxAnswer int64
	MaxHeader int

	Metrics *Metrics // nil: nothing is counted

	breaker breaker
	loose   atomic.Bool // it has given an answer that nobody asked for, see confirm
}

// Interface guards.
var (
	_ policy.Filter       = (*Filter)(nil)
	_ policy.Conversation = (*conversation)(nil)
)

// Name implements policy.Filter.
func (f *Filter) Name() string {
	if f.Label != "" {
		return f.Label
	}
	return f.Address
}

// Signs implements policy.Filter.
func (f *Filter) Signs() bool { return f.Sign }

// Open implements policy.Filter. It never fails and dials nobody: what cannot
// be reached is told when it is asked, and on_error then counts.
func (f *Filter) Open(_ context.Context, s *policy.Session) (policy.Conversation, error) {
	return &conversation{f: f}, nil
}

func (f *Filter) network() (network, address string) {
	if path, ok := strings.CutPrefix(f.Address, "unix:"); ok {
		return "unix", path
	}
	return "tcp", f.Address
}

func (f *Filter) maxAnswer() int64 {
	if f.MaxAnswer > 0 {
		return f.MaxAnswer
	}
	return 64 << 20
}

func (f *Filter) maxHeader() int {
	if f.MaxHeader > 0 {
		return f.MaxHeader
	}
	return 1 << 20
}

func (f *Filter) connectTime() time.Duration { return orDefault(f.ConnectTime, 20*time.Second) }
func (f *Filter) commandTime() time.Duration { return orDefault(f.CommandTime, 20*time.Second) }
func (f *Filter) endTime() time.Duration     { return orDefault(f.EndTime, 120*time.Second) }
