package test

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/moongate"
	"github.com/moongate/moongate/test/upstream"
)

// oddFiles are what may stand in a policy's place by accident or on purpose. The old policy has to stay,
// and each has to be told once.
var oddFiles = []struct {
	name string
	make func(path string) error
	says string
}{
	{"truncated", func(path string) error { return os.WriteFile(path, saying(1)[:20], 0o644) }, "10-policy.lua:1"},
	{"emptied", func(path string) error { return os.WriteFile(path, nil, 0o644) }, "10-policy.lua:1:1"},
	{"zeroes", func(path string) error { return os.WriteFile(path, make([]byte, 4096), 0o644) }, "10-policy.lua"},
	{"a FIFO", func(path string) error { return syscall.Mkfifo(path, 0o644) }, "10-policy.lua"},
	{"a directory", func(path string) error { return os.Mkdir(path, 0o755) }, "10-policy.lua"},
	{"a dangling link", func(path string) error { return os.Symlink("nowhere", path) }, "10-policy.lua"},
	{"a link to itself", func(path string) error { return os.Symlink(path, path) }, "10-policy.lua"},
	{"a device", func(path string) error { return os.Symlink("/dev/zero", path) }, "10-policy.lua"},
	{"a socket", func(path string) error {
		fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		defer syscall.Close(fd)
		return syscall.Bind(fd, &syscall.SockaddrUnix{Name: path})
	}, "10-policy.lua"},
	{"bytecode", func(path string) error { return os.WriteFile(path, []byte("\x1bLua\x51\x00\x01\x04"), 0o644) }, "10-policy.lua:1"},
	{"huge", func(path string) error {
		return os.WriteFile(path, []byte(strings.Repeat("-- comment that goes on and on\n", 3<<20/30*8)), 0o644)
	}, "10-policy.lua"},
	{"deeply nested", func(path string) error {
		return os.WriteFile(path, []byte("local x = "+strings.Repeat("(", 100_000)+"1"+strings.Repeat(")", 100_000)), 0o644)
	}, "10-policy.lua"},
	{"a long chain", func(path string) error {
		return os.WriteFile(path, []byte("local x = 1"+strings.Repeat(" .. 1", 100_000)), 0o644)
	}, "10-policy.lua"},
	{"nested tables", func(path string) error {
		return os.WriteFile(path, []byte("local x = "+strings.Repeat("{", 50_000)+strings.Repeat("}", 50_000)), 0o644)
	}, "10-policy.lua"},
	{"nested functions", func(path string) error {
		return os.WriteFile(path, []byte(strings.Repeat("local function f() ", 20_000)+strings.Repeat("end ", 20_000)), 0o644)
	}, "10-policy.lua"},
	{"removed", func(string) error { return nil }, "scripts"},
}

// TestOddFiles puts each of them in the place of the policy of a running program.
func TestOddFiles(t *testing.T) {
	up := upstream.Start(t, "")
	p := moongate.Start(t, moongate.Options{Upstream: up.Addr, Config: moongate.Default + patientLimits,
		Files: map[string]string{"scripts/10-policy.lua": string(saying(0))}})
	path := filepath.Join(p.Dir, "scripts/10-policy.lua")
	s := client.Dial(t, p.Addr, "").Greet("client.example.com")
	live(t, s, 0)
	n := 0
	for _, odd := range oddFiles {
		before, loaded := p.Count(moongate.PolicyRefused), p.Count(moongate.PolicyLive)
		told := len(p.Log("policy problem"))
		aside := filepath.Join(t.TempDir(), "odd")
		if err := odd.make(aside); err != nil {
			t.Fatalf("%s: %v", odd.name, err)
		}
		os.Remove(path)
		if odd.name != "removed" {
			if odd.name == "a link to itself" {
				os.Remove(aside)
				if err := os.Symlink("10-policy.lua", aside); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Rename(aside, path); err != nil {
				t.Fatalf("%s: %v", odd.name, err)
			}
		}
		// The moment in which there is no file may be seen, too, and is told first.
		if !wait(func() bool {
			problems := p.Log("policy problem")
			return len(problems) > told && strings.Contains(problems[len(problems)-1].String(), odd.says) &&
				p.Count(moongate.PolicyRefused) > before
		}) {
			t.Errorf("%s: the log does not name %s:\n%s", odd.name, odd.says, p.Stderr())
		}
		if took := live(t, s, n); took > 10*time.Second {
			t.Errorf("%s: the old policy answers after %v", odd.name, took)
		}
		if !p.Alive() {
			t.Fatalf("%s: the program has ended:\n%s", odd.name, p.Stderr())
		}
		// Refused for no rules is refused again, when the file is removed and comes back in two steps.
		if got := p.Count(moongate.PolicyRefused); got > before+2 {
			t.Errorf("%s: told %d times", odd.name, got-before)
		}
		n++
		os.RemoveAll(path)
		if err := os.WriteFile(path, saying(n), 0o644); err != nil {
			t.Fatal(err)
		}
		if took := live(t, s, n); took > 20*time.Second {
			t.Errorf("%s: a good policy afterwards is live after %v", odd.name, took)
		}
		if !wait(func() bool { return p.Count(moongate.PolicyLive) > loaded }) { // the log is a moment behind
			t.Fatalf("%s: the good policy is not in the log:\n%s", odd.name, p.Stderr())
		}
	}
}
