// Package quarantine is the drawer: messages that a rule or filter wanted kept
// instead of sent on. It is the policy.Keeper of the SMTP door.
//
// The client hears 250 for a message that went nowhere but here, so the drawer
// is as careful as a queue: the message and its envelope are written beside
// their places, synced, renamed, and the directory is synced, before Keep
// returns. An entry is two files:
//
//	ID.eml     the message as it was received, byte for byte
//	ID.json    who sent it to whom, what decided, and the edits not applied
//
// The envelope is renamed first: where an .eml stands its .json stands, too.
package quarantine

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/moongate/moongate/policy"
)

// Drawer is a directory of kept messages. It is safe for concurrent use.
type Drawer struct {
	dir string
	now func() time.Time // nil: time.Now
}

var _ policy.Keeper = (*Drawer)(nil)

// Open makes the directory if it is missing, and tries whether it can be
// written: a drawer that jams is found at the start, not at the first message.
func Open(dir string) (*Drawer, error) {
	if err := os.MkdirAll(filepath.Join(dir, "tmp"), 0o700); err != nil {
		return nil, fmt.Errorf("open quarantine: %w", err)
	}
	probe, err := os.CreateTemp(filepath.Join(dir, "tmp"), "probe-*")
	if err != nil {
		return nil, fmt.Errorf("open quarantine: %w", err)
	}
	probe.Close()
	os.Remove(probe.Name())
	return &Drawer{dir: dir}, nil
}

// Envelope is what ID.json holds.
type Envelope struct {
	ID      string    `json:"id"`
	Time    time.Time `json:"time"`
	Client  string    `json:"client"` // name[address]
	Helo    string    `json:"helo,omitempty"`
	User    string    `json:"user,omitempty"`
	From    string    `json:"from"` // as it would have gone on, with angle brackets
	To      []string  `json:"to"`
	Params  []string  `json:"params,omitempty"` // of MAIL, as the client wrote them
	Rule    string    `json:"rule,omitempty"`   // who decided: file:line and name
	Reason  string    `json:"reason,omitempty"`
	Policy  string    `json:"policy,omitempty"` // version
	Edits   []string  `json:"edits,omitempty"`  // recorded, and not applied to the file
	Size    int64     `json:"size"`
	SHA256  string    `json:"sha256"`
	Session string    `json:"session"` // its id, for the log
}

var errNoMessage = errors.New("the message is not here yet")

// Keep stores the message of a transaction. The id is the transaction's. An
// error means that nothing is promised: the client must not hear 250. It says
// what went wrong and no more: the caller's line has the word quarantine and
// the id already.
func (d *Drawer) Keep(ctx context.Context, tx *policy.Transaction, v policy.Verdict) (string, error) {
	if tx.Message == nil || tx.Message.Body == nil {
		return "", errNoMessage
	}
	if tx.ID == "" || strings.ContainsAny(tx.ID, `/\`) || strings.HasPrefix(tx.ID, ".") {
		return "", fmt.Errorf("%q is no name for a file", tx.ID)
	}
	if err := ctx.Err(); err != nil {
		return "", err
	}
	if err := d.keep(tx, v); err != nil {
		return "", err
	}
	return tx.ID, nil
}

func (d *Drawer) keep(tx *policy.Transaction, v policy.Verdict) (err error) {
	message, envelope := tx.ID+".eml", tx.ID+".json"
	defer func() {
		if err != nil { // leave nothing half behind
			for _, name := range []string{message, envelope} {
				os.Remove(d.tmp(name))
				os.Remove(filepath.Join(d.dir, name))
			}
		}
	}()
	sum := sha256.New()
	var size int64
	err = writeSynced(d.tmp(message), func(w io.Writer) (err error) {
		size, err = tx.Message.WriteTo(io.MultiWriter(w, sum))
		return err
	})
	if err != nil {
		return err
	}
	env := d.envelope(tx, v)
	env.Size, env.SHA256 = size, hex.EncodeToString(sum.Sum(nil))
	err = writeSynced(d.tmp(envelope), func(w io.Writer) error {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		return enc.Encode(env)
	})
	if err != nil {
		return err
	}
	for _, name := range []string{envelope, message} {
		if err := os.Rename(d.tmp(name), filepath.Join(d.dir, name)); err != nil {
			return err
		}
	}
	return syncDir(d.dir)
}

func (d *Drawer) tmp(name string) string { return filepath.Join(d.dir, "tmp", name) }

func (d *Drawer) envelope(tx *policy.Transaction, v policy.Verdict) Envelope {
	now := time.Now
	if d.now != nil {
		now = d.now
	}
	env := Envelope{ID: tx.ID, Time: now(), From: tx.Out.From.Raw, Reason: v.Reason}
	if v.Rule != nil {
		env.Rule = v.Rule.String()
	}
	if tx.Rules != nil {
		env.Policy = tx.Rules.Version
	}
	if s := tx.Session; s != nil {
		env.Client, env.Helo, env.User, env.Session = s.ClientName(), s.Helo, s.User, s.ID
	}
	for _, p := range tx.In.Params {
		env.Params = append(env.Params, p.Raw)
	}
	for _, r := range tx.Recipients() {
		env.To = append(env.To, r.Out.Raw)
	}
	for _, e := range tx.Edits {
		env.Edits = append(env.Edits, e.String())
	}
	return env
}

func writeSynced(name string, write func(io.Writer) error) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = write(f)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return err
}

// syncDir makes renames survive a crash: it is the directory that holds names.
func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}
