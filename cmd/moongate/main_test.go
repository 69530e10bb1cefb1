package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"moongate": main})
}

// Whole-program tests: each file of testdata/script runs the binary as an
// operator would. Sockets are unix sockets in the test's own directory.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script",
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"code":     code,
			"dialogue": dialogue,
			"http":     httpGet,
			"await":    await,
			"ebb":      ebb,
			"feed":     feed,
			"files":    files,
			"flood":    flood,
			"head":     head,
			"replace":  replace,
			"save":     saveAs,
			"signal":   signalTo,
		},
		RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Values[floodsKey{}] = map[string][]net.Conn{}
			env.Setenv("TMPDIR", env.WorkDir)          // spools and Maildirs stay with the test
			env.Setenv("GORACE", "atexit_sleep_ms=20") // of a second, for each of a hundred processes
			return nil
		},
	})
}

// patience is how long a script waits for what it is promised. Nothing waits
// that long when all is well: a busy machine is no bug.
const patience = time.Minute

// dialogue SOCKET FILE talks SMTP: "C: line" is said, "S: prefix" must come
// (the last line of a reply is matched), "S: EOF" is the end, "S: CUT" is one
// that need not be kind, "! TERM word" signals the background command that was
// started with that word, "? file text" awaits a text in a file.
func dialogue(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: dialogue socket file")
	}
	conn, err := net.Dial("unix", ts.MkAbs(args[0]))
	ts.Check(err)
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(patience))
	r := bufio.NewReader(conn)
	var transcript strings.Builder
	for line := range strings.Lines(ts.ReadFile(args[1])) {
		line = strings.TrimRight(line, "\r\n")
		switch {
		case strings.HasPrefix(line, "C: "):
			fmt.Fprintln(&transcript, line)
			_, err := fmt.Fprintf(conn, "%s\r\n", line[3:])
			ts.Check(err)
		case strings.HasPrefix(line, "! "):
			signalTo(ts, false, strings.Fields(line[2:]))
		case strings.HasPrefix(line, "? "):
			await(ts, false, strings.Fields(line[2:]))
		case line == "S: EOF", line == "S: CUT":
			b, err := r.ReadByte()
			if line == "S: CUT" && errors.Is(err, syscall.ECONNRESET) { // it had not read all that we said
				continue
			}
			if err != io.EOF {
				ts.Fatalf("%swanted the end, got %q, %v", &transcript, b, err)
			}
		case strings.HasPrefix(line, "S: "):
			got, err := readReply(r)
			fmt.Fprintf(&transcript, "S: %s\n", got)
			if err != nil || !strings.HasPrefix(got, line[3:]) {
				ts.Fatalf("%swanted %q, got %q, %v", &transcript, line[3:], got, err)
			}
		}
	}
	ts.Logf("%s", &transcript)
}

// readReply reads a reply and returns its last line.
func readReply(r *bufio.Reader) (string, error) {
	for {
		line, err := r.ReadString('\n')
		line = strings.TrimRight(line, "\r\n")
		if err != nil || len(line) < 4 || line[3] != '-' {
			return line, err
		}
	}
}

// await SOCKET|FILE [TEXT [COUNT]] waits until somebody listens there, or until
// the file holds the text, so many times.
func await(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 1 {
		ts.Fatalf("usage: await socket, or await file text")
	}
	count := 1
	if len(args) == 3 {
		n, err := strconv.Atoi(args[2])
		ts.Check(err)
		count = n
	}
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if len(args) == 1 {
			if conn, err := net.Dial("unix", ts.MkAbs(args[0])); err == nil {
				conn.Close()
				return
			}
			continue
		}
		if data, err := os.ReadFile(ts.MkAbs(args[0])); err == nil && strings.Count(string(data), args[1]) >= count {
			return
		}
	}
	data, _ := os.ReadFile(ts.MkAbs(args[0]))
	ts.Fatalf("%q did not come within %s; there is:\n%s", args, patience, data)
}

// http SOCKET PATH STATUS TEXT asks the admin server until it answers so: what
// is counted may be counted behind the answer that told of it. With ! the text
// must be gone.
func httpGet(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 4 {
		ts.Fatalf("usage: http socket path status text")
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", ts.MkAbs(args[0]))
	}}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: patience}
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		resp, err := client.Get("http://moongate" + args[1])
		ts.Check(err)
		body, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		ts.Check(err)
		if strings.HasPrefix(resp.Status, args[2]) && strings.Contains(string(body), args[3]) != neg {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("%s: %s\n%s", args[1], resp.Status, body)
		}
	}
}

// head PIPE is the reader of a named pipe that reads a line and goes away.
func head(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: head pipe")
	}
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_RDONLY|syscall.O_NONBLOCK, 0)
	ts.Check(err)
	defer f.Close()
	end := time.Now().Add(patience)
	ts.Check(f.SetReadDeadline(end))
	r := bufio.NewReader(f)
	_, err = r.ReadString('\n')
	for err == io.EOF && time.Now().Before(end) { // nobody has opened it for writing yet
		time.Sleep(5 * time.Millisecond)
		_, err = r.ReadString('\n')
	}
	ts.Check(err)
}

// replace FILE OLD NEW edits a file as an editor would: a new file over the old one.
func replace(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 3 {
		ts.Fatalf("usage: replace file old new")
	}
	file := ts.MkAbs(args[0])
	text := ts.ReadFile(args[0])
	if !strings.Contains(text, args[1]) {
		ts.Fatalf("%s does not hold %q", args[0], args[1])
	}
	put(ts, file, strings.Replace(text, args[1], args[2], 1))
}

// save FILE PLACE puts the content of a file into the place of another, at once:
// who watches sees the one or the other, and nothing half written.
func saveAs(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: save file place")
	}
	put(ts, ts.MkAbs(args[1]), ts.ReadFile(args[0]))
}

func put(ts *testscript.TestScript, file, text string) {
	tmp := filepath.Join(filepath.Dir(file), ".tmp~")
	ts.Check(os.WriteFile(tmp, []byte(text), 0o666))
	ts.Check(os.Rename(tmp, file))
}

// feed PIPE FILE [NAME WORD] writes a file into a named pipe once somebody reads
// there; the signal, if there is one, goes out before the first byte.
func feed(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 && len(args) != 4 {
		ts.Fatalf("usage: feed pipe file [signal word]")
	}
	pipe := ts.MkAbs(args[0])
	f, err := os.OpenFile(pipe, os.O_WRONLY|syscall.O_NONBLOCK, 0)
	for end := time.Now().Add(patience); errors.Is(err, syscall.ENXIO) && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		f, err = os.OpenFile(pipe, os.O_WRONLY|syscall.O_NONBLOCK, 0)
	}
	ts.Check(err)
	defer f.Close()
	if len(args) == 4 {
		signalTo(ts, false, args[2:])
	}
	_, err = io.WriteString(f, ts.ReadFile(args[1]))
	ts.Check(err)
}

// code N COMMAND... runs a command that must end with that exit code.
func code(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: code number command...")
	}
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if strconv.Itoa(got) != args[0] {
		ts.Fatalf("exit code %d, want %s", got, args[0])
	}
}

// signal NAME WORD signals the background command that was started with WORD.
func signalTo(ts *testscript.TestScript, neg bool, args []string) {
	signals := map[string]os.Signal{"HUP": syscall.SIGHUP, "KILL": syscall.SIGKILL, "TERM": syscall.SIGTERM, "INT": os.Interrupt}
	if neg || len(args) != 2 || signals[args[0]] == nil {
		ts.Fatalf("usage: signal HUP|TERM|INT|KILL word")
	}
	for _, cmd := range ts.BackgroundCmds() {
		if strings.Contains(strings.Join(cmd.Args, " "), args[1]) {
			ts.Check(cmd.Process.Signal(signals[args[0]]))
			return
		}
	}
	ts.Fatalf("nothing runs with %q", args[1])
}
