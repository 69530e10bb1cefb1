package test

import (
	"encoding/json"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/moongate/moongate/"

// pkg is what the import law needs of `go list -json`.
type pkg struct {
	ImportPath   string
	Imports      []string
	TestImports  []string // package p
	XTestImports []string // package p_test
}

// room returns a package's name inside the module, "" for one that is not ours.
func room(path string) string {
	name, ours := strings.CutPrefix(path, module)
	if !ours {
		return ""
	}
	return name
}

// in says whether a room is one of list or lies below one of them.
func in(room string, list ...string) bool {
	for _, l := range list {
		if room == l || strings.HasPrefix(room, l+"/") {
			return true
		}
	}
	return false
}

// arrows lists for each room which of our rooms it may import; the first entry that matches counts. A
// room that is not listed may import nothing of ours, so a new one has to be given its place here.
var arrows = []struct {
	room string
	may  []string
}{
	{"policy/message", nil},
	{"policy/lua", nil},
	{"policy/state", nil},
	{"configs", nil},
	{"internal/socket", nil},
	{"internal/watch", nil},

	{"policy/script", []string{"policy", "policy/message", "policy/lua", "policy/mailauth", "internal/watch"}},
	{"policy/mailauth", []string{"policy", "policy/message"}},
	{"policy/policytest", []string{"policy", "policy/message"}},
	{"policy", []string{"policy/message"}},

	{"proxy", []string{"policy", "policy/message", "internal/socket"}},
	{"milter", []string{"policy", "policy/message", "internal/socket"}},

	{"internal/lookup", []string{"policy", "policy/message"}},
	{"internal/records", []string{"policy", "policy/message"}},
	{"internal/quarantine", []string{"policy", "policy/message"}},
	{"internal/admin", []string{"policy", "policy/message"}},
	{"internal/logsink", []string{"policy"}},
	{"internal/sink", nil},
	{"internal/workbench", []string{"policy", "policy/message", "policy/policytest", "policy/script", "proxy"}},

	// The shipped policies; nothing but their files, embedded.
	{"scripts", nil},
}

// libraries gives each third-party library the rooms that may know it. Test files may use go-smtp and
// gopher-lua more freely: as scripted peers and as the reference to compare with.
var libraries = []struct {
	path  string
	rooms []string
}{
	{"github.com/emersion/go-milter", []string{"milter"}},
	{"github.com/yuin/gopher-lua", []string{"policy/lua", "policy/script"}},
	{"github.com/fsnotify/fsnotify", []string{"internal/watch"}},
	{"github.com/pelletier/go-toml", []string{"configs"}},
	{"github.com/valkey-io/valkey-go", []string{"policy/state"}},
	{"go.etcd.io/bbolt", []string{"policy/state"}},
	{"github.com/spf13/cobra", []string{"cmd"}},
}

// illegal says why a room must not import path, or "" if it may.
func illegal(from, path string) string {
	for _, l := range libraries {
		if (path == l.path || strings.HasPrefix(path, l.path+"/")) && !in(from, l.rooms...) {
			return fmt.Sprintf("%s belongs to %v", l.path, l.rooms)
		}
	}
	to := room(path)
	if to == "" {
		return ""
	}
	if in(from, "test") && in(to, "test") {
		return ""
	}
	if in(to, "cmd", "test", "bench") {
		return "nothing imports " + to
	}
	if in(from, "cmd", "test", "bench") {
		return ""
	}
	for _, a := range arrows {
		if !in(from, a.room) {
			continue
		}
		// A permission is the package itself, not the tree below it. A room's own parts may know each
		// other; policy is no such room: its children are rooms of their own.
		if slices.Contains(a.may, to) || a.room != "policy" && in(to, a.room) {
			return ""
		}
		return fmt.Sprintf("%s may import %v of ours", a.room, a.may)
	}
	return "the room has no place in the import law yet"
}

// globals are calls that reach for a process-wide value where one must be handed in.
var globals = []string{"zap.L()", "zap.S()", "zap.ReplaceGlobals(", "prometheus.DefaultRegisterer", "prometheus.MustRegister(", "promauto.New"}

func TestImports(t *testing.T) {
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports,TestImports,XTestImports", "./...")
	cmd.Dir = ".."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	seen := 0
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		var p pkg
		if err := dec.Decode(&p); err == io.EOF {
			break
		} else if err != nil {
			t.Fatalf("go list: %v", err)
		}
		seen++
		from := room(p.ImportPath)
		for _, path := range p.Imports {
			if why := illegal(from, path); why != "" {
				t.Errorf("%s imports %s: %s", from, path, why)
			}
		}
		for _, path := range slices.Concat(p.TestImports, p.XTestImports) {
			if why := illegalInTest(from, path); why != "" {
				t.Errorf("the tests of %s import %s: %s", from, path, why)
			}
		}
		// The heart is tested from outside, through what it exports.
		if from == "policy" && len(p.TestImports) > 0 {
			t.Errorf("policy has tests in package policy; they belong into package policy_test")
		}
	}
	if seen < 3 {
		t.Fatalf("go list shows %d packages: the law was not looked at", seen)
	}
}

// illegalInTest is the law for test files: besides what the room may import they may use the fakes, the
// scripted peers, and a shipped library as a peer or as a reference; never another room's inside.
func illegalInTest(from, path string) string {
	to := room(path)
	switch {
	case to == from: // package p_test imports p
		return ""
	case in(to, "policy/policytest", "test/upstream", "test/postfix", "test/netns"):
		return ""
	case to == "" && in(from, "policy", "proxy", "milter", "scripts"):
		return ""
	case in(from, "scripts") && in(to, "policy"):
		return "" // a shipped policy is tested by running it
	case in(from, "policy/script") && in(to, "policy/state"):
		return "" // limits are tried on the real store
	case in(from, "configs") && strings.HasPrefix(path, "github.com/pelletier/go-toml"):
		return ""
	}
	return illegal(from, path)
}

// TestImportLaw tries the law on arrows that it must refuse and some that it must let be: a law that
// lets everything pass would keep TestImports green for ever.
func TestImportLaw(t *testing.T) {
	for _, tc := range []struct {
		from, to string
		ok       bool
	}{
		{"policy", module + "policy/message", true},
		{"policy", module + "policy/lua", false},
		{"policy", module + "configs", false},
		{"policy/message", module + "policy", false},
		{"policy/lua", module + "policy", false},
		{"policy/lua", "github.com/yuin/gopher-lua/ast", true},
		{"policy/lua/internal/x", module + "policy/lua", true},
		{"policy/state", module + "policy", false},
		{"policy/script", module + "policy/lua", true},
		{"policy/script", module + "proxy", false},
		{"proxy", module + "policy", true},
		{"proxy", module + "proxy/lines", true},
		{"proxy/lines", module + "proxy", true},
		{"proxy", module + "milter", false},
		{"proxy", module + "policy/script", false},
		{"proxy", "github.com/yuin/gopher-lua", false},
		{"proxy", "github.com/emersion/go-milter", false},
		{"milter", module + "proxy", false},
		{"milter", "github.com/emersion/go-milter", true},
		{"configs", "github.com/pelletier/go-toml/v2", true},
		{"configs", module + "policy", false},
		{"cmd/moongate", module + "configs", true},
		{"cmd/moongate", "github.com/pelletier/go-toml/v2", false},
		{"proxy", module + "cmd/moongate", false},
		{"internal/watch", "github.com/fsnotify/fsnotify", true},
		{"policy/script", "github.com/fsnotify/fsnotify", false},
		{"test/dialogue", module + "test/upstream", true},
		{"cmd/moongate", module + "test/upstream", false},
		{"newroom", module + "policy", false},
	} {
		if why := illegal(tc.from, tc.to); (why == "") != tc.ok {
			t.Errorf("%s -> %s: allowed = %v, want %v (%s)", tc.from, tc.to, why == "", tc.ok, why)
		}
	}
}

// TestNoGlobals holds the other half of the law: loggers and registries are handed in.
func TestNoGlobals(t *testing.T) {
	args := []string{"grep", "-nF", "--untracked"}
	for _, g := range globals {
		args = append(args, "-e", g)
	}
	cmd := exec.Command("git", append(args, "--", "*.go", ":!test/imports_test.go")...)
	cmd.Dir = ".."
	out, err := cmd.Output()
	if exit, ok := err.(*exec.ExitError); ok && exit.ExitCode() == 1 {
		return // nothing found
	}
	if err != nil {
		t.Skipf("git grep does not run here: %v", err)
	}
	t.Errorf("a global logger or registry:\n%s", out)
}
