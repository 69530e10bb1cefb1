package proxy

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pires/go-proxyproto"
	"go.uber.org/zap"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/message"
)

// recordingUpstream takes every message and records it as it came. It ends one
// only at CRLF.CRLF, and notes every CR and LF that stands alone.
type recordingUpstream struct {
	l net.Listener

	mu       sync.Mutex
	cut      int  // close the first connection after so many octets; negative: never
	discard  bool // keep a hash of the message only
	proxied  bool // a PROXY header comes first
	messages []string
	said     int // 250 to a dot
	commands []string
	stray    bool
	conns    int
	open     map[net.Conn]bool
	group    sync.WaitGroup
}

func newRecordingUpstream(t testing.TB, cut int, change ...func(*recordingUpstream)) *recordingUpstream {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	u := &recordingUpstream{l: l, cut: cut, open: map[net.Conn]bool{}}
	for _, f := range change {
		f(u)
	}
	u.group.Add(1)
	go u.accept()
	return u
}

func (u *recordingUpstream) accept() {
	defer u.group.Done()
	for {
		c, err := u.l.Accept()
		if err != nil {
			return
		}
		u.mu.Lock()
		u.conns++
		cut := -1
		if u.conns == 1 {
			cut = u.cut
		}
		u.open[c] = true
		u.mu.Unlock()
		u.group.Add(1)
		go u.serve(c, cut)
	}
}

func (u *recordingUpstream) close() {
	u.l.Close()
	u.mu.Lock()
	for c := range u.open {
		c.Close()
	}
	u.mu.Unlock()
	u.group.Wait()
}

// cutReader ends with EOF after n octets.
type cutReader struct {
	r io.Reader
	n int
}

func (c *cutReader) Read(p []byte) (int, error) {
	if c.n == 0 {
		return 0, io.EOF
	}
	if c.n > 0 && len(p) > c.n {
		p = p[:c.n]
	}
	n, err := c.r.Read(p)
	if c.n > 0 {
		c.n -= n
	}
	return n, err
}

func (u *recordingUpstream) serve(c net.Conn, cut int) {
	defer u.group.Done()
	defer func() {
		c.Close()
		u.mu.Lock()
		delete(u.open, c)
		u.mu.Unlock()
	}()
	r := bufio.NewReaderSize(&cutReader{c, cut}, 64<<10)
	if u.proxied {
		if _, err := proxyproto.Read(r); err != nil {
			return
		}
	}
	io.WriteString(c, "220 up ESMTP\r\n")
	for {
		line, err := r.ReadString('\n')
		if err != nil {
			return
		}
		u.mu.Lock()
		u.commands = append(u.commands, strings.TrimRight(line, "\r\n"))
		u.stray = u.stray || strays(line)
		u.mu.Unlock()
		switch verb, _, _ := strings.Cut(strings.ToUpper(strings.TrimSpace(line)), " "); verb {
		case "EHLO":
			io.WriteString(c, "250-up\r\n250-PIPELINING\r\n250-8BITMIME\r\n250 SIZE 100000000\r\n")
		case "DATA":
			io.WriteString(c, "354 Go\r\n")
			if !u.message(r) {
				return
			}
			u.mu.Lock()
			u.said++
			u.mu.Unlock()
			io.WriteString(c, "250 2.0.0 Ok: queued as R\r\n")
		case "QUIT":
			io.WriteString(c, "221 Bye\r\n")
			return
		default:
			io.WriteString(c, "250 Ok\r\n")
		}
	}
}

// message reads up to CRLF.CRLF, and records what stood before it without its
// dot-stuffing.
func (u *recordingUpstream) message(r *bufio.Reader) bool {
	var b bytes.Buffer
	sum := sha256.New()
	start := true
	for {
		line, err := r.ReadSlice('\n')
		if err != nil && err != bufio.ErrBufferFull {
			return false
		}
		if start && string(line) == ".\r\n" {
			break
		}
		ends := bytes.HasSuffix(line, crlf)
		if !ends && err == nil && len(line) == 1 && !start { // CR at the end of a buffer
			ends = bytes.HasSuffix(b.Bytes(), crlf[:1])
		}
		if start && line[0] == '.' {
			line = line[1:]
		}
		sum.Write(line)
		if !u.discard {
			b.Write(line)
		}
		start = ends
	}
	if u.discard {
		fmt.Fprintf(&b, "%x", sum.Sum(nil))
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.messages = append(u.messages, b.String())
	u.stray = u.stray || strays(b.String())
	return true
}

// strays reports a CR or LF that is no part of a CRLF.
func strays(s string) bool {
	s = strings.ReplaceAll(s, "\r\n", "")
	return strings.ContainsAny(s, "\r\n")
}

// got returns what was recorded so far.
func (u *recordingUpstream) got() (messages, commands []string, said int, stray bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	return append([]string(nil), u.messages...), append([]string(nil), u.commands...), u.said, u.stray
}

// door is a Server in front of a recordingUpstream.
func door(t testing.TB, u *recordingUpstream, rules ...*policy.Rule) *Server {
	hop := &Hop{Address: u.l.Addr().String(), Hostname: "gate.example", Wait: patience}
	hop.learn(NewCaps("PIPELINING", "8BITMIME", "SIZE 100000000"))
	gen := policy.NewRules("test", rules...)
	srv := &Server{Log: zap.NewNop(), Settings: Settings{
		Hostname: "gate.example", Hop: hop, Received: "never", Domains: []string{"example.org"},
		Spool: &message.Pool{Dir: t.TempDir(), MaxMemory: 4 << 10},
		Env: &policy.Env{
			Engine: policy.EngineFunc(func(*policy.Facts) *policy.Rules { return gen }),
			Face:   policy.SMTP, Log: zap.NewNop(),
		},
	}}
	t.Cleanup(func() {
		srv.Close()
		srv.group.Wait()
		hop.Close()
		u.close()
		if n := srv.Settings.Spool.InUse(); n != 0 {
			t.Errorf("%d octets are left in the spool", n)
		}
	})
	return srv
}

// opinion is a rule at a hook that has none.
func opinion(h policy.Hook) *policy.Rule {
	return &policy.Rule{File: "test.lua", Line: 1, Hook: h, At: h, Evaluator: evalFunc(func(context.Context, *policy.Session, *policy.Event) (policy.Verdict, error) {
		return policy.Verdict{}, nil
	})}
}

type evalFunc func(context.Context, *policy.Session, *policy.Event) (policy.Verdict, error)

func (f evalFunc) Eval(ctx context.Context, s *policy.Session, ev *policy.Event) (policy.Verdict, error) {
	return f(ctx, s, ev)
}

// local are the facts of a client that is no stranger.
func local() policy.Facts {
	return policy.Facts{Remote: netip.MustParseAddrPort("127.0.0.1:40000")}
}

// begin runs a session and returns the client's end of it, and a channel that
// is closed at the session's end.
func begin(t testing.TB, srv *Server) (net.Conn, chan struct{}) {
	ours, theirs := tcpPair(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		srv.ServeConn(ours, local())
	}()
	return theirs, done
}

// within fails the test if done is not closed in time.
func within(t testing.TB, done chan struct{}, what string) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(2 * patience):
		t.Fatal(what + " did not end")
	}
}
