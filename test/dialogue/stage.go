package dialogue

import (
	"testing"
	"time"
)

// Stage is where a dialogue is performed: a server to talk to, the upstream behind it, its log. Each
// front-end or deployment has one, so that one file is performed on all of them.
type Stage interface {
	// Addr is where clients connect.
	Addr() string
	// Upstream shows what lies behind.
	Upstream() Upstream
	// Log returns the log so far, each line a set of fields ("msg" is the message).
	Log() []map[string]any
	// Policy replaces the policy with text and returns when it is live or, if broken, when it was refused.
	Policy(text string, broken bool) error
}

// Upstream is what a dialogue may ask of the next hop.
type Upstream interface {
	Lines() []string      // the commands that came; nil if they cannot be seen
	Messages() [][]byte   // the accepted messages, without stuffing, as the proxy sent them
	Settle() error        // waits until nothing is on its way any more
	Control(string) error // stop, start, hangup, quiet
}

// Setup makes a stage for a file; it lives until the test ends.
type Setup func(t testing.TB, f *File) Stage

// patience is how long a line of a dialogue may take to come true.
const patience = time.Minute

// Run performs the dialogue in a file on a stage and fails the test at the first line that is not true.
func Run(t testing.TB, path string, setup Setup) {
	t.Helper()
	f, err := Read(path)
	if err != nil {
		t.Fatal(err)
	}
	Perform(t, f, setup)
}

// Perform is Run for a dialogue that is already read.
func Perform(t testing.TB, f *File, setup Setup) {
	t.Helper()
	p := &performance{stage: setup(t, f), file: f, clients: map[string]*client{}, limit: patience}
	defer p.end()
	if err := p.run(); err != nil {
		t.Fatal(err)
	}
}
