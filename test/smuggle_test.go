package test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/moongate"
	"github.com/moongate/moongate/test/postfix"
	"github.com/moongate/moongate/test/relay"
)

// ends are sequences that some server takes for the end of a message and another does not. Each once
// let a client hide a second message inside a first one (CVE-2023-51764 and its kin).
var ends = []string{
	"\n.\n",
	"\n.\r\n",
	"\r\n.\n",
	"\r\r\n.\r\n",
	"\r\n.\r\r\n",
	"\r.\r\n",
	"\r\n.\r",
	"\r.\r",
	"\n\n.\r\n",
	"\r\n\x00.\r\n",
	"\r\n.\x00\r\n",
}

// TestSmuggling sends each of these ends, followed by commands for a second message that no policy has
// seen, split over two segments at every point. A stock Postfix behind us may get what the log shows
// as judged, and nothing else.
func TestSmuggling(t *testing.T) {
	for _, mode := range []string{"normalize", "reject"} {
		for _, path := range paths {
			t.Run(mode+"/"+path.name, func(t *testing.T) {
				mta := postfix.Start(t, postfix.Options{})
				wire := relay.Start(t, mta.Addr)
				p := moongate.Start(t, moongate.Options{
					Upstream: wire.Addr, Files: path.files,
					Config: fmt.Sprintf("bare_newline = %q\n", mode) + moongate.Default,
				})
				sessions := 0
				for i, end := range ends {
					for split := range len(end) + 1 {
						smuggle(t, p, fmt.Sprintf("%d-%d", i, split), end, split)
						sessions++
					}
				}
				p.WaitLog("disconnect", func(moongate.Line) bool { return len(p.Log("disconnect")) >= sessions })
				judged := map[string]bool{}
				for _, l := range p.Log("message") {
					if l["verdict"] == "accepted" {
						judged[l["queued_as"].(string)] = true
						if l["from"] == "evil@example.com" {
							t.Errorf("the hidden message was taken for a message: %s", l)
						}
					}
				}
				if mode == "normalize" && len(judged) == 0 {
					t.Error("no message passed at all")
				}
				msgs := mta.Messages(len(judged))
				if len(msgs) != len(judged) {
					t.Errorf("Postfix took %d messages, the policy judged %d", len(msgs), len(judged))
				}
				for _, m := range msgs {
					if strings.HasPrefix(m.From, "<evil@") || strings.HasPrefix(subject(m.Body()), "smuggled") {
						t.Errorf("smuggled: %s %q", m.From, m.Raw)
					}
				}
				for _, sent := range wire.Sent() {
					if i := stray(sent); i >= 0 {
						t.Errorf("a stray CR or LF went upstream: ...%q", sent[max(0, i-40):min(len(sent), i+40)])
					}
				}
			})
		}
	}
}

// smuggle is one session. The answer to the message has to be there within 20 s; what follows is the
// program's own business, as long as it ends.
func smuggle(t *testing.T, p *moongate.Process, name, end string, split int) {
	t.Helper()
	s := client.Dial(t, p.Addr, "").Greet("client.example.com")
	defer s.Close()
	s.Must("250", "MAIL FROM:<a@example.com>")
	s.Must("250", "RCPT TO:<b@example.org>")
	s.Must("354", "DATA")
	first := client.Head(name) + "\r\nbody" + end[:split]
	rest := end[split:] + "MAIL FROM:<evil@example.com>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n" +
		client.Head("smuggled-"+name) + "\r\nevil\r\n.\r\n"
	s.Write([]byte(first))
	consumed(s)
	start := time.Now()
	s.Write([]byte(rest))
	r := s.Reply()
	if took := time.Since(start); took > 20*time.Second {
		t.Errorf("%s %q: the answer took %v", name, end, took)
	}
	if code := client.Code(r); code != 250 && code != 550 && code != 0 {
		t.Errorf("%s %q: answered %q", name, end, r)
	}
	s.CloseWrite()
	for r != "" {
		r = s.Reply()
	}
}

// stray returns where in b a CR or LF stands that is no part of a CRLF, -1 if nowhere.
func stray(b []byte) int {
	for i, c := range b {
		switch {
		case c == '\r' && (i+1 == len(b) || b[i+1] != '\n'):
			return i
		case c == '\n' && (i == 0 || b[i-1] != '\r'):
			return i
		}
	}
	return -1
}

// consumed waits until the program has read all that was sent, so that what is sent next comes in a
// segment of its own. It asks the kernel; a program that does not want to read now is not waited for.
func consumed(s *client.Client) {
	local, remote := hexAddr(s.LocalAddr()), hexAddr(s.RemoteAddr())
	for deadline := time.Now().Add(100 * time.Millisecond); time.Now().Before(deadline); {
		table, err := os.ReadFile("/proc/net/tcp")
		if err != nil {
			return
		}
		for _, line := range bytes.Split(table, []byte("\n")) {
			f := bytes.Fields(line)
			if len(f) > 4 && string(f[1]) == remote && string(f[2]) == local && bytes.HasSuffix(f[4], []byte(":00000000")) {
				return
			}
		}
	}
}

// hexAddr is how /proc/net/tcp writes an IPv4 address.
func hexAddr(a net.Addr) string {
	tcp := a.(*net.TCPAddr)
	ip := tcp.IP.To4()
	return fmt.Sprintf("%02X%02X%02X%02X:%04X", ip[3], ip[2], ip[1], ip[0], tcp.Port)
}

// TestSmugglingControl sends the same to the same Postfix without us between: if it does not fall for
// it, TestSmuggling proves nothing.
func TestSmugglingControl(t *testing.T) {
	mta := postfix.Start(t, postfix.Options{})
	s := client.Dial(t, mta.Addr, "").Greet("client.example.com")
	s.Must("250", "MAIL FROM:<a@example.com>")
	s.Must("250", "RCPT TO:<b@example.org>")
	s.Must("354", "DATA")
	s.Must("250", client.Head("first")+"\r\nbody\n.\r\nMAIL FROM:<evil@example.com>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n"+
		client.Head("smuggled")+"\r\nevil\r\n.")
	if msgs := mta.Messages(2); len(msgs) != 2 {
		t.Errorf("this Postfix takes %d messages where the trick makes 2 of one", len(msgs))
	}
}
