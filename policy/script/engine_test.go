package script

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/moongate/moongate/internal/watch"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/lua"
	"github.com/moongate/moongate/policy/policytest"
	store "github.com/moongate/moongate/policy/state"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func engine(t *testing.T, opts Options) (*Engine, *observer.ObservedLogs) {
	core, logs := observer.New(zap.DebugLevel)
	opts.Log = zap.New(core)
	return NewEngine(opts, prometheus.NewRegistry()), logs
}

func (c *client) version() string {
	v := c.mail("a@b.example")
	c.done(policy.Continue)
	return strings.TrimPrefix(say(v), "550 5.7.1 ")
}

func gauge(t *testing.T, m prometheus.Metric) float64 {
	t.Helper()
	var d dto.Metric
	if err := m.Write(&d); err != nil {
		t.Fatal(err)
	}
	return d.GetGauge().GetValue()
}

const versioned = "on.mail(function(msg) return reject('%s') end)"

func TestReload(t *testing.T) {
	e, logs := engine(t, Options{})
	reload := func(text string, ok bool) {
		t.Helper()
		_, err := e.Reload(snapshot(text))
		if (err == nil) != ok {
			t.Fatalf("reload: %v", err)
		}
		if got := gauge(t, e.metrics.failed); (got == 0) != ok {
			t.Errorf("moongate_policy_reload_failed is %v", got)
		}
	}
	reload("broken(", false)
	if e.Rules(nil) != nil {
		t.Error("there are rules")
	}
	reload(fmt.Sprintf(versioned, "one"), true)
	c := connectTo(t, e, zap.NewNop())
	if got := c.version(); got != "one" {
		t.Errorf("version %s", got)
	}
	first := e.Rules(nil).Version
	logs.TakeAll()
	for range 3 {
		reload("on.mail(function(msg) return reject('two' end)", false)
	}
	if got := c.version(); got != "one" {
		t.Errorf("version %s", got)
	}
	if n := logs.FilterMessage("policy problem").Len(); n != 1 {
		t.Errorf("the problem was told %d times", n)
	}
	if m := logs.FilterMessage("policy problem").All()[0].ContextMap(); m["at"] != "10-test.lua:1:43" || m["problem"] != "unexpected 'end' ('(' of line 1 is still open)" {
		t.Errorf("%v", m)
	}
	logs.TakeAll()
	reload("on.mail(function(msg) if msg.from > '5' then return reject('two') end return rejct('x') end)", false)
	if m := logs.FilterMessage("policy refused").All()[0].ContextMap(); logs.FilterMessage("policy problem").Len() != 2 || m["problems"] != int64(1) {
		t.Errorf("%v", logs.All())
	}
	reload(fmt.Sprintf(versioned, "one"), true) // taken back
	if e.Rules(nil).Version != first {
		t.Error("another version")
	}
	reload("", false) // emptied
	reload("-- 10-a.lua --\n-- nothing\n", false)
	if got := c.version(); got != "one" {
		t.Errorf("version %s", got)
	}
	reload(fmt.Sprintf(versioned, "two"), true)
	if got := c.version(); got != "two" {
		t.Errorf("version %s", got)
	}
	reload("-- 10-a.lua --\nlocal l = list('l.txt')\non.mail(function(msg) return reject('three') end)\n", false)
	reload("-- 10-a.lua --\nlocal l = list('l.txt')\non.mail(function(msg) return reject('three') end)\n-- l.txt --\nx\n", true)
	reload(fmt.Sprintf(versioned, "two"), true) // the list is not used any more
	if n := len(e.shared.lists.known); n != 0 {
		t.Errorf("%d lists are still followed", n)
	}
	_, err := e.Reload(watch.Snapshot{Dir: "d", Err: watch.ErrTooMany})
	if err == nil || c.version() != "two" {
		t.Errorf("a directory that cannot be read: %v, %s", err, c.version())
	}
}

// A message ends on the version it began with, its data comes along.
func TestMessageEndsOnItsVersion(t *testing.T) {
	const text = "on.mail(function(msg) msg.conn.data.from = (msg.conn.data.from or '') .. '%s' end)\non.rcpt(function(msg, rcpt) return reject('%s' .. msg.conn.data.from) end)"
	e, _ := engine(t, Options{})
	e.Reload(snapshot(fmt.Sprintf(text, "1", "one ")))
	c := connectTo(t, e, zap.NewNop())
	c.mail("a@b.example")
	e.Reload(snapshot(fmt.Sprintf(text, "2", "two ")))
	old := c.Tx.Rules
	c.is(c.rcpt("c@d.example"), "550 5.7.1 one 1")
	c.is(c.rcpt("c@d.example"), "550 5.7.1 one 1")
	c.done(policy.Continue)
	c.mail("a@b.example")
	c.is(c.rcpt("c@d.example"), "550 5.7.1 two 12")
	if p := old.All()[0].Evaluator.(*rule).p.pool; p.states() != 0 {
		t.Errorf("the old version keeps %d states", p.states())
	}
}

// A thousand reloads, a third of them broken, under load: nobody is judged by
// two versions.
func TestThousandReloads(t *testing.T) {
	const text = `-- 10-a.lua --
local v = require("version")
on.mail(function(msg) msg.data.v = v.number end)
-- 20-b.lua --
local v = require("version")
on.rcpt(function(msg, rcpt)
  if msg.data.v ~= v.number then return reject("mixed " .. msg.data.v .. " " .. v.number) end
  return accept()
end)
-- lib/version.lua --
return { number = %d%s }
`
	e, _ := engine(t, Options{})
	if ps, err := e.Reload(snapshot(fmt.Sprintf(text, 0, ""))); err != nil {
		t.Fatal(problemLines(ps))
	}
	var wg sync.WaitGroup
	var stop atomic.Bool
	var judged atomic.Int64
	st := store.New(0)
	for range 4 {
		wg.Go(func() {
			for !stop.Load() {
				c := session(t, e, zap.NewNop(), &policytest.World{Store: st})
				for range 3 {
					c.mail("a@b.example")
					for range 3 {
						if v := c.rcpt("c@d.example"); v.Action != policy.Accept {
							t.Errorf("%s", say(v))
							return
						}
						judged.Add(1)
					}
					c.done(policy.Accept)
				}
				c.Tell(&policy.Event{Hook: policy.Disconnect})
			}
		})
	}
	n := 1000
	if testing.Short() || raceEnabled { // the detector sees in a hundred what it would see in a thousand, and takes its time
		n = 150
	}
	refused := 0
	for i := range n {
		broken := ""
		if i%3 == 0 {
			broken = " return"
		}
		if _, err := e.Reload(snapshot(fmt.Sprintf(text, i+1, broken))); err != nil {
			refused++
		}
	}
	stop.Store(true)
	wg.Wait()
	if refused != (n+2)/3 || judged.Load() == 0 {
		t.Errorf("%d refused, %d judged", refused, judged.Load())
	}
}

// What can lie in the place of a script.
func TestOddFiles(t *testing.T) {
	dir := t.TempDir()
	script := filepath.Join(dir, "10-a.lua")
	write := func(text string) {
		t.Helper()
		os.RemoveAll(script)
		if err := os.WriteFile(script, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	e, logs := engine(t, Options{})
	write(fmt.Sprintf(versioned, "good"))
	if ps, err := e.Reload(watch.Read(dir, Select())); err != nil {
		t.Fatal(problemLines(ps))
	}
	c := connectTo(t, e, zap.NewNop())
	for name, put := range map[string]func(){
		"truncated": func() { write("on.mail(function(msg) return rej") },
		"endless":   func() { write("while true do end") },
		"empty":     func() { write("") },
		"gone":      func() { os.Remove(script) },
		"binary":    func() { write("\x1bLua\x00\x01") },
		"fifo": func() {
			os.RemoveAll(script)
			if err := syscall.Mkfifo(script, 0o644); err != nil {
				t.Fatal(err)
			}
		},
		"directory": func() { os.RemoveAll(script); os.Mkdir(script, 0o755) },
		"dangling":  func() { os.RemoveAll(script); os.Symlink("nowhere", script) },
		"unreadable": func() {
			write(fmt.Sprintf(versioned, "secret"))
			os.Chmod(script, 0)
			if os.Geteuid() == 0 { // root reads everything
				write("local x = ")
			}
		},
	} {
		write(fmt.Sprintf(versioned, "good"))
		if _, err := e.Reload(watch.Read(dir, Select())); err != nil {
			t.Fatal(err)
		}
		put()
		logs.TakeAll()
		for range 2 {
			if ps, err := e.Reload(watch.Read(dir, Select())); err == nil {
				t.Errorf("%s: taken %v", name, ps)
			}
		}
		if got := c.version(); got != "good" {
			t.Errorf("%s: version %s", name, got)
		}
		if n := logs.FilterMessage("policy problem").Len(); n != 1 {
			t.Errorf("%s: told %d times", name, n)
		}
	}
}

// The same scripts under other settings: taken, they judge by the new ones;
// refused, everything is as it was.
func TestUse(t *testing.T) {
	const text = `-- 10-a.lua --
local l = list("l.txt")
on.connect(function(conn) return reject("at once") end)
on.mail(function(msg) for i = 1, 50000 do end return reject("worked") end)
`
	e, logs := engine(t, Options{})
	reload := func(set Options, text string, ok bool) {
		t.Helper()
		if ps, err := e.Use(snapshot(text), set); (err == nil) != ok {
			t.Fatalf("%v: %s", err, problemLines(ps))
		}
	}
	judge := func(connect, mail string) {
		t.Helper()
		c := connectTo(t, e, zap.NewNop())
		c.is(c.ask(policy.Connect), connect)
		c.is(c.mail("a@b.example"), mail)
		c.done(policy.Continue)
	}
	const worked = "550 5.7.1 worked"
	full := text + "-- l.txt --\n" + words(30)
	reload(Options{}, full, true)
	judge("554 5.7.1 at once", worked)

	first := e.Policy()
	reload(Options{MaxStates: 1024}, full, true) // which is the default
	if e.Policy() != first {
		t.Error("the same settings made another version")
	}
	reload(Options{}, text+"-- l.txt --\nw1\n", true) // from here on the list is held back
	late := Options{DelayReject: true, MaxStates: 3, Budget: lua.Budget{Instructions: 1000, Bytes: 1 << 20}}
	reload(late, text+"-- l.txt --\nw1\n", true)
	judge("continue", failed)
	if e.Policy() == first || e.Policy().pool.max != 3 || e.Rules(nil).Version != first.Rules.Version {
		t.Errorf("%d states, version %s", e.Policy().pool.max, e.Rules(nil).Version)
	}
	if _, err := e.Reload(snapshot(text + "-- l.txt --\nw1\n")); err != nil || e.Policy().pool.max != 3 {
		t.Errorf("a plain reload: %v, %d states", err, e.Policy().pool.max)
	}

	// Refused twice, for the script's sake and for the settings' alone.
	reload(Options{}, text+"broken(", false)
	judge("continue", failed)
	reload(Options{AllowEmpty: true}, "-- 10-a.lua --\n", true)
	judge("continue", "continue")
	reload(Options{}, "-- 10-a.lua --\n", false)
	judge("continue", "continue")
	logs.TakeAll()
	if _, err := e.Reload(snapshot("-- 10-a.lua --\n")); err != nil || gauge(t, e.metrics.failed) != 0 {
		t.Errorf("under the old settings it is as it serves: %v", err)
	}
	if n := logs.FilterMessage("policy as it serves").Len(); n != 1 {
		t.Errorf("told %v", logs.All())
	}
}

// A policy never loses one of its files without a word: what cannot be read
// where a script should be refuses the whole version.
func TestDirectoryForAScript(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"10-a.lua", "20-b.lua"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("on.mail(function(msg) end)"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	for _, sub := range []string{"types", "lib", "lists"} {
		os.Mkdir(filepath.Join(dir, sub), 0o755)
	}
	if p, ps := Load(watch.Read(dir, Select()), Options{}); p == nil || len(ps) > 0 {
		t.Fatal(problemLines(ps))
	}
	os.Remove(filepath.Join(dir, "10-a.lua"))
	os.Mkdir(filepath.Join(dir, "10-a.lua"), 0o755)
	p, ps := Load(watch.Read(dir, Select()), Options{})
	if want := "10-a.lua: not a regular file"; p != nil || problemLines(ps) != want {
		t.Errorf("policy %v: %s", p, problemLines(ps))
	}
}
