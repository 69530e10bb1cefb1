package main

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/moongate/moongate/configs"
)

// What stands at the place of a unix socket: a dead one gives way, a live one
// and anything else stay as they are.
func TestListenUnix(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) (string, configs.Address) {
		path := filepath.Join(dir, name)
		return path, configs.Address("unix:" + path)
	}

	path, dead := at("dead")
	left, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	left.SetUnlinkOnClose(false)
	left.Close()
	l, err := listen(dead)
	if err != nil {
		t.Fatalf("a dead socket is in the way: %v", err)
	}
	defer l.Close()
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}

	if _, err := listen(dead); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("two listen at one place: %v", err)
	}
	if c, err := net.Dial("unix", path); err != nil {
		t.Errorf("the one who was there is gone: %v", err)
	} else {
		c.Close()
	}

	path, file := at("file")
	if err := os.WriteFile(path, []byte("kept"), 0o666); err != nil {
		t.Fatal(err)
	}
	if _, err := listen(file); err == nil || !strings.Contains(err.Error(), "no socket") {
		t.Errorf("at a file: %v", err)
	}
	if text, _ := os.ReadFile(path); string(text) != "kept" {
		t.Errorf("the file is %q", text)
	}
}
