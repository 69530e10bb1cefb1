package main

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestNotify(t *testing.T) {
	name := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	t.Setenv("NOTIFY_SOCKET", name)
	notify("READY=1")
	b := make([]byte, 100)
	c.SetReadDeadline(time.Now().Add(patience))
	if n, err := c.Read(b); err != nil || string(b[:n]) != "READY=1" {
		t.Errorf("got %q, %v", b[:n], err)
	}
	t.Setenv("NOTIFY_SOCKET", filepath.Join(t.TempDir(), "nobody"))
	notify("READY=1") // must not fail, nor wait
}

// A systemd that wants to hear that we live does, until we do not any more.
func TestWatchdog(t *testing.T) {
	name := filepath.Join(t.TempDir(), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: name, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if watchdog() != nil {
		t.Error("nobody asked")
	}
	t.Setenv("NOTIFY_SOCKET", name)
	t.Setenv("WATCHDOG_USEC", "20000")
	t.Setenv("WATCHDOG_PID", "1")
	if watchdog() != nil {
		t.Error("another process was asked")
	}
	t.Setenv("WATCHDOG_PID", strconv.Itoa(os.Getpid()))
	h, dir, end := startHouse(t, houseConfig, refusing)
	told := signals{make(chan os.Signal, 1), make(chan os.Signal, 2)}
	lived := make(chan error, 1)
	go func() { lived <- h.live(t.Context(), filepath.Join(dir, "moongate.toml"), told, nil) }()
	b := make([]byte, 100)
	c.SetReadDeadline(time.Now().Add(patience))
	for range 3 {
		if n, err := c.Read(b); err != nil || string(b[:n]) != "WATCHDOG=1" {
			t.Errorf("got %q, %v", b[:n], err)
		}
	}
	told.end <- syscall.SIGTERM
	if err := <-lived; err != nil {
		t.Error(err)
	}
	end()
}

// The shipped unit is one that systemd takes.
func TestUnitFile(t *testing.T) {
	analyze, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Skip("systemd-analyze is not installed")
	}
	out, err := exec.Command(analyze, "verify", "--man=no", "../../configs/systemd/moongate.service").CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "moongate.service") && !strings.Contains(line, "is not executable") { // it is not installed here
			t.Errorf("%s", line)
		}
	}
	t.Log(string(out), err)
}
