package postfix

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// patience is how long anything of Postfix may take before the test is failed. It is generous, because
// a busy machine is no bug; nothing waits that long when all is well.
const patience = 60 * time.Second

// Postfix is a running instance.
type Postfix struct {
	Addr    string // of the SMTP listener, "127.0.0.1:port"
	Dir     string
	Inside  *Sink // deliveries to the local domain
	Outside *Sink // deliveries to anywhere else

	t       testing.TB
	opts    Options
	master  *exec.Cmd
	done    chan struct{} // closed when master has been waited for
	stopped bool
	cleaned bool
}

// Start runs an instance until the test ends. It returns when the listener takes connections.
func Start(t testing.TB, o Options) *Postfix {
	t.Helper()
	if why := Missing(); why != "" {
		t.Skip(why)
	}
	// Not t.TempDir: that one is closed to the user postfix.
	dir, err := os.MkdirTemp("", "postfix-")
	if err != nil {
		t.Fatal(err)
	}
	p := &Postfix{Dir: dir, t: t, opts: o}
	t.Cleanup(p.cleanup)
	if p.Inside, err = newSink(); err == nil {
		p.Outside, err = newSink()
	}
	if err != nil {
		t.Fatal(err)
	}
	// A port that was free a moment ago may be taken when master binds it; then another.
	for try := 1; ; try++ {
		p.Addr = o.Addr
		if p.Addr == "" {
			p.Addr = FreeAddr(t)
		}
		if err := o.write(dir, p.Addr, p.Inside.l.Addr(), p.Outside.l.Addr()); err != nil {
			t.Fatalf("set up Postfix: %v", err)
		}
		err := p.run()
		if err == nil {
			return p
		}
		p.Stop() // one that runs and does not greet must not stay
		if try == 8 || o.Addr != "" && try == 3 {
			t.Fatalf("start Postfix: %v\n%s", err, p.Log())
		}
		time.Sleep(time.Duration(try) * 100 * time.Millisecond) // whoever is in the way may go
	}
}

// run starts master and waits for the listener.
func (p *Postfix) run() error {
	p.master = exec.Command(daemons+"/master", "-c", p.Dir+"/etc", "-e", "3600") // it ends by itself, too
	p.master.Dir = p.Dir
	p.master.Env = []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LANG=C", "MAIL_CONFIG=" + p.Dir + "/etc"}
	// A session of its own, so that Stop reaches every process of it; and it goes with a test that is
	// killed before it could clean up.
	p.master.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGTERM}
	var out strings.Builder
	p.master.Stdout, p.master.Stderr = &out, &out
	p.master.WaitDelay = time.Second
	if err := p.master.Start(); err != nil {
		return err
	}
	p.done, p.stopped = make(chan struct{}), false
	go func() { p.master.Wait(); close(p.done) }()
	deadline := time.Now().Add(patience)
	for {
		select {
		case <-p.done:
			p.stopped = true
			return fmt.Errorf("master ended: %v %s", p.master.ProcessState, out.String())
		default:
		}
		err := p.greeted()
		if err == nil {
			return nil
		}
		if time.Now().After(deadline) {
			return err
		}
		time.Sleep(5 * time.Millisecond) // between two looks at whether the port is open
	}
}

// greeted connects and reads the greeting: master listens before smtpd can answer. A listener that
// waits for a PROXY header greets nobody before it.
func (p *Postfix) greeted() error {
	c, err := net.DialTimeout("tcp", p.Addr, time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(patience))
	if p.opts.Proxy {
		fmt.Fprint(c, "PROXY UNKNOWN\r\n")
	}
	_, err = bufio.NewReader(c).ReadString('\n')
	fmt.Fprint(c, "QUIT\r\n")
	return err
}

// Stop ends the mail system with all its processes and open sessions, as a crash of the machine would.
// Restart brings it back on the same port with the same queue.
func (p *Postfix) Stop() {
	if p.master == nil || p.stopped {
		return
	}
	p.stopped = true
	// master passes SIGTERM on to its process group.
	syscall.Kill(-p.master.Process.Pid, syscall.SIGTERM)
	select {
	case <-p.done:
	case <-time.After(patience):
	}
	syscall.Kill(-p.master.Process.Pid, syscall.SIGKILL)
	<-p.done
	// The daemons share the listening socket; it is closed when the last of them is gone.
	poll(func() bool {
		c, err := net.DialTimeout("tcp", p.Addr, time.Second)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
}

// Restart starts a stopped instance again.
func (p *Postfix) Restart() {
	p.t.Helper()
	p.Stop()
	if err := p.run(); err != nil {
		p.t.Fatalf("restart Postfix: %v\n%s", err, p.Log())
	}
}

// cleanup runs when the test has ended; after a failure it shows what Postfix had to say.
func (p *Postfix) cleanup() {
	if p.cleaned {
		return
	}
	p.cleaned = true
	p.Stop()
	if p.t.Failed() {
		log := p.Log()
		if len(log) > 20000 {
			log = "[...]" + log[len(log)-20000:]
		}
		p.t.Logf("Postfix's log:\n%s", log)
	}
	for _, s := range []*Sink{p.Inside, p.Outside} {
		if s != nil {
			s.close()
		}
	}
	os.RemoveAll(p.Dir)
}

// Log returns the mail log so far.
func (p *Postfix) Log() string {
	b, _ := os.ReadFile(p.Dir + "/log/maillog")
	return string(b)
}

// WaitLog waits until a line of the log matches the pattern and returns its submatches; it fails the
// test if none comes.
func (p *Postfix) WaitLog(pattern string) []string {
	p.t.Helper()
	re := regexp.MustCompile("(?m)" + pattern)
	var m []string
	if !poll(func() bool { m = re.FindStringSubmatch(p.Log()); return m != nil }) {
		p.t.Fatalf("no line of Postfix's log matches %s", pattern)
	}
	return m
}

// Messages waits until n messages were delivered to the local domain and the queue is empty, so that
// a message too many is seen, and returns all that were delivered. It fails the test if there are fewer.
func (p *Postfix) Messages(n int) []Message {
	p.t.Helper()
	if !p.Inside.wait(n, time.Now().Add(patience)) {
		p.t.Fatalf("Postfix delivered %d messages, want %d", len(p.Inside.Messages()), n)
	}
	p.Settle()
	return p.Inside.Messages()
}

// Settle waits until the queue is empty: all that Postfix ever accepted is in the sinks, and no session
// is in the middle of a message.
func (p *Postfix) Settle() {
	p.t.Helper()
	if !poll(func() bool { return len(p.queued()) == 0 }) {
		p.t.Fatalf("Postfix's queue does not become empty: %v", p.queued())
	}
}

// queued lists the files of the queue. A file moves from one directory to the next by rename, in the
// order in which they are read here, so that one on the way is not missed.
func (p *Postfix) queued() []string {
	var names []string
	for _, q := range []string{"maildrop", "incoming", "active", "deferred"} {
		filepath.WalkDir(p.Dir+"/queue/"+q, func(path string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				names = append(names, path)
			}
			return nil
		})
	}
	return names
}

// poll asks until the answer is yes, and says whether it came in time.
func poll(yes func() bool) bool {
	for deadline := time.Now().Add(patience); ; {
		if yes() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
		time.Sleep(5 * time.Millisecond) // between two looks at a file; there is no event to wait for
	}
}
