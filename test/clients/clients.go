// Package clients runs real mail clients, each as its users would: swaks, curl and Python's smtplib.
package clients

import (
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Message is what a client is to send.
type Message struct {
	From  string // envelope, without brackets
	Rcpts []string
	Data  []byte // with CRLF line ends, not stuffed
}

// Result is how it ended.
type Result struct {
	Code   int    // the exit code
	Output string // all that the client printed, the conversation included
}

// Client is a program that sends a message to addr. Send skips the test where the program is not
// installed.
type Client struct {
	Name string
	Send func(t testing.TB, addr string, m Message) Result
}

// All are the clients there are.
var All = []Client{
	{"swaks", Swaks},
	{"curl", Curl},
	{"smtplib", Smtplib},
}

const limit = 3 * time.Minute

// run runs a program on a message file in a fresh directory.
func run(t testing.TB, name string, m Message, args func(file string) []string) Result {
	t.Helper()
	exe, err := exec.LookPath(name)
	if err != nil {
		t.Skipf("no %s: not installed", name)
	}
	file := filepath.Join(t.TempDir(), "message")
	if err := os.WriteFile(file, m.Data, 0o644); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	cmd := exec.CommandContext(ctx, exe, args(file)...)
	cmd.WaitDelay = time.Second
	out, err := cmd.CombinedOutput()
	if ctx.Err() != nil {
		t.Fatalf("%s hangs; it said:\n%s", name, out)
	}
	if cmd.ProcessState == nil {
		t.Fatalf("%s: %v", name, err)
	}
	return Result{cmd.ProcessState.ExitCode(), string(out)}
}

// Swaks sends with swaks. It wants LF for line ends and adds the last one itself, so a message with
// stray line ends is not for it.
func Swaks(t testing.TB, addr string, m Message) Result {
	host, port, _ := net.SplitHostPort(addr)
	m.Data = []byte(strings.ReplaceAll(strings.TrimSuffix(string(m.Data), "\r\n"), "\r\n", "\n"))
	return run(t, "swaks", m, func(file string) []string {
		return []string{"--server", host, "--port", port, "--helo", "swaks.example.com",
			"--from", m.From, "--to", strings.Join(m.Rcpts, ","), "--data", "@" + file,
			"--timeout", "150"}
	})
}

// Curl sends with curl's smtp:// support.
func Curl(t testing.TB, addr string, m Message) Result {
	return run(t, "curl", m, func(file string) []string {
		args := []string{"--silent", "--show-error", "--verbose", "--max-time", "150", "--noproxy", "*",
			"--url", "smtp://" + addr + "/curl.example.com", "--mail-from", m.From, "--upload-file", file}
		for _, r := range m.Rcpts {
			args = append(args, "--mail-rcpt", r)
		}
		return args
	})
}

const smtplib = `
import smtplib, sys
host, port, file, sender, *rcpts = sys.argv[1:]
with open(file, "rb") as f:
    data = f.read()
c = smtplib.SMTP(host, int(port), local_hostname="python.example.com", timeout=150)
c.set_debuglevel(1)
try:
    refused = c.sendmail(sender, rcpts, data)
    if refused:
        print("REFUSED", refused, file=sys.stderr)
finally:
    c.quit()
`

// Smtplib sends with the module of Python's standard library that most programs in Python send mail
// with.
func Smtplib(t testing.TB, addr string, m Message) Result {
	host, port, _ := net.SplitHostPort(addr)
	return run(t, "python3", m, func(file string) []string {
		return append([]string{"-c", smtplib, host, port, file, m.From}, m.Rcpts...)
	})
}
