package watch

import (
	"context"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

// Options are a Watcher's choices; the zero value is what serve uses.
type Options struct {
	Select
	Quiet  time.Duration // without an event before we look; 0: 100 ms
	Latest time.Duration // we look at the latest after the first event; 0: 500 ms
	Rescan time.Duration // we look without any event; 0: 30 s
	// Warn hears of a watch that could not be set; the rescans go on. nil: nobody.
	Warn func(error)
}

// Watcher watches directories. Make it with New, then Run it.
type Watcher struct {
	dirs    []string
	opts    Options
	changed func(Snapshot)

	hashes  map[string]string      // by directory: the snapshot handed over last
	watched map[string]fs.FileInfo // what the notifier watches, and which inode that was
	above   map[string]bool        // watched only to learn of one entry
	notify  *fsnotify.Watcher      // nil if the system gives us none
}

// New makes a Watcher of directories, which need not exist yet. changed is
// called from Run's goroutine, once for each directory at the start and then
// whenever its snapshot differs from the one before; while it runs nothing
// else is looked at.
func New(dirs []string, opts Options, changed func(Snapshot)) *Watcher {
	orDefault(&opts.Quiet, 100*time.Millisecond)
	orDefault(&opts.Latest, 500*time.Millisecond)
	orDefault(&opts.Rescan, 30*time.Second)
	if opts.Warn == nil {
		opts.Warn = func(error) {}
	}
	dirs = slices.Clone(dirs)
	for i := range dirs {
		dirs[i] = filepath.Clean(dirs[i])
	}
	return &Watcher{
		dirs: dirs, opts: opts, changed: changed,
		hashes:  map[string]string{},
		watched: map[string]fs.FileInfo{},
		above:   map[string]bool{},
	}
}

func orDefault(d *time.Duration, value time.Duration) {
	if *d == 0 {
		*d = value
	}
}

// Run watches until ctx is done. It has no other way to end: what cannot be
// watched is rescanned.
func (w *Watcher) Run(ctx context.Context) {
	events, failures := w.open()
	if w.notify != nil {
		defer w.notify.Close()
	}
	quiet := time.NewTimer(time.Hour)
	quiet.Stop()
	rescan := time.NewTicker(w.opts.Rescan)
	defer quiet.Stop()
	defer rescan.Stop()

	var first time.Time // of the events not yet looked at; zero: none
	w.look(true)
	for {
		stir := false
		select {
		case <-ctx.Done():
			return
		case ev := <-events:
			stir = w.concerns(ev)
		case err := <-failures: // an overflow: events were lost
			w.opts.Warn(err)
			stir = true
		case <-rescan.C:
			// Not handed over at once: a writer may be at work just now.
			stir = w.look(false)
		case <-quiet.C:
			first = time.Time{}
			w.look(true)
		}
		if !stir {
			continue
		}
		if first.IsZero() {
			first = time.Now()
		}
		quiet.Reset(min(w.opts.Quiet, max(0, w.opts.Latest-time.Since(first))))
	}
}

// concerns reports whether an event may have changed a snapshot. The parent
// of a watched directory may be as busy as /tmp: of its events only those of
// the directory itself count.
func (w *Watcher) concerns(ev fsnotify.Event) bool {
	ev.Name = filepath.Clean(ev.Name) // in ".", the parent of "scripts", it is "./scripts"
	if ev.Has(fsnotify.Remove|fsnotify.Rename) && w.watched[ev.Name] != nil {
		// The watch went with the directory. A new one of this name may well
		// get the same inode number, so forget it now.
		w.notify.Remove(ev.Name)
		delete(w.watched, ev.Name)
	}
	return !w.above[filepath.Dir(ev.Name)] || slices.Contains(w.dirs, ev.Name)
}

// open asks the system for notices. Without them (no inotify instance left)
// the rescan comes every second.
func (w *Watcher) open() (chan fsnotify.Event, chan error) {
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		w.opts.Warn(err)
		w.opts.Rescan = min(w.opts.Rescan, time.Second)
		return nil, nil
	}
	w.notify = notify
	return notify.Events, notify.Errors
}

// look reads all directories and reports whether one is new. With hand it
// hands those over.
//
// The watches are set before the reading: what changes in between is an event.
// A link or directory that only the reading discovers is therefore read again.
func (w *Watcher) look(hand bool) (news bool) {
	for _, dir := range w.dirs {
		w.watch(dir)
		if above := filepath.Dir(dir); w.watch(above) { // tells of the directory's own end and return
			w.above[above] = true
		}
		snap, dirs := read(dir, w.opts.Select)
		added := false
		for _, d := range dirs {
			added = w.watch(d) || added
			delete(w.above, d)
		}
		if added {
			snap, _ = read(dir, w.opts.Select)
		}
		if w.hashes[dir] == snap.Hash {
			continue
		}
		news = true
		if hand {
			w.hashes[dir] = snap.Hash
			w.changed(snap)
		}
	}
	return news
}

// watch sets a watch on a directory unless it stands already, on this very
// inode: a directory that was deleted and made anew needs a new one. It
// reports whether it set one.
func (w *Watcher) watch(dir string) bool {
	if w.notify == nil {
		return false
	}
	info, err := os.Stat(dir)
	if err != nil || !info.IsDir() {
		if w.watched[dir] != nil {
			w.notify.Remove(dir) // an error only says that it went by itself
			delete(w.watched, dir)
		}
		return false
	}
	if old := w.watched[dir]; old != nil {
		if os.SameFile(old, info) {
			return false
		}
		w.notify.Remove(dir)
	}
	if err := w.notify.Add(dir); err != nil {
		w.opts.Warn(err)
		return false
	}
	w.watched[dir] = info
	return true
}
