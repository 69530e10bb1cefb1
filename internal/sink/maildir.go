package sink

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

// Maildir is a mail directory: tmp, new, cur. It may be shared with readers.
type Maildir struct {
	dir, host string
	count     atomic.Uint64
}

// OpenMaildir makes the directories that are missing.
func OpenMaildir(dir string) (*Maildir, error) {
	for _, sub := range []string{"tmp", "new", "cur"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o700); err != nil {
			return nil, fmt.Errorf("make maildir: %w", err)
		}
	}
	host, err := os.Hostname()
	if err != nil || host == "" {
		host = "localhost"
	}
	return &Maildir{dir: dir, host: strings.NewReplacer("/", "_", ":", "_").Replace(host)}, nil
}

// Path is where a delivered message lies until a reader moves it.
func (m *Maildir) Path(name string) string { return filepath.Join(m.dir, "new", name) }

// Deliver stores what r holds and returns the name once it is on stable
// storage. If r fails nothing is delivered.
func (m *Maildir) Deliver(r io.Reader) (name string, size int64, err error) {
	now := time.Now()
	name = fmt.Sprintf("%d.M%06dP%dQ%d.%s", now.Unix(), now.Nanosecond()/1000, os.Getpid(), m.count.Add(1), m.host)
	tmp := filepath.Join(m.dir, "tmp", name)
	defer func() {
		if err != nil {
			os.Remove(tmp)
			err = fmt.Errorf("deliver into %s: %w", m.dir, err)
		}
	}()
	if size, err = writeSynced(tmp, r); err != nil {
		return "", 0, err
	}
	if err = os.Rename(tmp, m.Path(name)); err != nil {
		return "", 0, err
	}
	return name, size, syncDir(filepath.Join(m.dir, "new"))
}

func writeSynced(name string, r io.Reader) (int64, error) {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return 0, err
	}
	size, err := io.Copy(f, r)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	return size, err
}

// syncDir makes a rename survive a crash: it is the directory that holds the name.
func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	defer d.Close()
	return d.Sync()
}
