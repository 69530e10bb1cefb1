package socket

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// leave puts the socket of a process that died at a path.
func leave(t *testing.T, path string) {
	t.Helper()
	dead, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	dead.SetUnlinkOnClose(false)
	dead.Close()
}

// The file of a unix socket has the mode and the group that are asked for. A
// group that there is not is told, and leaves no file behind.
func TestPlacePermits(t *testing.T) {
	gid := os.Getgid()
	if os.Getuid() == 0 { // root may give it to another one
		if g, err := user.LookupGroup("daemon"); err == nil {
			gid, _ = strconv.Atoi(g.Gid)
		}
	}
	name := strconv.Itoa(gid)
	if g, err := user.LookupGroupId(name); err == nil {
		name = g.Name
	}
	for _, tc := range []struct {
		place Place
		mode  fs.FileMode
		gid   int
		err   string
	}{
		{Place{}, 0o660, os.Getgid(), ""},
		{Place{Group: name}, 0o660, gid, ""},
		{Place{Group: strconv.Itoa(gid), Mode: 0o600}, 0o600, gid, ""},
		{Place{Mode: 0o666}, 0o666, os.Getgid(), ""},
		{Place{Group: "no-such-group"}, 0, 0, "no group no-such-group"},
		{Place{Group: "-1"}, 0, 0, "no group -1"}, // to chown it means: leave it
	} {
		path := filepath.Join(t.TempDir(), "s")
		leave(t, path) // in the way of nobody
		tc.place.Address = "unix:" + path
		l, err := tc.place.Listen()
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%+v: %v", tc.place, err)
			}
			if _, err := os.Lstat(path); err == nil {
				t.Errorf("%+v: the socket is left behind", tc.place)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := int(info.Sys().(*syscall.Stat_t).Gid); info.Mode().Perm() != tc.mode || got != tc.gid {
			t.Errorf("%+v: mode %v, group %d, want %v, %d", tc.place, info.Mode(), got, tc.mode, tc.gid)
		}
		l.Close()
		if _, err := os.Lstat(path); err == nil {
			t.Errorf("%+v: the file has stayed", tc.place)
		}
	}
}

// What stands at the place of a unix socket: one that somebody listens on and
// anything else stay as they are.
func TestPlaceTaken(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := Place{Address: "unix:" + path}.Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if _, err := (Place{Address: "unix:" + path}).Listen(); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("two listen at one place: %v", err)
	}
	if c, err := net.Dial("unix", path); err != nil {
		t.Errorf("the one who was there is gone: %v", err)
	} else {
		c.Close()
	}

	path = filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("kept"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := (Place{Address: "unix:" + path}).Listen(); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("at a file: %v", err)
	}
	if text, _ := os.ReadFile(path); string(text) != "kept" {
		t.Errorf("the file is %q", text)
	}
}

// A socket that has come in the place of ours, whose file somebody removed, is
// not ours to remove.
func TestPlaceSucceeded(t *testing.T) {
	for _, wrapped := range []bool{false, true} {
		path := filepath.Join(t.TempDir(), "s")
		first, err := Place{Address: "unix:" + path}.Listen()
		if err != nil {
			t.Fatal(err)
		}
		if wrapped { // as a milter has it
			first = Listen(first)
		}
		lost := func() error { return first.(interface{ Lost() error }).Lost() }
		if err := lost(); err != nil {
			t.Error(err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		if err := lost(); err == nil || !strings.Contains(err.Error(), "removed") {
			t.Errorf("without its file: %v", err)
		}
		second, err := Place{Address: "unix:" + path}.Listen()
		if err != nil {
			t.Fatal(err)
		}
		if err := lost(); err == nil || !strings.Contains(err.Error(), "something else") {
			t.Errorf("with another file: %v", err)
		}
		first.Close()
		if c, err := net.Dial("unix", path); err != nil {
			t.Errorf("the end of the first one was that of the second: %v", err)
		} else {
			c.Close()
		}
		first.Close()
		second.Close()
		if _, err := os.Lstat(path); err == nil {
			t.Error("the second one has left its file")
		}
	}
}

// A socket whose file is gone is opened again as it was, and lets go of the old one
// without the new. Nothing that is at its place gives way, be it dead.
func TestPlaceAnew(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	p := Place{Address: "unix:" + path, Mode: 0o606, Group: strconv.Itoa(os.Getgid())}
	first, err := p.Listen()
	if err != nil {
		t.Fatal(err)
	}
	first = Listen(first)
	if _, err := p.ListenAnew(); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("while it is there: %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	for _, other := range []func() error{
		func() error { return os.WriteFile(path, nil, 0o666) },
		func() error { return os.Symlink("nowhere", path) },
		func() error { return os.Mkdir(path, 0o777) },
		func() error { return syscall.Mknod(path, syscall.S_IFSOCK|0o666, 0) },
	} {
		if err := other(); err != nil {
			t.Fatal(err)
		}
		before, err := os.Lstat(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.ListenAnew(); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%v is there: %v", before.Mode(), err)
		}
		if now, err := os.Lstat(path); err != nil || !os.SameFile(before, now) || now.Mode() != before.Mode() {
			t.Errorf("%v is not what it was: %v, %v", before.Mode(), now, err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	second, err := p.ListenAnew()
	if err != nil {
		t.Fatal(err)
	}
	first.Close()
	if info, err := os.Stat(path); err != nil || info.Mode() != fs.ModeSocket|0o606 {
		t.Errorf("the second one: %v, %v", info, err)
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	c.Close()
	second.Close()
	if _, err := os.Lstat(path); err == nil {
		t.Error("the second one has left its file")
	}
	if _, err := (Place{Address: "127.0.0.1:0"}).ListenAnew(); err == nil {
		t.Error("a port has no file")
	}
}

// What the system has no words for.
func TestPlaceSays(t *testing.T) {
	dir := t.TempDir()
	long := Place{Address: "unix:" + dir + "/" + strings.Repeat("x", 108)}
	if _, err := long.Listen(); err == nil || !strings.Contains(err.Error(), "octets") {
		t.Errorf("a long path: %v", err)
	}
	if err := (Place{Address: "unix:" + dir + "/none/s"}).HasDirectory(); err == nil || err.Error() != "there is no directory "+dir+"/none" {
		t.Errorf("no directory: %v", err)
	}
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	if err := (Place{Address: "unix:" + file + "/s"}).HasDirectory(); err == nil || err.Error() != file+" is no directory" {
		t.Errorf("a file: %v", err)
	}
	for _, good := range []Place{{Address: "unix:" + dir + "/s"}, {Address: "127.0.0.1:25"}} {
		if err := errors.Join(good.HasDirectory(), good.FitsPath()); err != nil {
			t.Error(err)
		}
	}
}
