// Package moongate runs the real program for a test: the built binary as a child process, with its
// files in a temporary directory and its ports chosen by the system.
package moongate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// patience is how long anything may take before a test is failed for it.
const patience = 60 * time.Second

// Options say how to run it.
type Options struct {
	// Config is moongate.toml; "{upstream}" and "{dir}" are replaced. Default is used if it is empty.
	// Without a file in scripts/ the key policy.scripts gives way to policy.allow_empty.
	Config string
	// Upstream is the address that takes {upstream}'s place.
	Upstream string
	// Files are written beside the configuration before the start: "scripts/10-policy.lua".
	Files map[string]string
	// Plain runs a binary without the race detector, for a test of memory or speed.
	Plain bool
	// Env is added to the environment.
	Env []string
}

// Default is a loopback door with an upstream that knows no client.
const Default = `hostname = "mx.example.org"
domains = ["example.org"]
received = "never"   # so that octets can be compared

[[listener]]
address = "127.0.0.1:0"

[upstream]
address = "{upstream}"

[policy]
scripts = "scripts"

[admin]
address = "127.0.0.1:0"
`

// Process is a running moongate.
type Process struct {
	Addr  string // of the first SMTP listener
	Dir   string // of the configuration
	Admin string // of the [admin] listener, "" if there is none
	Addrs []string

	t    testing.TB
	cmd  *exec.Cmd
	done chan struct{}

	mu    sync.Mutex // guards what follows
	raw   []byte     // standard error, as it came
	lines []Line
	more  chan struct{} // closed and replaced with every line
}

// Line is one line of the log.
type Line map[string]any

func (l Line) String() string { b, _ := json.Marshal(map[string]any(l)); return string(b) }

// Start runs `moongate serve` until the test ends and returns when it serves. It fails the test if it
// does not come up.
func Start(t testing.TB, o Options) *Process {
	t.Helper()
	dir := Write(t, o)
	p := &Process{Dir: dir, t: t, done: make(chan struct{}), more: make(chan struct{})}
	p.cmd = exec.Command(Binary(t, !o.Plain), "serve", "-c", filepath.Join(dir, "moongate.toml"))
	p.cmd.Dir = dir
	p.cmd.Env = append(os.Environ(), o.Env...)
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} // it must not outlive the tests
	stderr, w := io.Pipe()
	p.cmd.Stderr = w
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var copied sync.WaitGroup
	copied.Go(func() { p.read(stderr) })
	go func() {
		p.cmd.Wait()
		w.Close()
		copied.Wait()
		close(p.done)
	}()
	t.Cleanup(p.cleanup)
	started := p.WaitLog("started", nil)
	addrs, _ := started["listeners"].([]any)
	for _, a := range addrs {
		s, _ := a.(string)
		p.Addrs = append(p.Addrs, strings.TrimPrefix(s, "tcp:"))
	}
	if len(p.Addrs) == 0 {
		t.Fatalf("no listener in %s", started)
	}
	p.Addr = p.Addrs[0]
	if strings.Contains(o.config(), "[admin]\naddress") {
		p.Admin = p.Addrs[len(p.Addrs)-1]
	}
	return p
}

func (o Options) config() string {
	c := o.Config
	if c == "" {
		c = Default
	}
	if !o.hasPolicy() { // no rules are never taken by accident
		c = strings.Replace(c, `scripts = "scripts"`, "allow_empty = true", 1)
	}
	return c
}

func (o Options) hasPolicy() bool {
	for name := range o.Files {
		if strings.HasPrefix(name, "scripts/") {
			return true
		}
	}
	return false
}

// Write puts the configuration and the files into a new directory and returns it.
func Write(t testing.TB, o Options) string {
	t.Helper()
	dir := t.TempDir()
	fill := strings.NewReplacer("{upstream}", o.Upstream, "{dir}", dir)
	files := map[string]string{"moongate.toml": fill.Replace(o.config())}
	for name, text := range o.Files {
		files[name] = fill.Replace(text)
	}
	if err := os.MkdirAll(filepath.Join(dir, "scripts"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// Run runs a subcommand to its end and returns its exit code and all that it printed.
func Run(t testing.TB, dir string, args ...string) (code int, out string) {
	t.Helper()
	cmd := exec.Command(Binary(t, true), args...)
	cmd.Dir = dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var b bytes.Buffer
	cmd.Stdout, cmd.Stderr = &b, &b
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
	defer timer.Stop()
	cmd.Wait()
	return cmd.ProcessState.ExitCode(), b.String()
}

// read takes the log apart while it comes. What is no JSON object (a panic, a configuration error) is
// kept in the raw text alone.
func (p *Process) read(r io.Reader) {
	var rest []byte
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		p.mu.Lock()
		p.raw = append(p.raw, buf[:n]...)
		rest = append(rest, buf[:n]...)
		for {
			i := bytes.IndexByte(rest, '\n')
			if i < 0 {
				break
			}
			var l Line
			if json.Unmarshal(rest[:i], &l) == nil && l != nil {
				p.lines = append(p.lines, l)
			}
			rest = rest[i+1:]
		}
		close(p.more)
		p.more = make(chan struct{})
		p.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// Log returns the lines with that message so far; all lines if msg is empty.
func (p *Process) Log(msg string) []Line {
	p.mu.Lock()
	defer p.mu.Unlock()
	var found []Line
	for _, l := range p.lines {
		if msg == "" || l["msg"] == msg {
			found = append(found, l)
		}
	}
	return found
}

// Stderr returns the log as it came.
func (p *Process) Stderr() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return string(p.raw)
}

// WaitLog waits for a line with that message (any, if it is empty) for which ok says yes, and returns
// it. It fails the test if the process ends before, or if none comes in a minute.
func (p *Process) WaitLog(msg string, ok func(Line) bool) Line {
	p.t.Helper()
	l, err := p.Await(patience, msg, ok)
	if err != nil {
		p.t.Fatal(err)
	}
	return l
}

// Await is WaitLog with a limit of the caller's, and an error instead of a failed test.
func (p *Process) Await(limit time.Duration, msg string, ok func(Line) bool) (Line, error) {
	timer := time.NewTimer(limit)
	defer timer.Stop()
	for ended := false; ; {
		p.mu.Lock()
		more := p.more
		p.mu.Unlock()
		for _, l := range p.Log(msg) {
			if ok == nil || ok(l) {
				return l, nil
			}
		}
		if ended {
			return nil, fmt.Errorf("moongate ended (%v) without the line %q:\n%s", p.cmd.ProcessState, msg, p.Stderr())
		}
		select {
		case <-more:
		case <-p.done:
			ended = true
		case <-timer.C:
			return nil, fmt.Errorf("no line %q that fits in %v; the log:\n%s", msg, limit, tail(p.Stderr()))
		}
	}
}

// Signal sends a signal.
func (p *Process) Signal(s syscall.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// Wait waits until the process has ended and returns its exit code.
func (p *Process) Wait() int {
	p.t.Helper()
	select {
	case <-p.done:
		return p.cmd.ProcessState.ExitCode()
	case <-time.After(patience):
		p.t.Fatalf("moongate does not end:\n%s", tail(p.Stderr()))
		return -1
	}
}

// Alive says whether the process still runs.
func (p *Process) Alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Pid is the process id, for /proc.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Dial connects to the first listener; the connection is closed when the test ends.
func (p *Process) Dial() net.Conn {
	p.t.Helper()
	c, err := net.DialTimeout("tcp", p.Addr, patience)
	if err != nil {
		p.t.Fatal(err)
	}
	p.t.Cleanup(func() { c.Close() })
	return c
}

// cleanup ends the process. A race, a panic or a leak of the program fails the test, whatever the test
// itself has seen.
func (p *Process) cleanup() {
	if p.Alive() {
		p.cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-p.done:
		case <-time.After(2 * time.Second):
			p.cmd.Process.Signal(syscall.SIGTERM) // sessions that a test left open are not waited for
			select {
			case <-p.done:
			case <-time.After(patience):
				p.t.Error("moongate does not end on SIGTERM")
				p.cmd.Process.Signal(syscall.SIGQUIT) // shows its goroutines
				<-p.done
			}
		}
	}
	for _, bad := range []string{"WARNING: DATA RACE", "panic: ", "fatal error: "} {
		if strings.Contains(p.Stderr(), bad) {
			p.t.Errorf("moongate said %q", bad)
		}
	}
	for _, l := range p.Log("") {
		if _, panicked := l["stack"]; panicked {
			p.t.Errorf("a handler panicked: %s", l)
		}
	}
	if p.t.Failed() {
		p.t.Logf("moongate's log:\n%s", tail(p.Stderr()))
	}
}

// tail is the end of a long log.
func tail(s string) string {
	const most = 20000
	if len(s) > most {
		return "[...]" + s[len(s)-most:]
	}
	return s
}

var builds [2]struct {
	sync.Once
	path string
	err  error
}

// Binary returns the path of the program, built once for each test process; a test binary that runs
// itself again, in another network say, hands its build down by environment.
func Binary(t testing.TB, race bool) string {
	t.Helper()
	i := 0
	if race && raceEnabled {
		i = 1
	}
	b := &builds[i]
	b.Do(func() {
		// A process with the race detector sleeps for a second before it exits, lest it miss a race at the very
		// end. Tests start hundreds.
		if raceEnabled && os.Getenv("GORACE") == "" {
			os.Setenv("GORACE", "atexit_sleep_ms=20")
		}
		env := []string{"MOONGATE_TEST_BINARY", "MOONGATE_TEST_BINARY_RACE"}[i]
		if b.path = os.Getenv(env); b.path != "" {
			return
		}
		dir, err := os.MkdirTemp("", "moongate-")
		if err != nil {
			b.err = err
			return
		}
		onExit = append(onExit, func() { os.RemoveAll(dir) })
		b.path = filepath.Join(dir, "moongate")
		args := []string{"build", "-o", b.path}
		if i == 1 {
			args = append(args, "-race")
		}
		out, err := exec.Command("go", append(args, "github.com/moongate/moongate/cmd/moongate")...).CombinedOutput()
		if err != nil {
			b.err = fmt.Errorf("build moongate: %v\n%s", err, out)
			return
		}
		os.Setenv(env, b.path)
	})
	if b.err != nil {
		t.Fatal(b.err)
	}
	return b.path
}

var onExit []func()

// Main runs a package's tests and removes the binary afterwards: func TestMain(m) { moongate.Main(m) }.
func Main(m *testing.M) {
	code := m.Run()
	for _, f := range onExit {
		f()
	}
	os.Exit(code)
}

// What the log says when a policy has been read again: it is live (a new one, or the one that served all
// along, after a broken one was taken back), or it was refused and the old one stays.
var (
	PolicyLive    = []string{"policy loaded", "policy as it serves"}
	PolicyRefused = []string{"policy refused"}
)

// Count says how many lines with one of these messages the log has.
func (p *Process) Count(msgs []string) int {
	n := 0
	for _, m := range msgs {
		n += len(p.Log(m))
	}
	return n
}
