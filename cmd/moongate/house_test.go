package main

import (
	"context"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moongate/moongate/configs"
	"github.com/moongate/moongate/internal/logsink"
	"github.com/moongate/moongate/internal/sink"
	"go.uber.org/goleak"
	"go.uber.org/zap"
)

// A house that was opened, reloaded under clients, drained and closed leaves
// nothing behind.
func TestHouseLeavesNothing(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	const config = `
[[listener]]
address = "unix:smtp.sock"
[milter]
address = "unix:milter.sock"
[upstream]
address = "unix:up.sock"
[policy]
scripts = "."
soft_bounce = false
[admin]
address = "unix:admin.sock"
`
	write("moongate.toml", config)
	write("10.lua", `on.mail(function(msg) return reject("no") end)`)
	cfg, problems := configs.Load(filepath.Join(dir, "moongate.toml"))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for _, name := range []string{"up.sock", "other.sock"} {
		defer storeAt(t, filepath.Join(dir, name))()
	}
	log, out := logsink.New(logsink.Options{Out: io.Discard, Level: zap.DebugLevel})
	h, err := furnish(cfg, log, out)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.open(); err != nil {
		t.Fatal(err)
	}
	broken := h.start(t.Context())

	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for range 20 {
				refusedAtMail(t, filepath.Join(dir, "smtp.sock"))
			}
		})
	}
	for i := range 10 { // each other one changes the upstream, and so the hop
		text := strings.Replace(config, "soft_bounce = false", "soft_bounce = true", i%2)
		write("moongate.toml", strings.Replace(text, "up.sock", []string{"up.sock", "other.sock"}[i%2], 1))
		h.reload(filepath.Join(dir, "moongate.toml"), false)
	}
	clients.Wait()
	h.drain(context.Background(), nil)
	h.close()
	out.Close(time.Second)
	select {
	case err := <-broken:
		t.Errorf("a door failed: %v", err)
	default:
	}
}

// storeAt runs an upstream at a socket until the function it returns is called.
func storeAt(t *testing.T, socket string) (end func()) {
	t.Helper()
	maildir, err := sink.OpenMaildir(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	s := &sink.Server{Maildir: maildir}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	return func() {
		now, cancel := context.WithCancel(context.Background())
		cancel()
		s.Shutdown(now)
		<-served
	}
}

// refusedAtMail is a client that is refused by the rule, whatever the
// configuration of the moment makes of it.
func refusedAtMail(t *testing.T, socket string) {
	c, err := net.Dial("unix", socket)
	if err != nil {
		t.Error(err)
		return
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if _, err := io.WriteString(c, "EHLO client.example\r\nMAIL FROM:<ann@example.net>\r\nQUIT\r\n"); err != nil {
		t.Error(err)
		return
	}
	said, err := io.ReadAll(c)
	if err != nil || !strings.Contains(string(said), "\r\n550 5.7.1 no") && !strings.Contains(string(said), "\r\n450 4.7.1 no") {
		t.Errorf("heard %q, %v", said, err)
	}
}
