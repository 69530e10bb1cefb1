package proxy

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/emersion/go-smtp"
)

// docs/decisions/go-smtp.md: why the relay path is our own. Each fault is shown
// on the library; when one of these tests fails, the library has changed and
// the page is to be read again.

// peer is a backend of go-smtp that notes what reaches it.
type peer struct {
	mu    sync.Mutex
	from  []string
	rcpts []string
	data  []string
	got   chan struct{} // one for each message
}

func (p *peer) NewSession(*smtp.Conn) (smtp.Session, error) { return &peerSession{p}, nil }

type peerSession struct{ p *peer }

func (s *peerSession) Mail(from string, _ *smtp.MailOptions) error {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.p.from = append(s.p.from, from)
	return nil
}

func (s *peerSession) Rcpt(to string, _ *smtp.RcptOptions) error {
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	s.p.rcpts = append(s.p.rcpts, to)
	return nil
}

func (s *peerSession) Data(r io.Reader) error {
	b, err := io.ReadAll(r)
	s.p.mu.Lock()
	defer s.p.mu.Unlock()
	if err == nil {
		s.p.data = append(s.p.data, string(b))
		s.p.got <- struct{}{}
	}
	return err
}

func (s *peerSession) Reset()        {}
func (s *peerSession) Logout() error { return nil }

// startGoSMTP serves a peer with the library.
func startGoSMTP(t testing.TB, change func(*smtp.Server)) (*peer, string) {
	t.Helper()
	p := &peer{got: make(chan struct{}, 100)}
	s := smtp.NewServer(p)
	s.Domain, s.EnableSMTPUTF8, s.EnableDSN = "peer.example", true, true
	s.ErrorLog = nullLogger{}
	if change != nil {
		change(s)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(l) }()
	t.Cleanup(func() { s.Close(); <-done })
	return p, l.Addr().String()
}

type nullLogger struct{}

func (nullLogger) Printf(string, ...any) {}
func (nullLogger) Println(...any)        {}

// dialog is a plain client: it says lines and hears replies.
type dialog struct {
	t  testing.TB
	c  net.Conn
	rd *lines
}

func dialTo(t testing.TB, address string) *dialog {
	t.Helper()
	c, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	d := &dialog{t, c, newLines(c)}
	d.hear(220)
	return d
}

func (d *dialog) hear(code int) {
	d.t.Helper()
	if r, err := readReply(d.rd); err != nil || r.Code != code {
		d.t.Fatalf("heard %s, %v; want %d", r, err, code)
	}
}

func (d *dialog) say(line string, code int) {
	d.t.Helper()
	io.WriteString(d.c, line+"\r\n")
	d.hear(code)
}

// A read deadline inside DATA: the library answers 554 and executes the rest
// of the body as commands.
func TestGoSMTPFaultTimeoutInData(t *testing.T) {
	p, address := startGoSMTP(t, func(s *smtp.Server) { s.ReadTimeout = 3 * time.Second })
	d := dialTo(t, address)
	// In one write, so that nothing but the rest of the body can come too late.
	io.WriteString(d.c, "EHLO relay.example\r\nMAIL FROM:<a@a.example>\r\nRCPT TO:<b@b.example>\r\nDATA\r\n"+
		"Subject: one message\r\n\r\n")
	for _, code := range []int{250, 250, 250, 354} {
		d.hear(code)
	}
	d.hear(554) // behind the deadline
	// What follows is the body of that one message.
	io.WriteString(d.c, "RSET\r\nMAIL FROM:<ceo@bank.example>\r\nRCPT TO:<b@b.example>\r\nDATA\r\nforged\r\n.\r\n")
	select {
	case <-p.got:
	case <-time.After(patience):
		t.Fatal("the forged message was not taken")
	}
	if p.from[1] != "ceo@bank.example" || p.data[0] != "forged\r\n" {
		t.Errorf("%q %q", p.from, p.data)
	}
	// Ours: see TestLinesStickyError.
}

// A quoted local part is unquoted for the backend and never quoted again by the
// client: recipient injection.
func TestGoSMTPFaultUnquoted(t *testing.T) {
	const arg = `TO:<"admin@internal.test> NOTIFY=NEVER ORCPT=rfc822;"@victim.example>`
	p, address := startGoSMTP(t, nil)
	d := dialTo(t, address)
	d.say("EHLO client.example", 250)
	d.say("MAIL FROM:<a@a.example>", 250)
	d.say("RCPT "+arg, 250)

	s := startScripted(t, `S: 220 up
		C: EHLO localhost
		S: 250 up
		C: MAIL FROM:<>
		S: 250 Ok
		C: RCPT TO:<admin@internal.test> NOTIFY=NEVER ORCPT=rfc822;@victim.example>
		S: 250 Ok
		eof`)
	c, err := smtp.Dial(s.l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.Mail("", nil); err != nil {
		t.Fatal(err)
	}
	if err := c.Rcpt(p.rcpts[0], nil); err != nil {
		t.Fatal(err)
	}

	path, params, refusal := parseRcpt([]byte(arg), false, allCaps)
	if refusal != nil || "TO:"+path.Raw != arg || len(params) != 0 || path.Domain != "victim.example" {
		t.Errorf("ours: %+v %v %v", path, params, refusal)
	}
}

// CR CR LF . CR LF ends a message for Postfix, in every mode, and for RFC 5321:
// the octets CR LF . CR LF are there. The library reads on.
func TestGoSMTPFaultCRCRLF(t *testing.T) {
	const body = "one\r\r\n.\r\nMAIL FROM:<ceo@bank.example>\r\n.\r\n"
	p, address := startGoSMTP(t, nil)
	if got := viaGoSMTP(t, p, address, body); got != body[:len(body)-3] {
		t.Errorf("the library took %q", got)
	}
	if got := decodeIn(t, newDecoder(bareNormalize, 0), body); got.out != "one \r\n" || !got.doubtful {
		t.Errorf("ours: %+v", got)
	}
}

// Quit, Reset and Noop behind half a body send the final dot.
func TestGoSMTPFaultClientCommits(t *testing.T) {
	for name, end := range map[string]func(c *smtp.Client) error{
		"QUIT": (*smtp.Client).Quit, "RSET": (*smtp.Client).Reset, "NOOP": (*smtp.Client).Noop,
	} {
		p, address := startGoSMTP(t, nil)
		c, err := smtp.Dial(address)
		if err != nil {
			t.Fatal(err)
		}
		c.Mail("a@a.example", nil)
		c.Rcpt("b@b.example", nil)
		w, err := c.Data()
		if err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, "Subject: half\r\n\r\nhalf of the")
		end(c)
		c.Close()
		select {
		case <-p.got:
		case <-time.After(patience):
			t.Fatal(name, "did not commit the half message")
		}
		if p.data[0] != "Subject: half\r\n\r\nhalf of the\r\n" {
			t.Errorf("%s: %q", name, p.data)
		}
	}
	// Ours: see TestBodyAbort.
}

// viaGoSMTP sends a body behind DATA and returns the message that the library
// made of it. body must end one.
func viaGoSMTP(t testing.TB, p *peer, address, body string) string {
	t.Helper()
	d := dialTo(t, address)
	d.say("EHLO client.example", 250)
	d.say("MAIL FROM:<a@a.example>", 250)
	d.say("RCPT TO:<b@b.example>", 250)
	d.say("DATA", 354)
	io.WriteString(d.c, body)
	select {
	case <-p.got:
	case <-time.After(patience):
		t.Fatalf("%q: no message", body)
	}
	d.c.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.data[len(p.data)-1]
}

// knownDataDifferences are what the two readers of a body do not agree on.
var knownDataDifferences = map[string]*regexp.Regexp{
	"the library sees no end in CR CR LF . CR LF":                 regexp.MustCompile(`\r\r\n\.`),
	"the library keeps a dot behind a bare LF (Postfix does not)": regexp.MustCompile(`(^|[^\r])\n\.`),
	"the library loses a CR behind a dot at a line's start":       regexp.MustCompile(`(^|\n)\.\r[^\n]`),
}

// Our decoder and the library's server read the same bodies alike, but for the
// known differences and for our normalising.
func TestOracleData(t *testing.T) {
	p, address := startGoSMTP(t, func(s *smtp.Server) { s.MaxLineLength = 1 << 20 })
	const octets = "\r\n.x"
	compared := 0
	try := func(in string) {
		in += "z\r\n.\r\n" // both find an end
		for _, known := range knownDataDifferences {
			if known.MatchString(in) {
				return
			}
		}
		compared++
		ours := decodeIn(t, newDecoder(bareNormalize, 0), in).out
		if theirs := normalized(viaGoSMTP(t, p, address, in)); theirs != ours {
			t.Errorf("%q\n   ours %q\nlibrary %q", in, ours, theirs)
		}
	}
	for in := range everyString(octets, 5) {
		try(in)
	}
	for _, in := range []string{"..\r\n..x\r\n.x\r\n", strings.Repeat("x", 70000) + "\r\n", "a\x00\xff\r\n", "From x\r\n"} {
		try(in)
	}
	if compared < 500 {
		t.Errorf("only %d bodies were compared", compared)
	}
}

// normalized repairs what the library hands on as it came.
func normalized(s string) string {
	s = strings.ReplaceAll(s, "\r\n", "\n")
	s = strings.ReplaceAll(s, "\r", " ")
	return strings.ReplaceAll(s, "\n", "\r\n")
}

// Our reading of MAIL and RCPT arguments and the library's. same: both refuse,
// or both take the same address. Else it says why they differ.
func TestOracleArguments(t *testing.T) {
	const same = ""
	p, address := startGoSMTP(t, nil)
	for _, tc := range []struct{ line, why string }{
		{"MAIL FROM:<a@b.example>", same},
		{"MAIL from:<a@b.example>", same},
		{"MAIL FROM: <a@b.example>", same},
		{"MAIL FROM:<>", same},
		{"MAIL FROM:<a@b.example> SIZE=10", same},
		{"MAIL FROM:<a@b.example> BODY=8BITMIME RET=FULL ENVID=x", same},
		{"MAIL FROM:<é@b.example> SMTPUTF8", same},
		{"MAIL FROM:<a@b.example> SIZE=x", same},
		{"MAIL FROM:<a@b.example> X-UNKNOWN=1", same},
		{"MAIL FROM:<a@b.example> RET=NONE", same},
		{"MAIL TO:<a@b.example>", same},
		{"MAIL FROM:<a@b.example", same},
		{"MAIL FROM:<a@>", same},
		{"MAIL FROM:<@b.example>", same},
		{"MAIL FROM:a@b.example", "the library needs no brackets"},
		{"MAIL FROM:<a@b.example>SIZE=10", "the library needs no blank"},
		{"MAIL FROM:<a@b.example> SIZE=1 SIZE=2", "the library takes the last"},
		{"MAIL FROM:<a@b.example> SIZE=99999999999", "the library's sizes have 32 bits"},
		{"MAIL FROM:<é@b.example>", "the library takes 8-bit without SMTPUTF8"},
		{"MAIL FROM:<a\x01b@c.example>", "the library takes control octets"},
		{"RCPT TO:<a@b.example>", same},
		{"RCPT TO:<a.b+c@b.example>", same},
		{"RCPT TO:<a@b.example> NOTIFY=NEVER", same},
		{"RCPT TO:<a@b.example> NOTIFY=SUCCESS,DELAY", same},
		{"RCPT TO:<a@b.example> NOTIFY=NEVER,DELAY", same},
		{"RCPT TO:<>", same},
		{"RCPT TO:<@r.example:a@b.example>", same},
		{"RCPT TO:<a@[127.0.0.1]>", same},
		{"RCPT TO:<postmaster>", "the library refuses it, against RFC 5321 4.5.1"},
		{`RCPT TO:<"a b"@c.example>`, "the library unquotes"},
		{`RCPT TO:<"a@b"@c.example>`, "the library unquotes"},
		{"RCPT TO:<a@b@c.example>", "the library takes a second @"},
		{"RCPT TO:<a@B.EXAMPLE>", "we fold the domain's case"},
		{"RCPT TO:<a@b..example>", "the library does not look at domains"},
	} {
		verb, arg, _ := strings.Cut(tc.line, " ")
		ours := ""
		if verb == "MAIL" {
			path, _, refusal := parseMail([]byte(arg), NewCaps("SIZE", "8BITMIME", "DSN", "SMTPUTF8"))
			ours = fmt.Sprintf("<%s> %v", path.Address, refusal == nil)
		} else {
			path, _, refusal := parseRcpt([]byte(arg), false, allCaps)
			ours = fmt.Sprintf("<%s> %v", path.Address, refusal == nil)
		}
		theirs := askGoSMTP(t, p, address, verb, tc.line)
		switch {
		case tc.why == same && ours != theirs:
			t.Errorf("%q: ours %s, the library's %s", tc.line, ours, theirs)
		case tc.why != same && ours == theirs:
			t.Errorf("%q: no difference any more (%s): %s", tc.line, tc.why, ours)
		}
	}
}

func askGoSMTP(t testing.TB, p *peer, address, verb, line string) string {
	t.Helper()
	d := dialTo(t, address)
	defer d.c.Close()
	d.say("EHLO client.example", 250)
	if verb == "RCPT" {
		d.say("MAIL FROM:<>", 250)
	}
	io.WriteString(d.c, line+"\r\n")
	r, err := readReply(d.rd)
	if err != nil {
		t.Fatal(err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if !r.Positive() {
		return "<> false"
	}
	if verb == "MAIL" {
		return fmt.Sprintf("<%s> true", p.from[len(p.from)-1])
	}
	return fmt.Sprintf("<%s> true", p.rcpts[len(p.rcpts)-1])
}

// BenchmarkGoSMTPData is the yardstick for BenchmarkDecode.
func BenchmarkGoSMTPData(b *testing.B) {
	p, address := startGoSMTP(b, nil)
	body := benchBody(4 << 20)
	d := dialTo(b, address)
	d.c.SetDeadline(time.Time{})
	d.say("EHLO client.example", 250)
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		d.say("MAIL FROM:<a@a.example>", 250)
		d.say("RCPT TO:<b@b.example>", 250)
		d.say("DATA", 354)
		if _, err := io.Copy(d.c, bytes.NewReader(body)); err != nil {
			b.Fatal(err)
		}
		<-p.got
		d.hear(250)
	}
}
