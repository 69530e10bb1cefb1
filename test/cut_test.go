package test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/moongate"
	"github.com/moongate/moongate/test/postfix"
	"github.com/moongate/moongate/test/relay"
)

// hold is a policy that needs the whole message, so that it takes the other data path.
const hold = `on.message("look", function(msg) return nil end)`

// paths are the two ways of a message through the program.
var paths = []struct {
	name  string
	files map[string]string
}{
	{"stream", nil},
	{"hold", map[string]string{"scripts/10-hold.lua": hold}},
}

// TestUpstreamCut kills the connection to Postfix after every octet of a session. Never may the client
// hear 250 for a message that was not delivered, never may half of one be delivered, and trouble is
// always temporary.
func TestUpstreamCut(t *testing.T) {
	for _, path := range paths {
		t.Run(path.name, func(t *testing.T) {
			mta := postfix.Start(t, postfix.Options{})
			wire := relay.Start(t, mta.Addr)
			p := moongate.Start(t, moongate.Options{Upstream: wire.Addr, Files: path.files})
			message := func(n int) string { return client.Head(fmt.Sprintf("cut-%04d", n)) + "\r\nbody\r\n.\r\n\r\n" }

			s := client.Dial(t, p.Addr, "").Greet("client.example.com")
			if text := s.Send("a@example.com", "b@example.org", message(0)); !strings.HasPrefix(text, "250") {
				t.Fatalf("uncut: %s", text)
			}
			s.Close()
			var total int
			for _, sent := range wire.Sent() {
				total = max(total, len(sent))
			}
			wire.Hangup()

			codes := map[string]int{"cut-0000": 250}
			// Down, because the last ones are failed greetings, of which too many open the breaker.
			for n := total + 2; n > 0; n-- {
				wire.Cut(n, n%2 == 0)
				s := client.Dial(t, p.Addr, "")
				r := s.Reply()
				if !strings.HasPrefix(r, "220") {
					t.Fatalf("after %d octets: greeted with %q", n, r)
				}
				if r = s.Say("EHLO c.example.com"); strings.HasPrefix(r, "250") {
					r = s.Send("a@example.com", "b@example.org", message(n))
				}
				s.Close()
				wire.Hangup()
				codes[fmt.Sprintf("cut-%04d", n)] = client.Code(r)
				if code := client.Code(r); code != 250 && code/100 != 4 {
					t.Errorf("after %d of %d octets: %q, want 4xx or 250", n, total, r)
				}
			}
			delivered := map[string]int{}
			for _, m := range mta.Messages(1) {
				name := subject(m.Body())
				delivered[name]++
				var n int
				fmt.Sscanf(name, "cut-%d", &n)
				if string(m.Body()) != message(n) {
					t.Errorf("%s was delivered as %q", name, m.Body())
				}
				if n != 0 && n < total {
					t.Errorf("%s was delivered, before its end was sent", name)
				}
			}
			for name, code := range codes {
				if code == 250 && delivered[name] != 1 || delivered[name] > 1 {
					t.Errorf("%s: the client heard %d, delivered %d times", name, code, delivered[name])
				}
			}
			if delivered[fmt.Sprintf("cut-%04d", total+1)] != 1 {
				t.Errorf("a session that was not cut delivered nothing: the test does not see the end of a message")
			}
		})
	}
}

// subject is the subject of one of our messages.
func subject(body []byte) string {
	_, rest, _ := strings.Cut(string(body), "\r\nSubject: ")
	name, _, _ := strings.Cut(rest, "\r\n")
	return name
}

// TestClientCut lets the client go away after every octet, with an end of file and with a reset. Only
// a message that was complete may be delivered.
func TestClientCut(t *testing.T) {
	for _, path := range paths {
		t.Run(path.name, func(t *testing.T) {
			mta := postfix.Start(t, postfix.Options{})
			p := moongate.Start(t, moongate.Options{Upstream: mta.Addr, Files: path.files})
			message := func(name string) string { return client.Head(name) + "\r\nbody\r\n.\r\n\r\n" }
			talk := func(name string) string {
				return "EHLO c.example.com\r\nMAIL FROM:<a@example.com>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n" +
					client.Stuff(message(name)) + ".\r\n"
			}
			want := map[string]int{}
			sessions := 0
			for _, reset := range []bool{false, true} {
				name := func(n int) string { return fmt.Sprintf("%04d-%v", n, reset) }
				total := len(talk(name(0)))
				for n := range total + 1 {
					c, err := net.Dial("tcp", p.Addr)
					if err != nil {
						t.Fatal(err)
					}
					c.SetDeadline(time.Now().Add(patience))
					io.WriteString(c, talk(name(n))[:n])
					if reset {
						c.(*net.TCPConn).SetLinger(0)
					} else {
						c.(*net.TCPConn).CloseWrite()
						if _, err := io.ReadAll(c); err != nil {
							t.Errorf("after %d octets and an end of file: %v", n, err)
						}
						if n == total {
							want[name(n)] = 1
						}
					}
					c.Close()
					sessions++
				}
			}
			p.WaitLog("disconnect", func(moongate.Line) bool { return len(p.Log("disconnect")) >= sessions })
			delivered := map[string]int{}
			for _, m := range mta.Messages(1) {
				name := subject(m.Body())
				delivered[name]++
				if string(m.Body()) != message(name) {
					t.Errorf("%s was delivered as %q", name, m.Body())
				}
				total := len(talk(name))
				var n int
				fmt.Sscanf(name, "%04d", &n)
				if n < total {
					t.Errorf("%s was delivered, and its client sent only %d of %d octets", name, n, total)
				}
			}
			for name := range want {
				if delivered[name] != 1 {
					t.Errorf("%s: delivered %d times, want once", name, delivered[name])
				}
			}
		})
	}
}
