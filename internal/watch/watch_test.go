package watch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var luaOnly = Select{
	File: func(name string) bool {
		base := filepath.Base(name)
		return strings.HasSuffix(base, ".lua") && !strings.HasPrefix(base, ".")
	},
	Dir: func(name string) bool { return name == "lib" },
}

// patience bounds what must come. It is far below the next rescan, and far
// above what a busy machine needs.
const patience = time.Minute

// watched is a directory under watch and what was told of it.
type watched struct {
	*testing.T
	dir   string
	snaps chan Snapshot
}

func watchDir(t *testing.T, dir string) *watched {
	t.Helper()
	w := &watched{T: t, dir: dir, snaps: make(chan Snapshot, 100)}
	// No rescan within the test: the events must do.
	watcher := New([]string{dir}, Options{Select: luaOnly, Rescan: time.Hour, Warn: func(err error) { t.Error(err) }},
		func(s Snapshot) { w.snaps <- s })
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); watcher.Run(ctx) }()
	t.Cleanup(func() { cancel(); <-done })
	return w
}

// until waits for a snapshot that reads as wanted: "a.lua=text b.lua=!error".
func (w *watched) until(want string) {
	w.Helper()
	limit := time.After(patience)
	var seen []string
	for {
		select {
		case s := <-w.snaps:
			got := text(s)
			if got == want {
				return
			}
			seen = append(seen, got)
		case <-limit:
			w.Fatalf("no snapshot %q in %v; seen %q", want, patience, seen)
		}
	}
}

func text(s Snapshot) string {
	if s.Err != nil {
		return "!" + s.Err.Error()
	}
	var parts []string
	for _, f := range s.Files {
		if f.Err != nil {
			parts = append(parts, f.Name+"=!"+f.Err.Error())
			continue
		}
		parts = append(parts, f.Name+"="+string(f.Data))
	}
	return strings.Join(parts, " ")
}

func (w *watched) write(name, content string) {
	w.Helper()
	w.must(os.WriteFile(filepath.Join(w.dir, name), []byte(content), 0o666))
}

func (w *watched) must(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *watched) path(name string) string { return filepath.Join(w.dir, name) }

// Each way of saving ends with a.lua=new.
func TestEveryWayOfSaving(t *testing.T) {
	ways := map[string]func(w *watched){
		"truncate and write (nano)": func(w *watched) { w.write("a.lua", "new") },
		"rename over (sed -i, kate)": func(w *watched) {
			w.write(".a.lua.tmp", "new")
			w.must(os.Rename(w.path(".a.lua.tmp"), w.path("a.lua")))
		},
		"backup, then a new file (vim)": func(w *watched) {
			w.must(os.Rename(w.path("a.lua"), w.path("a.lua~")))
			w.write("a.lua", "new")
			w.must(os.Remove(w.path("a.lua~")))
		},
		"autosave and lock link (emacs)": func(w *watched) {
			w.must(os.Symlink("me@host.1:2", w.path(".#a.lua")))
			w.write("#a.lua#", "ne")
			w.write("a.lua", "new")
			w.must(os.Remove(w.path("#a.lua#")))
			w.must(os.Remove(w.path(".#a.lua")))
		},
		"delete and make anew": func(w *watched) {
			w.must(os.Remove(w.path("a.lua")))
			w.write("a.lua", "new")
		},
		"a hard link over it": func(w *watched) {
			w.write("next", "new")
			w.must(os.Remove(w.path("a.lua")))
			w.must(os.Link(w.path("next"), w.path("a.lua")))
		},
		"the whole directory renamed over (rsync, git worktree)": func(w *watched) {
			next := w.dir + ".next"
			w.must(os.Mkdir(next, 0o777))
			w.must(os.WriteFile(filepath.Join(next, "a.lua"), []byte("new"), 0o666))
			w.must(os.Rename(w.dir, w.dir+".old"))
			w.must(os.Rename(next, w.dir))
		},
		"the directory deleted and made anew": func(w *watched) {
			w.must(os.RemoveAll(w.dir))
			w.must(os.Mkdir(w.dir, 0o777))
			w.write("a.lua", "new")
		},
	}
	for name, save := range ways {
		t.Run(name, func(t *testing.T) {
			w := watchDir(t, filepath.Join(t.TempDir(), "scripts"))
			w.until("!read directory " + w.dir + ": no such file or directory")
			w.must(os.Mkdir(w.dir, 0o777))
			w.write("a.lua", "old")
			w.until("a.lua=old")
			save(w)
			w.until("a.lua=new")
			w.write("a.lua", "and again") // the watch has survived
			w.until("a.lua=and again")
		})
	}
}

// A directory that is named from where we stand may be made anew like any other.
func TestRelativeDirectory(t *testing.T) {
	t.Chdir(t.TempDir())
	w := watchDir(t, "scripts")
	w.until("!read directory scripts: no such file or directory")
	w.must(os.Mkdir(w.dir, 0o777))
	w.write("a.lua", "old")
	w.until("a.lua=old")
	w.must(os.RemoveAll(w.dir))
	w.until("!read directory scripts: no such file or directory")
	w.must(os.Mkdir(w.dir, 0o777))
	w.write("a.lua", "new")
	w.until("a.lua=new")
}

// A ConfigMap is ..data -> ..stamp, a.lua -> ..data/a.lua; an update renames a
// new ..data over the old one and nothing else moves.
func TestConfigMapSwap(t *testing.T) {
	dir := t.TempDir()
	generation := func(stamp, content string) {
		t.Helper()
		for _, err := range []error{
			os.Mkdir(filepath.Join(dir, stamp), 0o777),
			os.WriteFile(filepath.Join(dir, stamp, "a.lua"), []byte(content), 0o666),
			os.Symlink(stamp, filepath.Join(dir, "..data_tmp")),
			os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
	}
	generation("..1", "one")
	if err := os.Symlink("..data/a.lua", filepath.Join(dir, "a.lua")); err != nil {
		t.Fatal(err)
	}
	w := watchDir(t, dir)
	w.until("a.lua=one")
	for i := 2; i < 5; i++ {
		generation(fmt.Sprintf("..%d", i), fmt.Sprint("generation ", i))
		w.must(os.RemoveAll(w.path(fmt.Sprintf("..%d", i-1))))
		w.until(fmt.Sprint("a.lua=generation ", i))
	}
}

func TestSubdirectoryAndLinkTarget(t *testing.T) {
	elsewhere := t.TempDir()
	w := watchDir(t, t.TempDir())
	w.until("")
	w.must(os.Mkdir(w.path("lib"), 0o777))
	w.must(os.Mkdir(w.path("types"), 0o777))
	w.write("lib/m.lua", "module")
	w.write("types/t.lua", "stub")
	w.until("lib/m.lua=module")
	w.write("lib/m.lua", "changed")
	w.until("lib/m.lua=changed")
	target := filepath.Join(elsewhere, "real.lua")
	w.must(os.WriteFile(target, []byte("here"), 0o666))
	w.must(os.Symlink(target, w.path("z.lua")))
	w.until("lib/m.lua=changed z.lua=here")
	w.must(os.WriteFile(target, []byte("there"), 0o666))
	w.until("lib/m.lua=changed z.lua=there")
}

// What cannot be read is an entry with an error, and never blocks.
func TestStrangeEntries(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, err := range []error{
		os.WriteFile(at("a.lua"), []byte("ok"), 0o666),
		syscall.Mkfifo(at("fifo.lua"), 0o666),
		os.Mkdir(at("dir.lua"), 0o777),
		os.Symlink("nowhere", at("gone.lua")),
		os.Symlink("loop.lua", at("loop.lua")),
		os.Symlink("/dev/zero", at("zero.lua")),
		os.WriteFile(at("huge.lua"), make([]byte, 1<<20+1), 0o666),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	got := Read(dir, Select{File: luaOnly.File})
	want := "a.lua=ok dir.lua=!not a regular file fifo.lua=!not a regular file gone.lua=!no such file or directory " +
		"huge.lua=!file is too large loop.lua=!too many levels of symbolic links zero.lua=!not a regular file"
	if text(got) != want {
		t.Errorf("got  %s\nwant %s", text(got), want)
	}
	if again := Read(dir, luaOnly); text(again) != want {
		t.Errorf("where some directories are read:\ngot  %s\nwant %s", text(again), want)
	}
	many := Read(dir, Select{MaxFiles: 2})
	if !errors.Is(many.Err, ErrTooMany) || many.Files != nil {
		t.Errorf("two of seven files: %v, %d files", many.Err, len(many.Files))
	}
}

// readAsNobody is Read without root's right to read everything.
func readAsNobody(dir string) Snapshot {
	if os.Geteuid() == 0 {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		syscall.Setfsuid(65534)
		defer syscall.Setfsuid(0)
	}
	return Read(dir, luaOnly)
}

// A directory below that cannot be read has its say: its files are not gone.
func TestDirectoryWithoutPermission(t *testing.T) {
	dir := t.TempDir()
	lib := filepath.Join(dir, "lib")
	for _, err := range []error{
		os.Chmod(filepath.Dir(dir), 0o755), os.Mkdir(lib, 0o755),
		os.WriteFile(filepath.Join(dir, "a.lua"), []byte("a"), 0o644), os.WriteFile(filepath.Join(lib, "b.lua"), []byte("b"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	before := readAsNobody(dir)
	if err := os.Chmod(lib, 0); err != nil {
		t.Fatal(err)
	}
	after := readAsNobody(dir)
	os.Chmod(lib, 0o755)
	if got := text(before); got != "a.lua=a lib/b.lua=b" {
		t.Errorf("readable: %s", got)
	}
	if got, want := text(after), "a.lua=a lib=!read directory "+lib+": permission denied"; got != want || after.Hash == before.Hash {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestHashTellsSnapshotsApart(t *testing.T) {
	seen := map[string]string{}
	for _, s := range []Snapshot{
		{},
		{Err: errors.New("x")},
		{Files: []File{{Name: "a", Data: []byte("bc")}}},
		{Files: []File{{Name: "ab", Data: []byte("c")}}},
		{Files: []File{{Name: "a", Err: errors.New("bc")}}},
		{Files: []File{{Name: "a"}, {Name: "b"}}},
		{Files: []File{{Name: "a"}}},
	} {
		h := s.hash()
		if other, ok := seen[h]; ok {
			t.Errorf("%+v has the hash of %s", s, other)
		}
		seen[h] = fmt.Sprintf("%+v", s)
	}
}

// Without a single event the rescan finds the change, and hands it over only
// once it has been quiet.
func TestRescanIsTheNet(t *testing.T) {
	dir := t.TempDir()
	snaps := make(chan Snapshot, 10)
	w := New([]string{dir}, Options{Rescan: 20 * time.Millisecond}, func(s Snapshot) { snaps <- s })
	w.hashes[dir] = "unknown"
	if news := w.look(false); !news || len(snaps) != 0 {
		t.Fatalf("looking without handing over: news %v, %d handed over", news, len(snaps))
	}
	if news := w.look(true); !news || len(snaps) != 1 {
		t.Fatalf("handing over: news %v, %d handed over", news, len(snaps))
	}
	if news := w.look(true); news {
		t.Fatal("the same snapshot is news again")
	}
}

// A burst of saves is one snapshot, or few: never one per write.
func TestBurstIsDebounced(t *testing.T) {
	w := watchDir(t, t.TempDir())
	w.until("")
	for i := range 200 {
		w.write("a.lua", fmt.Sprint(i))
	}
	w.until("a.lua=199")
	if n := len(w.snaps); n > 0 {
		t.Errorf("%d more snapshots after the last", n)
	}
}
