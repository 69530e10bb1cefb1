package upstream

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what must come.
const patience = time.Minute

// dial connects for at most that time.
func dial(t *testing.T, s *Server) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c
}

// talk sends all of input at once and returns all that the server says until it closes.
func talk(t *testing.T, s *Server, input string) string {
	t.Helper()
	c := dial(t, s)
	io.WriteString(c, input)
	c.(*net.TCPConn).CloseWrite()
	out, _ := io.ReadAll(c)
	return string(out)
}

func TestScripts(t *testing.T) {
	const message = "EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n"
	for _, tc := range []struct {
		name, script, input, want string
	}{
		{"honest", "EHLO 250 me", "EHLO c\r\nMAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\nx\r\n.\r\nQUIT\r\n",
			"220 upstream.example ESMTP\r\n250 me\r\n250 2.1.0 Ok\r\n250 2.1.5 Ok\r\n" +
				"354 End data with <CR><LF>.<CR><LF>\r\n250 2.0.0 Ok: queued as U1\r\n221 2.0.0 Bye\r\n"},
		{"lines, escapes", `connect 220-a|220 b\x21`, "QUIT\r\n", "220-a\r\n220 b!\r\n221 2.0.0 Bye\r\n"},
		{"regexp and occurrence", "connect\nNOOP #2 250 two\nNOOP /yes/ 250 yes\nNOOP 250 other",
			"NOOP\r\nNOOP\r\nNOOP yes\r\nQUIT\r\n", "250 other\r\n250 two\r\n250 yes\r\n221 2.0.0 Bye\r\n"},
		{"malformed", "connect\nNOOP raw:25", "NOOP\r\n", "25"},
		{"close", "connect\nNOOP 421 bye !close", "NOOP\r\nNOOP\r\n", "421 bye\r\n"},
		{"hang", "connect\nNOOP !hang", "NOOP\r\nNOOP\r\nQUIT\r\n", ""},
		{"never greets", "connect !hang", "", ""},
		{"body", "connect\nEHLO\nMAIL\nRCPT\nDATA 354 go\nbody 3 !close", message + "xyz\r\n.\r\n", "354 go\r\n"},
		{"PROXY", "proxy\nconnect 220 hi", "PROXY TCP4 192.0.2.1 127.0.0.1 1 2\r\n", "220 hi\r\n"},
		{"not PROXY", "proxy\nconnect 220 hi", "EHLO localhost.example\r\n", ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := Start(t, tc.script)
			if got := talk(t, s, tc.input); got != tc.want {
				t.Errorf("got  %q\nwant %q", got, tc.want)
			}
		})
	}
}

func TestIdle(t *testing.T) {
	s := Start(t, "idle 10ms 421 4.4.2 idle !close")
	c := dial(t, s)
	if out, _ := io.ReadAll(c); string(out) != "220 upstream.example ESMTP\r\n421 4.4.2 idle\r\n" {
		t.Errorf("%q", out)
	}
}

func TestRecord(t *testing.T) {
	s := Start(t, "RCPT /bad/ 550 no\n. #2 451 later")
	talk(t, s, "EHLO c\r\nMAIL FROM:<a@b> SIZE=3\r\nRCPT TO:<bad>\r\nRCPT TO:<good>\r\nDATA\r\n..x\n.\r\n\ny\r\n..\r\n.\r\n"+
		"MAIL FROM:<e>\r\nRCPT TO:<f>\r\nDATA\r\n.\r\nNOOP\nMAIL FROM:<g>\r\nRCPT TO:<h>\r\nDATA\r\nhalf\r\n.\r")
	got := s.Messages()
	if len(got) != 3 {
		t.Fatalf("%d messages, want 3: %+v", len(got), got)
	}
	if m := got[0]; m.Mail != "<a@b> SIZE=3" || strings.Join(m.Rcpts, " ") != "<good>" || !m.Complete || !m.Accepted ||
		string(m.Data) != "..x\n.\r\n\ny\r\n..\r\n" || string(m.Body()) != ".x\n.\r\n\ny\r\n.\r\n" {
		t.Errorf("first: %+v %q %q", m, m.Data, m.Body())
	}
	if m := got[1]; !m.Complete || m.Accepted || len(m.Data) != 0 {
		t.Errorf("second: %+v", m)
	}
	if m := got[2]; m.Complete || m.Accepted || string(m.Data) != "half\r\n.\r" {
		t.Errorf("third: %+v", m)
	}
	if l := s.Lines(1); l[6] != "MAIL FROM:<e>" && l[5] != "MAIL FROM:<e>" {
		t.Errorf("lines: %q", l)
	}
	if l := strings.Join(s.Lines(0), "|"); !strings.Contains(l, "NOOP\n|") {
		t.Errorf("a bare LF is not to be seen: %q", l)
	}
}

// TestInput reads exactly as many octets as the script says and not one more.
func TestInput(t *testing.T) {
	s := Start(t, "input 5 !reset")
	c := dial(t, s)
	fmt.Fprint(c, "NOOP\r\n")
	io.ReadAll(c)
	if got := string(s.Bytes(1)); got != "NOOP\r" {
		t.Errorf("read %q", got)
	}
}

// TestStop is a server that dies at the dot and comes back.
func TestStop(t *testing.T) {
	s := Start(t, "NOOP !stop")
	c := dial(t, s)
	in := bufio.NewReader(c)
	in.ReadString('\n')
	fmt.Fprint(c, "NOOP\r\n")
	if _, err := in.ReadString('\n'); err == nil {
		t.Error("the connection lives on")
	}
	if !s.Wait(patience, func() bool { _, open := s.Conns(); return open == 0 }) {
		t.Error("still open")
	}
	if c, err := net.Dial("tcp", s.Addr); err == nil {
		c.Close()
		t.Error("the listener lives on")
	}
	for range 1000 { // a port that is stopped is given to nobody
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if l.Addr().String() == s.Addr {
			t.Error("the port was given away")
		}
		l.Close()
	}
	s.Listen()
	if got := talk(t, s, "QUIT\r\n"); !strings.HasPrefix(got, "220") {
		t.Errorf("after Listen: %q", got)
	}
}

func TestParseErrors(t *testing.T) {
	for script, want := range map[string]string{
		"ehlo 250 x":         `line 1: unknown event "ehlo"`,
		"\nbody x !close":    "line 2: body wants",
		"MAIL /x 250":        "the regexp has no end",
		"MAIL #0 250":        "# wants a number",
		"MAIL 250 !explode":  "unknown action !explode",
		`MAIL 250 \q`:        `unknown escape \q`,
		"idle soon 421 late": "idle wants a duration",
	} {
		if _, err := parse(script); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", script, err, want)
		}
	}
}
