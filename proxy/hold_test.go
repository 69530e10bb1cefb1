package proxy

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moongate/moongate/policy"
)

// truncating is a rule that takes the end of a held message away, as a file system
// may that has lost it.
type truncating struct{ dir string }

func (r truncating) Eval(context.Context, *policy.Session, *policy.Event) (policy.Verdict, error) {
	fds, err := filepath.Glob("/proc/self/fd/*")
	if err != nil {
		return policy.Verdict{}, err
	}
	for _, fd := range fds {
		if name, err := os.Readlink(fd); err != nil || !strings.HasPrefix(name, r.dir) {
			continue
		}
		return policy.Verdict{}, os.Truncate(fd, 100)
	}
	return policy.Verdict{}, os.ErrNotExist
}

// A held message that is not there whole any more never gets its dot.
func TestHeldMessageCutShort(t *testing.T) {
	st := newStage(t)
	st.rules = []*policy.Rule{{File: "test.lua", Line: 1, Hook: policy.Message, At: policy.Message, Evaluator: truncating{st.set.Spool.Dir}}}
	for _, step := range []string{
		"<- 220 gate.example ESMTP",
		"-> HELO c",
		"<- 250 gate.example",
		"-> MAIL FROM:<a@example.net>",
		">> CONNECT",
		">> MAIL FROM:<a@example.net>",
		"<< 250 ok",
		"<- 250 ok",
		"-> RCPT TO:<b@example.org>",
		">> RCPT TO:<b@example.org>",
		"<< 250 ok",
		"<- 250 ok",
		"-> DATA",
		"<- 354 End data with <CR><LF>.<CR><LF>",
		"-> A: b",
		"-> ",
		"-> " + strings.Repeat("x", 40_000),
		"-> .",
		">> DATA",
		"<< 354 Go",
		">> CLOSED",
		"<- 451 4.3.0 Temporary failure, please try again later",
		"== END tempfailed by moongate 451 4.3.0 Temporary failure, please try again later cause spool: 100 octets are left of 40002",
	} {
		if err := st.step(step); err != nil {
			t.Fatalf("%.60s: %v", step, err)
		}
	}
	st.finish()
}
