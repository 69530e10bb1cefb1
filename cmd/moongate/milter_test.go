package main

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/moongate/moongate/configs"
)

// The socket of [milter] has the mode and the group that are configured: who
// may write to it may ask. A group that there is not is told, not passed over.
func TestMilterSocket(t *testing.T) {
	own, err := user.LookupGroupId(strconv.Itoa(os.Getgid()))
	if err != nil {
		t.Skipf("our group has no name: %v", err)
	}
	name, gid := own.Name, own.Gid
	if os.Getuid() == 0 { // root may give it to another one
		if g, err := user.LookupGroup("daemon"); err == nil {
			name, gid = g.Name, g.Gid
		}
	}
	for _, tc := range []struct {
		lines string
		mode  os.FileMode
		gid   string
		err   string
	}{
		{"", 0o660, own.Gid, ""},
		{"group = \"" + name + "\"", 0o660, gid, ""},
		{"group = \"" + gid + "\"\nmode = \"0600\"", 0o600, gid, ""},
		{"group = \"no-such-group\"", 0, "", "no-such-group"},
	} {
		dir := t.TempDir()
		save(t, dir, "moongate.toml", fmt.Sprintf("hostname = \"mx.example.org\"\n[milter]\naddress = \"unix:milter.sock\"\n%s\n[policy]\nallow_empty = true\n", tc.lines))
		cfg, problems := configs.Load(filepath.Join(dir, "moongate.toml"))
		if len(problems) > 0 {
			t.Fatal(problems)
		}
		l, err := milterSocket(cfg)(cfg.Milter.Address)
		if tc.err != "" {
			if err == nil || !strings.Contains(err.Error(), tc.err) {
				t.Errorf("%q: %v", tc.lines, err)
			}
			if _, err := os.Stat(filepath.Join(dir, "milter.sock")); err == nil {
				t.Errorf("%q: the socket is left behind", tc.lines)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(filepath.Join(dir, "milter.sock"))
		if err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(info.Sys().(*syscall.Stat_t).Gid); info.Mode().Perm() != tc.mode || got != tc.gid {
			t.Errorf("%q: mode %v, group %s, want %v, %s", tc.lines, info.Mode(), got, tc.mode, tc.gid)
		}
		l.Close()
	}
}
