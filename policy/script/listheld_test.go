package script

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/moongate/moongate/internal/watch"
	"github.com/moongate/moongate/policy"
)

// lists is an engine whose policy answers with what its two lists hold of it.
type lists struct {
	*testing.T
	*Engine
	logs *observer.ObservedLogs
	now  time.Time
}

const askLists = "-- 10-a.lua --\nlocal l = list('l.txt')\nlocal n = ipset('n.txt')\non.connect(function(conn) return reject(tostring(l:has('a')) .. tostring(l:has('w1')) .. tostring(n:has(conn.ip))) end)\n"

func newLists(t *testing.T, o Options) *lists {
	l := &lists{T: t, now: time.Unix(0, 0)}
	l.Engine, l.logs = engine(t, o)
	l.shared.lists.clock = func() time.Time { return l.now }
	return l
}

// words are n words, w0 and on.
func words(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "w%d\n", i)
	}
	return b.String()
}

// files is a snapshot with these contents of the two lists; "-" is no file, and
// an error what reading it comes to.
func files(l, n any) watch.Snapshot {
	snap := snapshot(askLists)
	for name, data := range map[string]any{"l.txt": l, "n.txt": n} {
		f := watch.File{Name: name}
		switch data := data.(type) {
		case error:
			f.Err = data
		case string:
			f.Data = []byte(data)
		}
		if data != "-" {
			snap.Files = append(snap.Files, f)
		}
	}
	snap.Hash = fmt.Sprint(l, n)
	return snap
}

func (l *lists) put(words, networks any) {
	l.Helper()
	if ps, err := l.Reload(files(words, networks)); err != nil {
		l.Fatal(problemLines(ps))
	}
}

// has checks what the policy says: of a, of w1, and of the client's address.
func (l *lists) has(want string) {
	l.Helper()
	c := connectTo(l.T, l, zap.NewNop())
	c.is(c.ask(policy.Connect), "554 5.7.1 "+want)
}

// kept puts a content that is not to be taken, and expects one line for it.
func (l *lists) kept(words any, reason string) {
	l.Helper()
	l.logs.TakeAll()
	l.put(words, "192.0.2.0/24\n")
	l.put(words, "192.0.2.0/24\n")
	l.has("truetruetrue")
	lines := l.logs.FilterMessage("list kept").All()
	if len(lines) != 1 {
		l.Fatalf("told %d times: %v", len(lines), l.logs.All())
	}
	m := lines[0].ContextMap()
	if m["reason"] != reason || m["list"] != "l.txt" || m["accept"] != "moongate reload --accept-lists" {
		l.Errorf("told %v, want %q", m, reason)
	}
}

func (l *lists) held(want ...ListChange) {
	l.Helper()
	if diff := cmp.Diff(want, l.HeldLists()); diff != "" {
		l.Errorf("held back (-want +got):\n%s", diff)
	}
}

func (l *lists) accepted(want ...ListChange) {
	l.Helper()
	if diff := cmp.Diff(want, l.AcceptLists()); diff != "" {
		l.Errorf("accepted (-want +got):\n%s", diff)
	}
}

// rest lets time pass.
func (l *lists) rest(d time.Duration) {
	l.now = l.now.Add(d)
	l.RipenLists()
}

const (
	gone   = "its file is gone"
	empty  = "it is empty now"
	halved = "it lost more than half of its entries"
	denied = "its file cannot be read: permission denied"
)

// Lists follow their files without a new version; one that shrank is kept.
func TestListsFollow(t *testing.T) {
	l := newLists(t, Options{})
	l.put("w1\n", "10.0.0.0/8\n")
	p := l.Policy()
	l.has("falsetruefalse")
	l.put(words(60)+"a\n", "192.0.2.0/24\n")
	l.has("truetruetrue")
	if l.Policy() != p {
		t.Error("a list made a new version")
	}
	l.kept("-", gone)
	l.kept("", empty)
	l.kept(words(30), halved)
	l.put(words(40)+"a\n", "192.0.2.0/24\nx\n") // the other has a line that is no network
	l.has("truetruetrue")
}

// What is held back is taken as it stands, and told.
func TestAcceptLists(t *testing.T) {
	for _, tt := range []struct {
		name    string
		content any
		reason  string
		entries int
		has     string
	}{
		{"gone", "-", gone, 0, "falsefalsetrue"},
		{"a link to nowhere", syscall.ENOENT, gone, 0, "falsefalsetrue"},
		{"unreadable", syscall.EACCES, denied, 0, "falsefalsetrue"},
		{"a directory", watch.ErrNotRegular, "its file cannot be read: not a regular file", 0, "falsefalsetrue"},
		{"empty", "# nothing\n", empty, 0, "falsefalsetrue"},
		{"less than half", words(30), halved, 30, "falsetruetrue"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLists(t, Options{})
			full := words(60) + "a\n"
			l.put(full, "192.0.2.0/24\n")
			l.accepted()
			l.kept(tt.content, tt.reason)
			l.rest(time.Hour)
			l.has("truetruetrue")
			change := ListChange{File: "l.txt", Before: 61, Entries: tt.entries, Why: tt.reason}
			l.held(change)
			l.accepted(change)
			l.held()
			l.has(tt.has)
			l.accepted()
			l.logs.TakeAll()
			l.put(tt.content, "192.0.2.0/24\n")
			l.has(tt.has)
			if n := l.logs.Len(); n != 0 {
				t.Errorf("told again: %v", l.logs.All())
			}
			l.put(full, "192.0.2.0/24\n") // the file is back
			l.has("truetruetrue")
		})
	}
}

// Both at once, by file; a file with a line that is no network is none to take.
func TestAcceptListsMany(t *testing.T) {
	l := newLists(t, Options{AllowShrink: true})
	l.put("a\nw1\n", "192.0.2.0/24\n")
	l.put("-", "-")
	l.has("truetruetrue")
	l.accepted(ListChange{"l.txt", 2, 0, gone, false}, ListChange{"n.txt", 1, 0, gone, false})
	l.has("falsefalsefalse")
	l.put("a\nw1\n", "192.0.2.0/24\n")
	l.put("a\nw1\n", "192.0.2.0/24\nx\n")
	l.accepted()
	l.held(ListChange{"n.txt", 1, 0, `entry 2, "x", is no address or network`, true})
	l.rest(time.Hour)
	l.has("truetruetrue")
	l.put("a\nw1\n", "192.0.2.0/24\n") // mended
	l.held()
}

// Where lists may shrink, new content counts once it has stood for a minute.
// What cannot be read says nothing, however long it stands.
func TestListsMayShrink(t *testing.T) {
	for _, tt := range []struct {
		name    string
		content any
		reason  string
		has     string
	}{
		{"gone", "-", gone, "falsefalsetrue"},
		{"empty", "", empty, "falsefalsetrue"},
		{"less than half", words(30), halved, "falsetruetrue"},
		{"unreadable", syscall.EACCES, denied, "truetruetrue"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l := newLists(t, Options{AllowShrink: true})
			l.put(words(60)+"a\n", "192.0.2.0/24\n")
			l.kept(words(5)+"b\n", halved)
			l.rest(59 * time.Second)
			l.kept(tt.content, tt.reason) // time begins anew
			l.rest(59 * time.Second)
			l.has("truetruetrue")
			l.rest(time.Second)
			l.has(tt.has)
		})
	}
}

// A list in a directory that cannot be read is not gone.
func TestListsBelow(t *testing.T) {
	const script = "-- 10-a.lua --\nlocal l = ipset('lists/l.txt')\non.connect(function(conn) if l:has(conn.ip) then return reject('listed') end end)\n"
	below := snapshot(script)
	below.Files = append(below.Files, watch.File{Name: "lists", Err: syscall.EACCES})
	if _, ps := Load(below, Options{}); problemLines(ps) != "10-a.lua:1:11: ipset: lists/l.txt: permission denied" {
		t.Errorf("at a start: %s", problemLines(ps))
	}
	e, logs := engine(t, Options{AllowShrink: true})
	now := time.Unix(0, 0)
	e.shared.lists.clock = func() time.Time { return now }
	if ps, err := e.Reload(snapshot(script + "-- lists/l.txt --\n192.0.2.0/24\n")); err != nil {
		t.Fatal(problemLines(ps))
	}
	e.Reload(below)
	now = now.Add(time.Hour)
	e.RipenLists()
	if lines := logs.FilterMessage("list kept").All(); len(lines) != 1 || lines[0].ContextMap()["reason"] != denied {
		t.Errorf("told %v", lines)
	}
	c := connectTo(t, e, zap.NewNop())
	c.is(c.ask(policy.Connect), "554 5.7.1 listed")
}

// Other settings leave what is held back where it is, and say what becomes of
// it; a list goes without a word together with the script that named it.
func TestListsUnderOtherSettings(t *testing.T) {
	l := newLists(t, Options{})
	l.put("a\nw1\n", "192.0.2.0/24\n")
	l.kept("-", gone)
	l.rest(time.Hour)
	if ps, err := l.Use(files("-", "192.0.2.0/24\n"), Options{AllowShrink: true, MaxStates: 7}); err != nil {
		t.Fatal(problemLines(ps))
	}
	l.RipenLists()
	l.has("falsefalsetrue")

	l.put("a\nw1\n", "192.0.2.0/24\n")
	l.kept("-", gone)
	broken := files("-", "192.0.2.0/24\n")
	broken.Files[0].Data = []byte("broken(")
	if _, err := l.Use(broken, Options{}); err == nil {
		t.Fatal("taken")
	}
	l.rest(time.Minute) // the old settings stay with the old version
	l.has("falsefalsetrue")

	l.put("a\nw1\n", "192.0.2.0/24\n")
	l.logs.TakeAll()
	if ps, err := l.Reload(snapshot("-- 10-a.lua --\non.connect(function(conn) end)\n")); err != nil {
		t.Fatal(problemLines(ps))
	}
	if n := l.logs.FilterMessage("list kept").Len(); n != 0 {
		t.Errorf("told %v", l.logs.All())
	}
	l.accepted()
}
