package milter

import (
	"context"
	"strings"
	"sync"
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
	// command, to take a message and judge it. 0 means 30 s, 30 s, 300 s, as
	// Postfix has them; the stage's own deadline is kept in any case.
	ConnectTime, CommandTime, EndTime time.Duration

	Metrics *Metrics // nil: nothing is counted

	breaker breaker
	legacy  atomic.Bool // it speaks a version before 6 only
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

func (f *Filter) connectTime() time.Duration { return orDefault(f.ConnectTime, 30*time.Second) }
func (f *Filter) commandTime() time.Duration { return orDefault(f.CommandTime, 30*time.Second) }
func (f *Filter) endTime() time.Duration     { return orDefault(f.EndTime, 300*time.Second) }

// A breaker spares sessions the wait for a filter that is down: after
// breakAfter failures in a row one attempt a second is let through.
type breaker struct {
	mu    sync.Mutex
	fails int
	next  time.Time
}

const (
	breakAfter = 5
	probeEvery = time.Second
)

// allow reports whether the filter may be tried now.
func (b *breaker) allow() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.fails < breakAfter {
		return true
	}
	now := time.Now()
	if now.Before(b.next) {
		return false
	}
	b.next = now.Add(probeEvery)
	return true
}

// done notes how an attempt ended.
func (b *breaker) done(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err == nil {
		b.fails = 0
		return
	}
	if b.fails++; b.fails == breakAfter {
		b.next = time.Now().Add(probeEvery)
	}
}
