package main

import (
	"flag"
	"fmt"
	"io"
	"io/fs"
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
)

var (
	luaBlock = regexp.MustCompile("(?s)```lua\n(.*?)```")
	link     = regexp.MustCompile(`\]\(([^)#:]+)(?:#[^)]*)?\)`)
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
