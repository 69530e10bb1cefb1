package dialogue

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moongate/moongate/test/moongate"
	"github.com/moongate/moongate/test/postfix"
	"github.com/moongate/moongate/test/upstream"
)

// Program is the setup with the real program: clients talk to `moongate serve`, and behind it is the
// scripted upstream of the file, or a private Postfix.
func Program(t testing.TB, f *File) Stage {
	t.Helper()
	s := &program{}
	opts := moongate.Options{Config: f.Files["moongate.toml"], Files: map[string]string{}}
	for name, text := range f.Files {
		switch name {
		case "moongate.toml", "upstream":
		case "policy.lua":
			opts.Files[policyFile] = text
		default:
			opts.Files[name] = text
		}
	}
	script := f.Files["upstream"]
	if strings.TrimSpace(script) == "postfix" {
		p := postfix.Start(t, postfix.Options{})
		s.up, opts.Upstream = Postfix{p}, p.Addr
	} else {
		u := upstream.Start(t, script)
		s.up, opts.Upstream = Scripted{u}, u.Addr
	}
	s.Process = moongate.Start(t, opts)
	return s
}

const policyFile = "scripts/10-policy.lua"

type program struct {
	*moongate.Process
	up Upstream
}

func (s *program) Addr() string       { return s.Process.Addr }
func (s *program) Upstream() Upstream { return s.up }

func (s *program) Log() []map[string]any {
	var all []map[string]any
	for _, l := range s.Process.Log("") {
		all = append(all, l)
	}
	return all
}

// Policy replaces the policy as most editors save: a new file, renamed over the old one.
func (s *program) Policy(text string, broken bool) error {
	says := moongate.PolicyLive
	if broken {
		says = moongate.PolicyRefused
	}
	before := s.Process.Count(says)
	path := filepath.Join(s.Dir, policyFile)
	tmp := filepath.Join(filepath.Dir(path), ".10-policy.lua.new")
	if err := os.WriteFile(tmp, []byte(text), 0o644); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	deadline := time.Now().Add(patience)
	for s.Process.Count(says) <= before {
		if time.Now().After(deadline) {
			return fmt.Errorf("the log has no new line %q", says)
		}
		time.Sleep(2 * time.Millisecond) // between two looks at the log
	}
	return nil
}
