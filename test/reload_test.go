package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/moongate"
	"github.com/moongate/moongate/test/upstream"
)

// versioned is a policy that puts its number on what it judges, at two stages that are asked at
// different times: a message judged by two versions carries two numbers.
func versioned(n int) string {
	return fmt.Sprintf(`
on.rcpt("rcpt", function(msg, rcpt) msg.data.version = %d end)
on.message("message", function(msg) msg:add_header("X-Version", msg.data.version .. "-%d") end)
`, n, n)
}

// breakages are the ways in which every third reload is broken; each with what the log has to say.
var breakages = []struct{ text, at string }{
	{"on.rctp(function(msg) end)\n", "10-policy.lua:1"},
	{"\non.rcpt(function(msg, rcpt)\n  if then\n", "10-policy.lua:3"},
	{"local x = 1\nwhile true do x = x + 1 end\n", "10-policy.lua:2"},
	{"", "10-policy.lua:1"},
	{"-- nothing\n", "scripts"}, // a directory without rules is never taken by accident
	{"on.mail(function(msg)\n  reject('lost')\nend)\n", "10-policy.lua:2"},
}

// late is when a policy was not seen by the watch, but by the look at all files every 30 s. A busy machine
// takes longer than the second that is promised, never that.
const late = 10 * time.Second

// TestReloads changes the policy a hundred times while messages pass, a third of the versions broken.
// No session is lost, no message is judged by two versions, each error is in the log with its line.
func TestReloads(t *testing.T) {
	up := upstream.Start(t, "")
	p := moongate.Start(t, moongate.Options{Upstream: up.Addr, Files: map[string]string{"scripts/10-policy.lua": versioned(0)}})
	path := filepath.Join(p.Dir, "scripts/10-policy.lua")

	var stop atomic.Bool
	var sent atomic.Int64
	var load sync.WaitGroup
	for range 2 {
		load.Go(func() {
			s := client.Dial(t, p.Addr, "").Greet("client.example.com")
			defer s.Close()
			for n := 0; !stop.Load(); n++ {
				if text := s.Send("a@example.com", "b@example.org", "Subject: x\r\n\r\nbody\r\n"); !strings.HasPrefix(text, "250") {
					t.Errorf("under reloads a message hears %q", text)
					return
				}
				sent.Add(1)
				if n%10 == 9 { // sessions come and go
					s.Must("221", "QUIT")
					s = client.Dial(t, p.Addr, "").Greet("client.example.com")
				}
			}
		})
	}
	slow := 0
	for n := 1; n <= 100; n++ {
		text, says, at := versioned(n), moongate.PolicyLive, ""
		if n%3 == 0 {
			b := breakages[n/3%len(breakages)]
			text, says, at = b.text+strings.Repeat("-- ", n), moongate.PolicyRefused, b.at
			if b.text == "" {
				text = ""
			}
		}
		before := p.Count(says)
		save(t, path, text)
		start := time.Now()
		if !wait(func() bool { return p.Count(says) > before }) {
			t.Fatalf("reload %d is not in the log:\n%s\n%s", n, text, p.Stderr())
		}
		if took := time.Since(start); took > late && at == "" {
			slow++
		}
		if at != "" {
			problems := p.Log("policy problem")
			if len(problems) == 0 || !strings.Contains(fmt.Sprint(problems[len(problems)-1]["at"]), at) {
				t.Errorf("reload %d: the log does not name %s", n, at)
			}
		}
	}
	stop.Store(true)
	load.Wait()
	if slow > 10 { // a busy machine has its moments
		t.Errorf("%d reloads took more than %v", slow, late)
	}
	versions := map[string]bool{}
	for _, m := range up.Messages() {
		_, v, ok := strings.Cut(string(m.Body()), "X-Version: ")
		v, _, _ = strings.Cut(v, "\r\n")
		a, b, _ := strings.Cut(v, "-")
		if !ok || a != b {
			t.Errorf("judged by versions %q", v)
		}
		versions[v] = true
	}
	if n := int64(len(up.Messages())); n != sent.Load() {
		t.Errorf("%d messages sent, %d arrived", sent.Load(), n)
	}
	if len(versions) < 10 {
		t.Errorf("only %d versions judged a message", len(versions))
	}
	t.Logf("%d messages under 100 reloads, judged by %d versions", sent.Load(), len(versions))
}

// save replaces a file by a rename, so that no reader sees half of it.
func save(t testing.TB, path, text string) {
	t.Helper()
	tmp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".tmp")
	if err := os.WriteFile(tmp, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, path); err != nil {
		t.Fatal(err)
	}
}

// wait asks until the answer is yes.
func wait(yes func() bool) bool {
	for deadline := time.Now().Add(patience); !yes(); time.Sleep(2 * time.Millisecond) { // between two looks
		if time.Now().After(deadline) {
			return false
		}
	}
	return true
}

// editors are the ways in which programs save a file.
var editors = []struct {
	name string
	save func(dir, path string, text []byte) error
}{
	{"in place (nano, echo >)", func(_, path string, text []byte) error { return os.WriteFile(path, text, 0o644) }},
	{"rename over (vim with backupcopy=no, sed -i, ansible)", func(_, path string, text []byte) error {
		if err := os.WriteFile(path+".new", text, 0o644); err != nil {
			return err
		}
		return os.Rename(path+".new", path)
	}},
	{"backup, then a new file (vim)", func(_, path string, text []byte) error {
		os.WriteFile(filepath.Dir(path)+"/4913", nil, 0o644) // it tries whether it may
		os.Remove(filepath.Dir(path) + "/4913")
		if err := os.Rename(path, path+"~"); err != nil {
			return err
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return err
		}
		return os.Remove(path + "~")
	}},
	{"lock and autosave files beside it (emacs)", func(_, path string, text []byte) error {
		dir, base := filepath.Split(path)
		os.Symlink("me@here.1:2", dir+".#"+base)
		os.WriteFile(dir+"#"+base+"#", []byte("on.rctp("), 0o644)
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return err
		}
		os.Remove(dir + "#" + base + "#")
		return os.Remove(dir + ".#" + base)
	}},
	{"in small writes (an upload)", func(_, path string, text []byte) error {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_TRUNC, 0o644)
		if err != nil {
			return err
		}
		defer f.Close()
		for i := range text {
			if _, err := f.Write(text[i : i+1]); err != nil {
				return err
			}
		}
		return nil
	}},
	{"removed and made anew (git checkout)", func(_, path string, text []byte) error {
		os.Remove(path)
		return os.WriteFile(path, text, 0o644)
	}},
	{"a hard link over (mv from elsewhere)", func(dir, path string, text []byte) error {
		tmp := filepath.Join(dir, "elsewhere")
		if err := os.WriteFile(tmp, text, 0o644); err != nil {
			return err
		}
		return os.Rename(tmp, path)
	}},
}

// live asks until the policy says version n, and returns how long that took.
func live(t testing.TB, s *client.Client, n int) time.Duration {
	t.Helper()
	start := time.Now()
	want := fmt.Sprintf("550 5.7.1 v%d ", n)
	var text string
	if !wait(func() bool { text = s.Say("MAIL FROM:<a@example.com>"); return strings.HasPrefix(text, want) }) {
		t.Fatalf("the policy says %q, not %q", text, want)
	}
	return time.Since(start)
}

func saying(n int) []byte {
	return fmt.Appendf(nil, "on.mail(function(msg)\n  return reject(550, '5.7.1', 'v%d')\nend)\n", n)
}

// patientLimits let a session be refused as often as live asks.
const patientLimits = "\n[limits]\nerrors = 1000000\n"

// TestEditors saves the policy as each editor does. It is live soon.
func TestEditors(t *testing.T) {
	up := upstream.Start(t, "")
	p := moongate.Start(t, moongate.Options{Upstream: up.Addr, Config: moongate.Default + patientLimits,
		Files: map[string]string{"scripts/10-policy.lua": string(saying(0))}})
	s := client.Dial(t, p.Addr, "").Greet("client.example.com")
	live(t, s, 0)
	n := 0
	for _, e := range editors {
		slow := 0
		for range 3 { // the second time shows whether the watch lives on
			n++
			if err := e.save(p.Dir, filepath.Join(p.Dir, "scripts/10-policy.lua"), saying(n)); err != nil {
				t.Fatal(err)
			}
			if took := live(t, s, n); took > late {
				slow++
			}
		}
		if slow > 1 {
			t.Errorf("%s: %d times of 3 it took more than %v", e.name, slow, late)
		}
	}
}

// TestConfigMap swaps the policy as Kubernetes does: files are links through ..data, a link to a
// directory that is replaced by a rename.
func TestConfigMap(t *testing.T) {
	up := upstream.Start(t, "")
	dir := t.TempDir()
	version := func(n int) {
		t.Helper()
		name := fmt.Sprintf("..2026_11_21_%d", n)
		old, _ := os.Readlink(filepath.Join(dir, "..data"))
		for _, err := range []error{
			os.Mkdir(filepath.Join(dir, name), 0o755),
			os.WriteFile(filepath.Join(dir, name, "10-policy.lua"), saying(n), 0o644),
			os.Symlink(name, filepath.Join(dir, "..data_tmp")),
			os.Rename(filepath.Join(dir, "..data_tmp"), filepath.Join(dir, "..data")),
		} {
			if err != nil {
				t.Fatal(err)
			}
		}
		if old != "" {
			os.RemoveAll(filepath.Join(dir, old))
		}
	}
	version(0)
	if err := os.Symlink("..data/10-policy.lua", filepath.Join(dir, "10-policy.lua")); err != nil {
		t.Fatal(err)
	}
	p := moongate.Start(t, moongate.Options{Upstream: up.Addr, Files: map[string]string{"scripts/none": ""},
		Config: strings.Replace(moongate.Default, `"scripts"`, fmt.Sprintf("%q", dir), 1) + patientLimits})
	s := client.Dial(t, p.Addr, "").Greet("client.example.com")
	live(t, s, 0)
	slow := 0
	for n := 1; n <= 5; n++ {
		version(n)
		if took := live(t, s, n); took > late {
			slow++
		}
	}
	if slow > 1 {
		t.Errorf("%d times of 5 it took more than %v", slow, late)
	}
}

// TestHangup is SIGHUP: all or nothing, and what needs a restart says so.
func TestHangup(t *testing.T) {
	up := upstream.Start(t, "")
	other := upstream.Start(t, "MAIL 250 2.1.0 the other one")
	p := moongate.Start(t, moongate.Options{Upstream: up.Addr})
	config := filepath.Join(p.Dir, "moongate.toml")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	hangup := func(text, msg string) moongate.Line {
		t.Helper()
		before := len(p.Log(msg))
		save(t, config, text)
		p.Signal(syscall.SIGHUP)
		if !wait(func() bool { return len(p.Log(msg)) > before }) {
			t.Fatalf("the log has no %q:\n%s", msg, p.Stderr())
		}
		return p.Log(msg)[before]
	}
	l := hangup("nonsense = 1\n"+strings.Replace(string(text), up.Addr, other.Addr, 1), "reload refused")
	if !strings.Contains(l.String(), "moongate.toml:1:1") {
		t.Errorf("the log does not name the place: %s", l)
	}
	s2 := client.Dial(t, p.Addr, "").Greet("client.example.com")
	if text := s2.Say("MAIL FROM:<a@example.com>"); strings.Contains(text, "other") {
		t.Errorf("a refused reload was taken over in part: %q", text)
	}
	l = hangup(strings.Replace(string(text), `address = "127.0.0.1:0"`, `address = "127.0.0.1:1"`, 1), "reload refused")
	if !strings.Contains(l.String(), "needs a restart") {
		t.Errorf("the log does not say what to do: %s", l)
	}
	hangup(strings.Replace(string(text), up.Addr, other.Addr, 1), "reloaded")
	s3 := client.Dial(t, p.Addr, "").Greet("client.example.com")
	if text := s3.Say("MAIL FROM:<a@example.com>"); !strings.Contains(text, "other") {
		t.Errorf("the new upstream is not asked: %q", text)
	}
}

// TestHangupKeepsSessions changes the upstream under an open session; it goes on.
func TestHangupKeepsSessions(t *testing.T) {
	up, other := upstream.Start(t, ""), upstream.Start(t, "")
	p := moongate.Start(t, moongate.Options{Upstream: up.Addr})
	config := filepath.Join(p.Dir, "moongate.toml")
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	s := client.Dial(t, p.Addr, "").Greet("client.example.com")
	save(t, config, strings.Replace(string(text), up.Addr, other.Addr, 1))
	p.Signal(syscall.SIGHUP)
	p.WaitLog("reloaded", nil)
	if text := s.Send("a@example.com", "b@example.org", "Subject: x\r\n\r\n"); !strings.HasPrefix(text, "250") {
		t.Errorf("the session from before hears %q", text)
	}
}

// TestTerminate is SIGTERM: idle clients hear 421 at once, an open transaction may end, exit 0; a second
// one ends all, and the upstream gets no dot.
func TestTerminate(t *testing.T) {
	t.Run("once", func(t *testing.T) {
		up := upstream.Start(t, "")
		p := moongate.Start(t, moongate.Options{Upstream: up.Addr})
		idle := client.Dial(t, p.Addr, "").Greet("client.example.com")
		open := client.Dial(t, p.Addr, "").Greet("client.example.com")
		open.Must("250", "MAIL FROM:<a@example.com>")
		open.Must("250", "RCPT TO:<b@example.org>")
		open.Must("354", "DATA")
		p.Signal(syscall.SIGTERM)
		if text := idle.Reply(); !strings.HasPrefix(text, "421 4.3.2 ") {
			t.Errorf("the idle client hears %q", text)
		}
		if text := open.Say("Subject: x\r\n\r\n."); !strings.HasPrefix(text, "250") {
			t.Errorf("the open transaction hears %q", text)
		}
		if code := p.Wait(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		if n := len(up.Messages()); n != 1 {
			t.Errorf("%d messages", n)
		}
	})
	t.Run("twice", func(t *testing.T) {
		up := upstream.Start(t, "")
		p := moongate.Start(t, moongate.Options{Upstream: up.Addr})
		open := client.Dial(t, p.Addr, "").Greet("client.example.com")
		open.Must("250", "MAIL FROM:<a@example.com>")
		open.Must("250", "RCPT TO:<b@example.org>")
		open.Must("354", "DATA")
		open.Write([]byte("Subject: x\r\n\r\nhalf"))
		p.Signal(syscall.SIGTERM)
		p.WaitLog("draining", nil)
		start := time.Now()
		p.Signal(syscall.SIGTERM)
		if code := p.Wait(); code != 0 {
			t.Errorf("exit code %d", code)
		}
		if took := time.Since(start); took > 20*time.Second {
			t.Errorf("the second SIGTERM took %v", took)
		}
		for _, m := range up.Messages() {
			if m.Complete {
				t.Errorf("half a message got its dot: %q", m.Data)
			}
		}
	})
}
