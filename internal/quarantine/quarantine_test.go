package quarantine

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/message"
	"github.com/moongate/moongate/policy/policytest"
)

const header = "From: ann@example.net\r\nSubject:  two  blanks\r\n"
const body = ".a line\r\n\xff\x00 and bytes\r\n"

// transaction is one with a message, an edit and a refused recipient.
func transaction(t *testing.T) *policy.Transaction {
	t.Helper()
	env, _ := policytest.Env(policy.SMTP)
	s := env.NewSession(t.Context(), policy.Facts{ID: "BCDF", Remote: netip.MustParseAddrPort("192.0.2.7:4711"), Helo: "mail.example"})
	path := func(raw string) policy.Path {
		p, err := policy.ParsePath(raw, true, false)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	tx := s.Begin(path("<ann@example.net>"), []policy.Param{{Key: "SIZE", Value: "100", Raw: "SIZE=100"}})
	for to, state := range map[string]policy.RcptState{"<bob@example.org>": policy.RcptAccepted, "<eve@example.org>": policy.RcptRefused} {
		tx.Rcpts = append(tx.Rcpts, &policy.Recipient{In: path(to), Out: path(to), State: state})
	}
	h, _ := message.ParseHeader([]byte(header))
	spool := (&message.Pool{Dir: t.TempDir()}).New()
	if _, err := spool.Write([]byte(body)); err != nil {
		t.Fatal(err)
	}
	tx.SetMessage(&message.Message{Header: h, Blank: true, Body: spool})
	if err := tx.Note(policy.Edit{Kind: policy.AddHeader, Name: "X-Spam", Value: " yes"}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { tx.Message.Close() })
	return tx
}

func TestKeepsMessageAndEnvelope(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "drawer")
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	d.now = func() time.Time { return at }
	tx := transaction(t)
	rule := &policy.Rule{File: "10-gate.lua", Line: 18, Name: "no spam"}
	id, err := d.Keep(t.Context(), tx, policy.Verdict{Action: policy.Quarantine, Reason: "looks bad", Rule: rule})
	if err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, id+".eml"))
	if err != nil {
		t.Fatal(err)
	}
	if want := header + "\r\n" + body; !bytes.Equal(got, []byte(want)) {
		t.Errorf("kept %q, received %q", got, want)
	}
	text, err := os.ReadFile(filepath.Join(dir, id+".json"))
	if err != nil {
		t.Fatal(err)
	}
	var env Envelope
	if err := json.Unmarshal(text, &env); err != nil {
		t.Fatal(err)
	}
	want := Envelope{
		ID: id, Session: "BCDF", Time: at, Client: "unknown[192.0.2.7]", Helo: "mail.example",
		From: "<ann@example.net>", To: []string{"<bob@example.org>"}, Params: []string{"SIZE=100"},
		Rule: `10-gate.lua:18 "no spam"`, Reason: "looks bad", Policy: "test", Edits: []string{tx.Edits[0].String()},
		Size: int64(len(header) + 2 + len(body)), SHA256: env.SHA256,
	}
	if diff := cmp.Diff(want, env); diff != "" || len(env.SHA256) != 64 {
		t.Errorf("envelope (-want +got):\n%s", diff)
	}
	left, err := os.ReadDir(filepath.Join(dir, "tmp"))
	if err != nil || len(left) != 0 {
		t.Errorf("left in tmp: %v, %v", left, err)
	}
}

// When Keep fails nothing may look as if it had been kept.
func TestFailureLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	tx := transaction(t)
	// The envelope's place is taken by a directory that is not empty: the first rename fails.
	if err := os.MkdirAll(filepath.Join(dir, tx.ID+".json", "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	id, err := d.Keep(t.Context(), tx, policy.Verdict{Action: policy.Quarantine})
	if err == nil {
		t.Fatalf("kept as %s", id)
	}
	if strings.HasPrefix(err.Error(), "quarantine") { // the log's cause says so, before the error
		t.Errorf("the error names the room, too: %v", err)
	}
	left, _ := filepath.Glob(filepath.Join(dir, "*", "*.eml"))
	more, _ := filepath.Glob(filepath.Join(dir, "*.eml"))
	if len(left)+len(more) != 0 {
		t.Errorf("left behind: %v %v", left, more)
	}

	tx.ID = "../up"
	if _, err := d.Keep(t.Context(), tx, policy.Verdict{}); err == nil || !strings.Contains(err.Error(), "no name") {
		t.Errorf("id ../up: %v", err)
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	tx.ID = "BCDF.2"
	if _, err := d.Keep(gone, tx, policy.Verdict{}); !errors.Is(err, context.Canceled) {
		t.Errorf("client gone: %v", err)
	}
	tx.Message = nil
	if _, err := d.Keep(t.Context(), tx, policy.Verdict{}); !errors.Is(err, errNoMessage) {
		t.Errorf("no message: %v", err)
	}
}

func TestOpenFindsTroubleAtTheStart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(filepath.Join(file, "drawer")); err == nil {
		t.Error("a drawer below a file opens")
	}
}
