package main

import (
	"flag"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"net/textproto"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/moongate/moongate/configs"
	"github.com/moongate/moongate/internal/logsink"
	"github.com/moongate/moongate/internal/watch"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/script"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

var (
	luaBlock  = regexp.MustCompile("(?s)```lua\n(.*?)```")
	tomlBlock = regexp.MustCompile("(?s)```toml\n(.*?)```")
	listBlock = regexp.MustCompile("(?s)```text\n(# (\\S+\\.txt)\n.*?)```")
	link      = regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
)

// pages are the README and everything in docs.
func pages(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	add := func(file string) {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all[file] = string(text)
	}
	add("../../README.md")
	err := filepath.WalkDir("../../docs", func(path string, d fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(path, ".md") {
			add(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// lists are the list files that a page shows: a text whose first line is a
// comment with the file's name.
func lists(page string) map[string]string {
	all := map[string]string{}
	for _, m := range listBlock.FindAllStringSubmatch(page, -1) {
		all[m[2]] = m[1]
	}
	return all
}

// Every Lua example of the documentation loads, on the face it speaks of.
func TestExamplesLoad(t *testing.T) {
	count := 0
	for file, text := range pages(t) {
		if strings.Contains(file, "/decisions/") { // they show what is wrong elsewhere
			continue
		}
		for i, m := range luaBlock.FindAllStringSubmatch(text, -1) {
			count++
			snap := watch.Snapshot{Dir: file, Files: []watch.File{{Name: "example.lua", Data: []byte(m[1])}}}
			for name, list := range lists(text) {
				snap.Files = append(snap.Files, watch.File{Name: name, Data: []byte(list)})
			}
			p, problems := script.Load(snap, script.Options{Faces: []*policy.Face{policy.SMTP}})
			for _, problem := range problems {
				t.Errorf("%s, example %d: %s", file, i+1, problem.Render())
			}
			if p != nil && len(p.Rules.All()) == 0 {
				t.Errorf("%s, example %d has no rule", file, i+1)
			}
		}
	}
	if count < 9 {
		t.Errorf("only %d examples were found", count)
	}
}

// Every Lua example is asked at every stage of a conversation, too, and none
// of its rules fails. What it calls must exist, and mean what the page says.
func TestExamplesRun(t *testing.T) {
	upstream := filepath.Join(t.TempDir(), "up.sock")
	defer storeAt(t, upstream)()
	for file, text := range pages(t) {
		if strings.Contains(file, "/decisions/") {
			continue
		}
		for i, m := range luaBlock.FindAllStringSubmatch(text, -1) {
			t.Run(fmt.Sprintf("%s-%d", filepath.Base(file), i+1), func(t *testing.T) {
				cfg := configs.Default()
				cfg.Upstream.Address = configs.Address("unix:" + upstream)
				cfg.Policy.Scripts = t.TempDir()
				cfg.DNS.Servers = []configs.Address{"127.0.0.1:1"} // nobody: the outcome must not hang on the network
				save(t, cfg.Policy.Scripts, "example.lua", m[1])
				for name, list := range lists(text) {
					save(t, cfg.Policy.Scripts, name, list)
				}
				runExample(t, cfg)
			})
		}
	}
}

func runExample(t *testing.T, cfg *configs.Config) {
	log, out := logsink.New(logsink.Options{Out: io.Discard})
	defer out.Close(time.Second)
	seen := newWitness()
	h, err := furnish(cfg, zap.New(zapcore.NewTee(log.Core(), seen)), out)
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()
	ours, theirs := net.Pipe()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		h.proxy.ServeConn(theirs, policy.Facts{Remote: netip.MustParseAddrPort("127.0.0.1:4711"), PTR: "client.example.com"})
	}()
	defer func() { ours.Close(); <-ended }()
	ours.SetDeadline(time.Now().Add(patience))
	c := textproto.NewConn(ours)
	var transcript strings.Builder
	for _, line := range []string{"", "EHLO client.example.com", "VRFY bob", "NONSENSE", "MAIL FROM:<ann@example.com>", "RCPT TO:<postmaster@example.org>",
		"RCPT TO:<bob@example.org>", "DATA", "From: ann@example.com\r\nSubject: hello\r\nX-Internal-Ticket: 1\r\n\r\nworld\r\n.", "QUIT"} {
		if line != "" {
			if err := c.PrintfLine("%s", line); err != nil {
				t.Fatalf("%s%v", &transcript, err)
			}
		}
		code, reply, err := c.ReadResponse(0)
		if err != nil {
			t.Fatalf("%s%v", &transcript, err)
		}
		fmt.Fprintf(&transcript, "C: %s\nS: %d %s\n", line, code, reply)
	}
	entries, err := seen.session()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e["msg"] == "rule failed" || e["msg"] == "panic" {
			t.Errorf("%v\n%s", e, &transcript)
		}
	}
	if want := "250 2.0.0 Ok: queued as "; !strings.Contains(transcript.String(), want) {
		t.Errorf("an ordinary message does not pass:\n%s", &transcript)
	}
}

// Every configuration of the documentation is one.
func TestConfigurationsLoad(t *testing.T) {
	count := 0
	for file, text := range pages(t) {
		for i, m := range tomlBlock.FindAllStringSubmatch(text, -1) {
			count++
			path := filepath.Join(t.TempDir(), "moongate.toml")
			if err := os.WriteFile(path, []byte(m[1]), 0o666); err != nil {
				t.Fatal(err)
			}
			_, problems := configs.Load(path)
			for _, problem := range problems {
				t.Errorf("%s, configuration %d: %s", file, i+1, problem.Show())
			}
		}
	}
	if count < 4 {
		t.Errorf("only %d configurations were found", count)
	}
}

// Links between pages lead somewhere.
func TestLinksLeadSomewhere(t *testing.T) {
	for file, text := range pages(t) {
		for _, m := range link.FindAllStringSubmatch(text, -1) {
			if _, err := os.Stat(filepath.Join(filepath.Dir(file), m[1])); err != nil {
				t.Errorf("%s: %v", file, err)
			}
		}
	}
}

var update = flag.Bool("update", false, "write the list of metrics anew")

var desc = regexp.MustCompile(`fqName: "(moongate_\w+)", help: "((?:[^"\\]|\\.)*)"`)

// docs/running.md ends with the metrics that there are, each with its help text.
func TestMetricsAreDocumented(t *testing.T) {
	const file, mark = "../../docs/running.md", "| metric | |\n|---|---|\n"
	cfg := configs.Default()
	cfg.Policy.AllowEmpty = true
	log, out := logsink.New(logsink.Options{Out: io.Discard})
	defer out.Close(time.Second)
	h, err := furnish(cfg, log, out)
	if err != nil {
		t.Fatal(err)
	}
	defer h.close()

	descs := make(chan *prometheus.Desc, 1000)
	go func() {
		h.registry.Describe(descs)
		close(descs)
	}()
	var rows []string
	for d := range descs {
		if m := desc.FindStringSubmatch(d.String()); m != nil {
			rows = append(rows, fmt.Sprintf("| `%s` | %s |\n", m[1], m[2]))
		}
	}
	slices.Sort(rows)
	table := strings.Join(slices.Compact(rows), "")

	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	text, _, ok := strings.Cut(string(page), mark)
	if !ok {
		t.Fatal("docs/running.md has no table of metrics")
	}
	if want := text + mark + table; want != string(page) {
		if !*update {
			t.Fatalf("docs/running.md does not list the metrics that there are; go test ./cmd/moongate -run Documented -update writes:\n%s", table)
		}
		if err := os.WriteFile(file, []byte(want), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

// docs/faces.md has the tables of policy/face.go.
func TestFacesAreDocumented(t *testing.T) {
	const file = "../../docs/faces.md"
	page, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := string(page)
	yes := map[bool]string{true: " yes |", false: " |"}
	for title, face := range map[string]*policy.Face{"SMTP door": policy.SMTP, "milter": policy.Milter} {
		var rows strings.Builder
		for h := range policy.Hook(policy.NumAsked) {
			fmt.Fprintf(&rows, "| %s |", h)
			for _, a := range []policy.Action{policy.Accept, policy.Bypass, policy.Reject, policy.Tempfail, policy.Discard, policy.Drop, policy.Quarantine} {
				if !face.Asks(h) {
					rows.WriteString(" - |")
					continue
				}
				rows.WriteString(yes[face.Can(h, a)])
			}
			rows.WriteString("\n")
		}
		want = replaceTable(want, "| "+title+" |", rows.String())
	}
	var rows strings.Builder
	for h := range policy.Hook(policy.NumAsked) {
		if !policy.Milter.Asks(h) || !policy.SMTP.CanEdit(h, policy.AddHeader) {
			continue
		}
		fmt.Fprintf(&rows, "| %s |", h)
		for _, kinds := range [][]policy.EditKind{{policy.AddHeader, policy.InsertHeader}, {policy.ChangeHeader, policy.RemoveHeader},
			{policy.SetSender}, {policy.AddRcpt}, {policy.RemoveRcpt, policy.ReplaceRcpt}, {policy.ReplaceBody}} {
			can := true
			for _, k := range kinds {
				can = can && policy.SMTP.CanEdit(h, k)
				if policy.SMTP.CanEdit(h, k) != policy.Milter.CanEdit(h, k) {
					t.Errorf("%s at %s differs between the faces: the page says that it does not", k, h)
				}
			}
			rows.WriteString(yes[can])
		}
		rows.WriteString("\n")
	}
	want = replaceTable(want, "| | add_header", rows.String())

	if want == string(page) {
		return
	}
	if !*update {
		t.Fatal("docs/faces.md is not what policy/face.go says; go test ./cmd/moongate -run Documented -update mends it")
	}
	if err := os.WriteFile(file, []byte(want), 0o666); err != nil {
		t.Fatal(err)
	}
}

// replaceTable replaces the rows of the table whose head line begins so.
func replaceTable(page, head, rows string) string {
	var out strings.Builder
	state := 0 // 1: the line under the head comes, 2: rows come
	for line := range strings.Lines(page) {
		switch {
		case strings.HasPrefix(line, head):
			state = 1
		case state == 1:
			state = 2
			out.WriteString(line + rows)
			continue
		case state == 2 && strings.HasPrefix(line, "|"):
			continue
		default:
			state = 0
		}
		out.WriteString(line)
	}
	return out.String()
}
