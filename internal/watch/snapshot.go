package watch

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
)

// Select says what of a directory belongs to its snapshot. The zero value
// takes every regular file of the directory itself.
type Select struct {
	// File reports whether a file belongs to it; name is relative to the
	// directory, with slashes. nil: all.
	File func(name string) bool
	// Dir reports whether a directory below is read too. nil: none.
	Dir func(name string) bool
	// MaxSize is the most bytes of one file; a larger one is an entry with
	// ErrTooLarge. 0: 1 MiB.
	MaxSize int64
	// MaxFiles is the most files of one snapshot; beyond it Snapshot.Err is
	// ErrTooMany. 0: 4096.
	MaxFiles int
}

var (
	// ErrTooLarge is the Err of a file above Select.MaxSize.
	ErrTooLarge = errors.New("file is too large")
	// ErrNotRegular is the Err of a FIFO, a socket, a device or a directory
	// that has the name of a file.
	ErrNotRegular = errors.New("not a regular file")
	// ErrTooMany is the Err of a Snapshot above Select.MaxFiles.
	ErrTooMany = errors.New("directory holds too many files")
)

// File is one file of a snapshot, or a directory below that could not be read.
type File struct {
	Name string // relative to the directory, with slashes
	Data []byte // nil if Err is set
	Err  error  // why it could not be read
}

// Snapshot is a directory as it was at one moment.
type Snapshot struct {
	Dir   string
	Files []File // by name
	Err   error  // the directory could not be read; Files is then empty
	Hash  string // of names, contents and errors: equal hashes, equal snapshots
}

// Read takes a snapshot. It never blocks on what lies there: see doc.go.
func Read(dir string, sel Select) Snapshot {
	snap, _ := read(dir, sel)
	return snap
}

// read also gives the directories that must be watched to learn of changes:
// those that were read, and those that symbolic links lead to.
func read(dir string, sel Select) (Snapshot, []string) {
	r := reader{dir: dir, sel: sel, dirs: []string{dir}}
	if r.sel.MaxSize == 0 {
		r.sel.MaxSize = 1 << 20
	}
	if r.sel.MaxFiles == 0 {
		r.sel.MaxFiles = 4096
	}
	err := r.walk("", 0)
	snap := Snapshot{Dir: dir, Files: r.files, Err: err}
	if err != nil {
		snap.Files = nil
	}
	slices.SortFunc(snap.Files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
	snap.Hash = snap.hash()
	return snap, r.dirs
}

type reader struct {
	dir   string
	sel   Select
	files []File
	dirs  []string
}

// maxDepth ends a walk through directories that contain themselves.
const maxDepth = 8

func (r *reader) walk(below string, depth int) error {
	entries, err := os.ReadDir(filepath.Join(r.dir, below))
	if err != nil {
		return fmt.Errorf("read directory %s: %w", filepath.Join(r.dir, below), reason(err))
	}
	for _, e := range entries {
		name := path.Join(below, e.Name())
		full := filepath.Join(r.dir, name)
		if isDir(e, full) {
			if r.sel.Dir != nil && r.sel.Dir(name) && depth < maxDepth {
				r.dirs = append(r.dirs, full)
				switch err := r.walk(name, depth+1); {
				case errors.Is(err, ErrTooMany):
					return err
				case err != nil && !errors.Is(err, fs.ErrNotExist): // its files may well be there
					r.files = append(r.files, File{Name: name, Err: err})
				}
				continue
			}
			if r.sel.File == nil {
				continue
			}
			// A directory in the place of a file is an entry with an error below.
		}
		if r.sel.File != nil && !r.sel.File(name) {
			continue
		}
		if e.Type()&fs.ModeSymlink != 0 {
			if target, err := filepath.EvalSymlinks(full); err == nil {
				r.dirs = append(r.dirs, filepath.Dir(target))
			}
		}
		if len(r.files) == r.sel.MaxFiles {
			return ErrTooMany
		}
		data, err := readFile(full, r.sel.MaxSize)
		r.files = append(r.files, File{Name: name, Data: data, Err: err})
	}
	return nil
}

// isDir follows a link to see whether it leads to a directory.
func isDir(e fs.DirEntry, full string) bool {
	if e.Type()&fs.ModeSymlink == 0 {
		return e.IsDir()
	}
	info, err := os.Stat(full)
	return err == nil && info.IsDir()
}

// readFile reads a regular file and nothing else. Opening a FIFO without a
// writer blocks for ever, and opening a device may do anything.
func readFile(name string, limit int64) ([]byte, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, reason(err)
	}
	if !info.Mode().IsRegular() {
		return nil, ErrNotRegular
	}
	f, err := os.OpenFile(name, os.O_RDONLY|syscall.O_NONBLOCK|syscall.O_NOCTTY, 0)
	if err != nil {
		return nil, reason(err)
	}
	defer f.Close()
	if info, err := f.Stat(); err != nil || !info.Mode().IsRegular() { // swapped since
		return nil, ErrNotRegular
	}
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, reason(err)
	}
	if int64(len(data)) > limit {
		return nil, ErrTooLarge
	}
	return data, nil
}

// reason drops the path from an error, which the entry has already.
func reason(err error) error {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err
	}
	return err
}

func (s *Snapshot) hash() string {
	h := sha256.New()
	field(h, errorText(s.Err))
	for _, f := range s.Files {
		field(h, f.Name)
		field(h, errorText(f.Err))
		field(h, string(f.Data))
	}
	return hex.EncodeToString(h.Sum(nil))
}

// field writes a length before the text: "ab","c" is not "a","bc".
func field(h hash.Hash, s string) { fmt.Fprintf(h, "%d:%s", len(s), s) }

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
