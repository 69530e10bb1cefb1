package proxy

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/moongate/moongate/internal/socket"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/message"
)

func TestMain(m *testing.M) {
	code := m.Run()
	if code == 0 {
		if err := leaks(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// leaks tells which goroutines are left. What ends by itself is given time to:
// how much it takes is up to the machine.
func leaks(opts ...goleak.Option) error {
	for end := time.Now().Add(patience); ; {
		err := goleak.Find(opts...)
		if err == nil || time.Now().After(end) {
			return err
		}
	}
}

// patience is how long a test waits for what must come.
const patience = 30 * time.Second

// TestDialogues plays testdata/*.smtp: each file holds conversations, separated
// by lines that begin with "== ". Both sides of the proxy stand in one script,
// so that the order of things is a part of what is tested:
//
//	-> LINE   the client sends LINE CRLF (\r \n \t \\ \xNN; a final \ means no CRLF)
//	<- LINE   the client hears LINE; ... at the end stands for the rest
//	>> LINE   the upstream hears LINE
//	<< LINE   the upstream says LINE
//	>> CONNECT   the upstream is dialled: greeting and EHLO
//	>> DIAL      the same, with nothing said yet
//	>> CLOSED, <- CLOSED   that side's connection was closed by the proxy
//	<< CLOSE, -> CLOSE, -> HALFCLOSE   that side closes its connection, and the proxy's kernel knows
//	-> RESET     the client resets its connection; !! LOST waits for the proxy's kernel to know
//	!! SWEEP     waits until the sweeper knows that the client is gone
//	!! SHUTDOWN  the server begins to shut down
//	== END WORD REPLY   a transaction ended so, with this reply
//	rule HOOK /REGEXP/ ACTION ARGS   a rule of the policy
//	set KEY VALUE   of the server
func TestDialogues(t *testing.T) {
	files, err := filepath.Glob("testdata/*.smtp")
	if err != nil || len(files) == 0 {
		t.Fatal("no dialogues: ", err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, part := range regexp.MustCompile(`(?m)^=== `).Split(string(text), -1)[1:] {
			name, script, _ := strings.Cut(part, "\n")
			t.Run(filepath.Base(file)+"/"+name, func(t *testing.T) {
				t.Parallel()
				play(t, script)
			})
		}
	}
}

// stage is what a dialogue is played on.
type stage struct {
	t        *testing.T
	srv      *Server
	set      Settings
	facts    policy.Facts
	rules    []*policy.Rule
	ends     chan *policy.Outcome
	lastTx   chan *policy.Transaction
	listener net.Listener // the upstream's
	caps     *Caps        // of its EHLO reply
	unix     bool         // the client has no address

	client net.Conn
	cr     *bufio.Reader
	ours   net.Conn // the proxy's end of it
	up     net.Conn
	ur     *bufio.Reader
	done   chan struct{}
	log    bytes.Buffer
}

func play(t *testing.T, script string) {
	st := newStage(t)
	for i, line := range strings.Split(script, "\n") {
		if line == "" || line[0] == '#' {
			continue
		}
		fmt.Fprintf(&st.log, "%s\n", line)
		if err := st.step(line); err != nil {
			t.Fatalf("line %d: %s\n%v\n--- so far:\n%s", i+1, line, err, st.log.String())
		}
	}
	st.finish()
}

func newStage(t *testing.T) *stage {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	st := &stage{t: t, listener: l, ends: make(chan *policy.Outcome, 16), lastTx: make(chan *policy.Transaction, 16)}
	hop := &Hop{Address: l.Addr().String(), Hostname: "gate.example", Wait: patience}
	st.caps = NewCaps(defaultCaps...)
	hop.learn(st.caps)
	st.set = Settings{
		Hostname: "gate.example",
		Hop:      hop,
		Received: "never",
		Domains:  []string{"example.org"},
		Spool:    &message.Pool{Dir: t.TempDir(), MaxMemory: 1 << 10},
	}
	st.set.Env = &policy.Env{
		Engine: policy.EngineFunc(func(*policy.Facts) *policy.Rules { return policy.NewRules("test", st.rules...) }),
		Face:   policy.SMTP, Log: zap.NewNop(), Recorder: st, Keeper: keeper{},
	}
	t.Cleanup(func() { st.close() })
	return st
}

var defaultCaps = []string{"PIPELINING", "SIZE 10240000", "8BITMIME", "DSN", "SMTPUTF8", "ENHANCEDSTATUSCODES"}

func (st *stage) Record(tx *policy.Transaction, o *policy.Outcome) { st.lastTx <- tx; st.ends <- o }

// keeper keeps nothing, and says so with an id.
type keeper struct{}

func (keeper) Keep(_ context.Context, tx *policy.Transaction, _ policy.Verdict) (string, error) {
	if tx.Message == nil || tx.Message.Body == nil {
		return "", fmt.Errorf("there is no message to keep")
	}
	if n, _ := tx.Message.Size(); n == 666 {
		return "", fmt.Errorf("disk full")
	}
	return "q1", nil
}

// start begins the session, at the first step that needs it.
func (st *stage) start() {
	if st.srv != nil {
		return
	}
	st.srv = &Server{Settings: st.set, Log: zap.NewNop()}
	ours, theirs := tcpPair(st.t)
	st.client, st.cr, st.ours = theirs, bufio.NewReader(theirs), ours
	st.done = make(chan struct{})
	if !st.facts.Remote.IsValid() && !st.unix {
		st.facts.Remote = netip.MustParseAddrPort("127.0.0.1:40000")
	}
	st.facts.ID = "S1"
	go func() {
		defer close(st.done)
		st.srv.ServeConn(ours, st.facts)
	}()
}

func (st *stage) step(line string) error {
	mark, rest, _ := strings.Cut(line, " ")
	switch mark {
	case "rule":
		r, err := parseTestRule(rest)
		st.rules = append(st.rules, r)
		return err
	case "set":
		return st.setting(rest)
	}
	st.start()
	switch mark {
	case "->":
		return st.send(st.client, rest)
	case "<-":
		return expect(st.client, st.cr, rest)
	case ">>":
		switch rest {
		case "CONNECT":
			return st.dialled(true)
		case "DIAL":
			return st.dialled(false)
		}
		return expect(st.up, st.ur, rest)
	case "<<":
		return st.send(st.up, rest)
	case "==":
		return st.ended(rest)
	case "!!":
		return st.act(rest)
	}
	return fmt.Errorf("unknown step")
}

// act does something to the server.
func (st *stage) act(what string) error {
	switch what {
	case "SHUTDOWN":
		go st.srv.Shutdown(context.Background())
		for !st.srv.isClosing() {
			time.Sleep(time.Millisecond)
		}
		return nil
	case "SWEEP":
		return eventually(func() bool {
			st.srv.mu.Lock()
			defer st.srv.mu.Unlock()
			for s := range st.srv.sessions {
				if s.watch.gone.Load() {
					return true
				}
			}
			return false
		})
	case "LOST":
		peer := socket.PeerOf(st.ours)
		return eventually(func() bool {
			seen, _ := peer.Look()
			return seen&socket.Lost != 0
		})
	}
	return fmt.Errorf("unknown act")
}

// eventually asks until the answer is yes.
func eventually(yes func() bool) error {
	for end := time.Now().Add(patience); !yes(); time.Sleep(time.Millisecond) { // between two looks
		if time.Now().After(end) {
			return fmt.Errorf("it does not come to that")
		}
	}
	return nil
}

func (st *stage) setting(s string) error {
	key, value, _ := strings.Cut(s, " ")
	n, _ := strconv.Atoi(value)
	switch key {
	case "remote":
		st.facts.Remote = netip.MustParseAddrPort(value + ":40000")
	case "unix":
		st.unix = true
	case "xforward":
		st.set.XForward = []netip.Prefix{netip.MustParsePrefix(value)}
	case "networks":
		st.set.Networks = []netip.Prefix{netip.MustParsePrefix(value)}
	case "budget":
		d, err := time.ParseDuration(value)
		st.set.Budget = d
		return err
	case "hold_mail":
		st.set.HoldMail = true
	case "received":
		st.set.Received = value
	case "reject_bare":
		st.set.RejectBare = true
	case "size":
		st.set.Limits.Size = int64(n)
	case "recipients":
		st.set.Limits.Recipients = n
	case "errors":
		st.set.Limits.Errors = n
	case "junk":
		st.set.Limits.Junk = n
	case "header":
		st.set.Limits.Header = n
	case "line":
		st.set.Limits.Line = n
	case "spool":
		st.set.Spool.MaxBytes = int64(n)
	case "footer":
		st.set.Env.Footer = value
	case "soft_bounce":
		st.set.Env.SoftBounce = true
	case "caps":
		st.caps = NewCaps(strings.Split(value, "|")...)
		st.set.Hop.learn(st.caps)
	case "upstream": // what it will say, not what was seen of it
		st.caps = NewCaps(strings.Split(value, "|")...)
	case "unseen":
		st.set.Hop.caps.Store(nil)
	case "identity":
		st.set.Hop.Identity = map[string]Identity{"xclient": IdentityXClient, "xforward": IdentityXForward}[value]
	case "idle":
		d, err := time.ParseDuration(value)
		st.set.Timeouts.Idle = d
		return err
	case "slow":
		d, err := time.ParseDuration(value)
		st.set.Timeouts.Body = d
		return err
	case "silence":
		d, err := time.ParseDuration(value)
		st.set.Timeouts.Data = d
		return err
	default:
		return fmt.Errorf("unknown setting")
	}
	return nil
}

func (st *stage) dialled(greet bool) error {
	st.listener.(*net.TCPListener).SetDeadline(time.Now().Add(patience))
	c, err := st.listener.Accept()
	if err != nil {
		return err
	}
	if st.up != nil {
		st.up.Close()
	}
	st.up, st.ur = c, bufio.NewReader(c)
	st.t.Cleanup(func() { c.Close() })
	if greet {
		return st.greeted()
	}
	return nil
}

// greeted is the honest opening of an upstream.
func (st *stage) greeted() error {
	c := st.up
	fmt.Fprintf(c, "220 up.example ESMTP\r\n")
	if err := expect(c, st.ur, "EHLO gate.example"); err != nil {
		return err
	}
	lines := append([]string{"up.example"}, st.caps.Lines()...)
	for i, l := range lines {
		sep := "-"
		if i == len(lines)-1 {
			sep = " "
		}
		fmt.Fprintf(c, "250%s%s\r\n", sep, l)
	}
	return nil
}

func (st *stage) send(c net.Conn, text string) error {
	if c == nil {
		return fmt.Errorf("not connected")
	}
	switch text {
	case "CLOSE":
		closeWrite(c) // fails if the other side has closed already
		return c.Close()
	case "RESET":
		c.(*net.TCPConn).SetLinger(0)
		return c.Close()
	case "HALFCLOSE":
		return closeWrite(c)
	}
	raw, open := strings.CutSuffix(text, `\`)
	s, err := strconv.Unquote(`"` + strings.ReplaceAll(raw, `"`, `\"`) + `"`)
	if err != nil {
		return err
	}
	if !open {
		s += "\r\n"
	}
	c.SetWriteDeadline(time.Now().Add(patience))
	_, err = io.WriteString(c, s)
	return err
}

// finWait1 is the state of a socket whose end the other side has not acknowledged.
const finWait1 = unix.BPF_TCP_FIN_WAIT1

// closeWrite closes the write side and returns when the other side's kernel has
// that and all that was said before: it may take its time, and what comes over
// another connection does not wait for it.
func closeWrite(c net.Conn) error {
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return err
	}
	raw, err := c.(*net.TCPConn).SyscallConn()
	if err != nil {
		return err
	}
	return eventually(func() (known bool) {
		raw.Control(func(fd uintptr) {
			info, err := unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
			known = err != nil || info.State != finWait1
		})
		return known
	})
}

func expect(c net.Conn, r *bufio.Reader, want string) error {
	if c == nil {
		return fmt.Errorf("not connected")
	}
	c.SetReadDeadline(time.Now().Add(patience))
	got, err := r.ReadString('\n')
	if want == "CLOSED" {
		if err == nil || os.IsTimeout(err) || got != "" {
			return fmt.Errorf("got %q, %v", got, err)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("%q, then %w", got, err)
	}
	got = strings.TrimSuffix(got, "\r\n")
	if q := strconv.QuoteToASCII(got); strings.Contains(q, `\x`) || strings.Contains(q, `\r`) || strings.Contains(q, `\n`) {
		got = q[1 : len(q)-1]
	}
	if start, ok := strings.CutSuffix(want, "..."); ok && strings.HasPrefix(got, start) || got == want {
		return nil
	}
	return fmt.Errorf("got  %q\nwant %q", got, want)
}

func (st *stage) ended(want string) error {
	select {
	case o := <-st.ends:
		<-st.lastTx
		got := fmt.Sprintf("END %s by %s %s", o.Word(), o.By, o.Reply.String())
		if o.QueuedAs != "" {
			got += " queued_as " + o.QueuedAs
		}
		if o.Cause != "" {
			got += " cause " + o.Cause
		}
		if o.Ambiguous {
			got += " ambiguous"
		}
		if start, ok := strings.CutSuffix(want, "..."); ok && strings.HasPrefix(got, start) || got == want {
			return nil
		}
		return fmt.Errorf("got  %q\nwant %q", got, want)
	case <-time.After(patience):
		return fmt.Errorf("no transaction ended")
	}
}

// finish sees that the session ends with its client and leaves nothing behind.
func (st *stage) finish() {
	st.start()
	st.client.Close()
	select {
	case <-st.done:
	case <-time.After(patience):
		st.t.Fatalf("the session did not end\n%s", st.log.String())
	}
	if n := st.set.Spool.InUse(); n != 0 {
		st.t.Errorf("%d octets are left in the spool", n)
	}
	select {
	case o := <-st.ends:
		if o.Action != policy.Continue {
			st.t.Errorf("an end that nobody asked for: %s %s", o.Word(), o.Reply)
		}
	default:
	}
}

func (st *stage) close() {
	if st.client != nil {
		st.client.Close()
	}
	if st.up != nil {
		st.up.Close()
	}
	if st.done != nil {
		<-st.done
		st.srv.Close()
	}
	st.set.Hop.Close()
	st.listener.Close()
}

// testRule is a rule in a line: HOOK /REGEXP/ ACTION ARGS. The regexp is
// matched against what the hook is about.
type testRule struct {
	match  *regexp.Regexp
	action string
	args   string
}

func parseTestRule(s string) (*policy.Rule, error) {
	m := regexp.MustCompile(`^(\w+) /(.*)/ (\w+) ?(.*)$`).FindStringSubmatch(s)
	if m == nil {
		return nil, fmt.Errorf("rule HOOK /REGEXP/ ACTION ARGS")
	}
	h, ok := policy.HookNamed(m[1])
	if !ok {
		return nil, fmt.Errorf("no such hook")
	}
	re, err := regexp.Compile(m[2])
	if err != nil {
		return nil, err
	}
	return &policy.Rule{File: "test.lua", Line: 1, Hook: h, At: h, Evaluator: &testRule{match: re, action: m[3], args: m[4]}}, nil
}

func (r *testRule) Eval(ctx context.Context, s *policy.Session, ev *policy.Event) (policy.Verdict, error) {
	if !r.match.MatchString(subject(s, ev)) {
		return policy.Verdict{}, nil
	}
	path := func() policy.Path {
		p, err := policy.NewPath(r.args, false)
		if err != nil {
			panic(err)
		}
		return p
	}
	switch r.action {
	case "reject", "tempfail", "rejectclose":
		f := strings.SplitN(r.args, " ", 3)
		code, _ := strconv.Atoi(f[0])
		st, err := policy.ParseStatus(f[1])
		if err != nil {
			return policy.Verdict{}, err
		}
		reply, err := policy.NewReply(0, code, st, f[2])
		v := policy.Verdict{Action: policy.Reject, Reply: reply, Close: r.action == "rejectclose"}
		if code < 500 {
			v.Action = policy.Tempfail
		}
		return v, err
	case "discard":
		return policy.Verdict{Action: policy.Discard}, nil
	case "quarantine":
		return policy.Verdict{Action: policy.Quarantine}, nil
	case "drop":
		return policy.Verdict{Action: policy.Drop}, nil
	case "bypass":
		return policy.Verdict{Action: policy.Bypass}, nil
	case "delay":
		d, err := time.ParseDuration(r.args)
		return policy.Verdict{Action: policy.Accept, Delay: d}, err
	case "slowreject":
		d, err := time.ParseDuration(r.args)
		reply := policy.Say(550, policy.Status{5, 7, 1}, "slowly")
		return policy.Verdict{Action: policy.Reject, Reply: reply, Delay: d}, err
	case "nothing":
		return policy.Verdict{}, nil
	case "fail":
		return policy.Verdict{}, fmt.Errorf("broken rule")
	case "wait": // until the client is gone
		<-ctx.Done()
		return policy.Verdict{}, ctx.Err()
	case "add_header":
		name, value, _ := strings.Cut(r.args, ":")
		return policy.Verdict{}, s.Tx.Do(policy.Edit{Kind: policy.AddHeader, Name: name, Value: value})
	case "remove_header":
		return policy.Verdict{}, s.Tx.Do(policy.Edit{Kind: policy.RemoveHeader, Name: r.args, Index: 1})
	case "set_from":
		return policy.Verdict{}, s.Tx.Do(policy.Edit{Kind: policy.SetSender, Path: path()})
	case "set_ret": // as a filter may
		return policy.Verdict{}, s.Tx.Do(policy.Edit{Kind: policy.SetSender, Path: s.Tx.Out.From,
			Params: []policy.Param{{Key: "RET", Value: r.args, Raw: "RET=" + r.args}}})
	case "add_rcpt", "add_optional":
		return policy.Verdict{}, s.Tx.Do(policy.Edit{Kind: policy.AddRcpt, Path: path(), Optional: r.action == "add_optional"})
	case "replace_rcpt":
		who := ev.Rcpt
		if who == nil {
			who = s.Tx.Recipients()[0]
		}
		return policy.Verdict{}, s.Tx.Do(policy.Edit{Kind: policy.ReplaceRcpt, Rcpt: who, Path: path()})
	case "remove_rcpt":
		return policy.Verdict{}, s.Tx.Do(policy.Edit{Kind: policy.RemoveRcpt, Rcpt: s.Tx.FindRcpts(r.args)[0]})
	case "body":
		return policy.Verdict{}, s.Tx.Do(policy.Edit{Kind: policy.ReplaceBody, Body: []byte(strings.ReplaceAll(r.args, "|", "\r\n"))})
	case "panic":
		panic("of a rule")
	}
	return policy.Verdict{}, fmt.Errorf("no such action: %s", r.action)
}

// subject is what a rule's regexp is matched against.
func subject(s *policy.Session, ev *policy.Event) string {
	switch ev.Hook {
	case policy.Connect:
		return s.Remote.Addr().String()
	case policy.Helo:
		return s.Helo
	case policy.Mail:
		return s.Tx.In.From.Raw
	case policy.Rcpt:
		return ev.Rcpt.In.Raw
	case policy.Headers:
		return string(s.Tx.Header().Append(nil))
	case policy.Message:
		var b bytes.Buffer
		s.Tx.Message.WriteTo(&b)
		return b.String()
	}
	return string(ev.Line)
}
