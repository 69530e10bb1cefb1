package main

import (
	"path/filepath"
	"testing"
	"time"

	"github.com/moongate/moongate/configs"
	"github.com/moongate/moongate/internal/logsink"
	"go.uber.org/zap"
)

// TestBudgets: every listener has one, and nothing that a client waits for
// takes longer.
func TestBudgets(t *testing.T) {
	dir := t.TempDir()
	save(t, dir, "10.lua", refusing)
	save(t, dir, "moongate.toml", `
domains = ["example.org"]
[[listener]]
address = "unix:smtp.sock"
[[listener]]
address = "127.0.0.1:0"
xforward = ["127.0.0.1/32"]
[[listener]]
address = "unix:short.sock"
budget = "24s"
[upstream]
address = "unix:up.sock"
[policy]
scripts = "."
`)
	cfg, problems := configs.Load(filepath.Join(dir, "moongate.toml"))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	log, out := logsink.New(logsink.Options{Level: zap.DebugLevel})
	defer out.Close(time.Second)
	h, err := furnish(cfg, log, out)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []struct{ all, command, rule, stage time.Duration }{
		{480 * time.Second, 300 * time.Second, 75 * time.Second, 120 * time.Second},
		{90 * time.Second, 90 * time.Second, 14062500 * time.Microsecond, 22500 * time.Millisecond},
		{24 * time.Second, 24 * time.Second, 3750 * time.Millisecond, 6 * time.Second},
	} {
		f := h.frontOf(cfg.Listeners[i])
		got := f.server.Settings
		if got.Budget != want.all || f.hop.Command != want.command || f.hop.Connect > want.all ||
			got.Env.MessageTime != want.rule || got.Env.AllTime != want.stage {
			t.Errorf("%s: budget %v, command %v, connect %v, rule %v, stage %v", cfg.Listeners[i].Address,
				got.Budget, f.hop.Command, f.hop.Connect, got.Env.MessageTime, got.Env.AllTime)
		}
	}
}
