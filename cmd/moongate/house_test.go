package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/moongate/moongate/configs"
	"github.com/moongate/moongate/internal/logsink"
	"github.com/moongate/moongate/internal/sink"
	"go.uber.org/goleak"
	"go.uber.org/zap"
)

const houseConfig = `
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

// refusing is a policy that refuses all mail.
const refusing = `on.mail(function(msg) return reject("no") end)`

// startHouse runs a house in a directory of its own, until the function it
// returns is called. Its upstreams are up.sock and other.sock.
func startHouse(t *testing.T, config, policy string) (h *house, dir string, end func()) {
	t.Helper()
	dir = t.TempDir()
	save(t, dir, "moongate.toml", config)
	save(t, dir, "10.lua", policy)
	cfg, problems := configs.Load(filepath.Join(dir, "moongate.toml"))
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	var ends []func()
	for _, name := range []string{"up.sock", "other.sock"} {
		ends = append(ends, storeAt(t, filepath.Join(dir, name)))
	}
	log, out := logsink.New(logsink.Options{Out: io.Discard, Level: zap.DebugLevel})
	h, err := furnish(cfg, log, out)
	if err != nil {
		t.Fatal(err)
	}
	if problems := h.open(); len(problems) > 0 {
		t.Fatal(problems)
	}
	broken := h.start(t.Context())
	return h, dir, func() {
		h.close()
		out.Close(time.Second)
		for _, end := range ends {
			end()
		}
		select {
		case err := <-broken:
			t.Errorf("a door failed: %v", err)
		default:
		}
	}
}

// nothingLeft fails the test if goroutines are left that were not there before.
// Questions to the DNS that are under way end by themselves.
func nothingLeft(t *testing.T, before goleak.Option) {
	t.Helper()
	err := goleak.Find(before)
	for end := time.Now().Add(patience); err != nil && time.Now().Before(end); {
		err = goleak.Find(before)
	}
	if err != nil {
		t.Error(err)
	}
}

func save(t *testing.T, dir, name, text string) {
	t.Helper()
	tmp := filepath.Join(dir, ".tmp~") // who watches the directory sees no half of it
	if err := os.WriteFile(tmp, []byte(text), 0o666); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, name)); err != nil {
		t.Fatal(err)
	}
}

// A house that was opened, reloaded under clients, drained and closed leaves
// nothing behind.
func TestHouseLeavesNothing(t *testing.T) {
	defer nothingLeft(t, goleak.IgnoreCurrent())
	h, dir, end := startHouse(t, houseConfig, refusing)
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for range 20 {
				refusedAtMail(t, filepath.Join(dir, "smtp.sock"))
			}
		})
	}
	for i := range 10 { // each other one changes the upstream, and so the hop
		text := strings.Replace(houseConfig, "soft_bounce = false", "soft_bounce = true", i%2)
		save(t, dir, "moongate.toml", strings.Replace(text, "up.sock", []string{"up.sock", "other.sock"}[i%2], 1))
		if o := h.reload(filepath.Join(dir, "moongate.toml"), i%3 == 0); !o.Taken {
			t.Errorf("refused: %q", o.Lines)
		}
	}
	clients.Wait()
	h.drain(context.Background(), nil)
	end()
}

// Doors whose files are removed again and again under clients: who is in goes on, and
// nothing is left of a door that was replaced.
func TestDoorsOpenAgain(t *testing.T) {
	defer nothingLeft(t, goleak.IgnoreCurrent())
	h, dir, end := startHouse(t, houseConfig, refusing)
	defer end()
	smtp, milter := filepath.Join(dir, "smtp.sock"), filepath.Join(dir, "milter.sock")
	first, err := net.Dial("unix", smtp)
	if err != nil {
		t.Fatal(err)
	}
	defer first.Close()
	for i := range 20 {
		if err := errors.Join(os.Link(smtp, fmt.Sprint(smtp, i)), os.Remove(smtp), os.Link(milter, fmt.Sprint(milter, i)), os.Remove(milter)); err != nil {
			t.Fatal(err)
		}
		if err := h.health(); err == nil || !strings.Contains(err.Error(), "listener[0].address: somebody has removed") {
			t.Errorf("health: %v", err)
		}
		var lookers sync.WaitGroup
		for range 3 { // a reload, and the clock
			lookers.Go(func() { h.reopen() })
		}
		lookers.Wait()
		if err := h.health(); err != nil {
			t.Error(err)
		}
		refusedAtMail(t, smtp)
	}
	for i := range 40 {
		for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) { // between two looks
			c, err := net.Dial("unix", fmt.Sprint([]string{smtp, milter}[i%2], i/2))
			if errors.Is(err, syscall.ECONNREFUSED) {
				break
			}
			if err == nil {
				c.Close()
			}
			if time.Now().After(end) {
				t.Fatalf("somebody answers at an old socket: %v", err)
			}
		}
	}
	first.SetDeadline(time.Now().Add(patience))
	io.WriteString(first, "EHLO client.example\r\nMAIL FROM:<ann@example.net>\r\n")
	r := bufio.NewReader(first)
	for _, code := range []string{"220", "250", "550"} {
		if line, err := readReply(r); err != nil || !strings.HasPrefix(line, code) {
			t.Fatalf("heard %q, %v", line, err)
		}
	}
}

// Many ask for a reload at once, beside SIGHUP: each is answered, and nobody is
// once the house is draining.
func TestReloadsTakeTurns(t *testing.T) {
	defer nothingLeft(t, goleak.IgnoreCurrent())
	h, dir, end := startHouse(t, houseConfig, `on.connect(function(conn) end)`)
	told := signals{make(chan os.Signal, 1), make(chan os.Signal, 2)}
	lived := make(chan error, 1)
	go func() { lived <- h.live(t.Context(), filepath.Join(dir, "moongate.toml"), told, nil) }()

	var askers sync.WaitGroup
	for i := range 8 {
		askers.Go(func() {
			if o, err := h.askReload(t.Context(), i%2 == 0); err != nil || !o.Taken {
				t.Errorf("asked: %q, %v", o.Lines, err)
			}
			select {
			case told.reload <- syscall.SIGHUP:
			default:
			}
		})
	}
	askers.Wait()
	save(t, dir, "10.lua", "on.conect()")
	if o, err := h.askReload(t.Context(), true); err != nil || o.Taken || len(o.Lines) != 1 || !strings.HasPrefix(o.Lines[0], filepath.Join(dir, "10.lua:1:")) {
		t.Errorf("a broken policy: %+v, %v", o, err)
	}

	c, err := net.Dial("unix", filepath.Join(dir, "smtp.sock")) // a transaction that keeps the house from ending
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	io.WriteString(c, "EHLO client.example\r\nMAIL FROM:<ann@example.net>\r\nRCPT TO:<bob@example.org>\r\n")
	r := bufio.NewReader(c)
	for _, code := range []string{"220", "250", "250", "250"} { // the greeting, and to each command
		if line, err := readReply(r); err != nil || !strings.HasPrefix(line, code) {
			t.Fatalf("heard %q, %v", line, err)
		}
	}
	told.end <- syscall.SIGTERM
	for end := time.Now().Add(patience); h.health() == nil && time.Now().Before(end); time.Sleep(time.Millisecond) { // between two looks
	}
	if _, err := h.askReload(t.Context(), false); err != errDraining {
		t.Errorf("while draining: %v", err)
	}
	c.Close()
	if err := <-lived; err != nil {
		t.Error(err)
	}
	end()
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
