package test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/clients"
	"github.com/moongate/moongate/test/moongate"
	"github.com/moongate/moongate/test/postfix"
	"github.com/moongate/moongate/test/relay"
	"github.com/moongate/moongate/test/upstream"
)

// random makes a message out of what messages are made of, and of what they should not be: long lines,
// dots, empty lines, folded and malformed fields, octets of any value. Its line ends are CRLF.
func random(r *rand.Rand, size int) []byte {
	var b bytes.Buffer
	b.WriteString(client.Head(fmt.Sprint("random-", r.Uint32())))
	for range r.IntN(5) {
		b.WriteString([]string{"X-Fold: a\r\n\tb\r\n  c\r\n", "x-lower:nothing\r\n", "X-Empty:\r\n", "X-8bit: \xe4\xf6\r\n",
			"X-Space : before the colon\r\n", "X-Two:  blanks \t \r\n", "Subject: twice\r\n"}[r.IntN(7)])
	}
	b.WriteString("\r\n")
	for b.Len() < size {
		switch r.IntN(6) {
		case 0:
			b.WriteString("\r\n")
		case 1:
			b.WriteString(strings.Repeat(".", 1+r.IntN(4)) + "\r\n")
		case 2:
			b.WriteString(".QUIT\r\n")
		default:
			line := make([]byte, r.IntN([]int{10, 80, 1200, 9000}[r.IntN(4)]))
			for i := range line {
				if line[i] = byte(r.Uint32()); line[i] == '\r' || line[i] == '\n' || line[i] == 0 {
					line[i] = '.'
				}
			}
			b.Write(line)
			b.WriteString("\r\n")
		}
	}
	return b.Bytes()
}

// TestBytes sends forty random messages and one of ten million octets on both paths; what arrives at
// the upstream and what a real Postfix delivers is what was sent.
func TestBytes(t *testing.T) {
	for _, path := range paths {
		t.Run(path.name, func(t *testing.T) {
			mta := postfix.Start(t, postfix.Options{Main: map[string]string{"message_size_limit": "0", "header_size_limit": "1024000"}})
			wire := relay.Start(t, mta.Addr)
			p := moongate.Start(t, moongate.Options{Upstream: wire.Addr, Files: path.files})
			r := rand.New(rand.NewPCG(2, 26))
			sent := map[string]bool{}
			s := client.Dial(t, p.Addr, "").Greet("client.example.com")
			for n := range 41 {
				size := r.IntN(60_000)
				if n == 40 {
					size = 10_000_000
				}
				m := string(random(r, size))
				// Postfix itself takes the blank away that stands before a field's colon.
				sent[strings.ReplaceAll(m, "X-Space : ", "X-Space: ")] = true
				if text := s.Send("a@example.com", "b@example.org", m); !strings.HasPrefix(text, "250") {
					t.Fatalf("message %d of %d octets: %q", n, len(m), text)
				}
				if !bytes.Contains(bytes.Join(wire.Sent(), nil), []byte("DATA\r\n"+client.Stuff(m)+".\r\n")) {
					t.Errorf("message %d of %d octets is another on the wire: %.300q", n, len(m), m)
				}
			}
			for i, m := range mta.Messages(len(sent)) {
				if !sent[string(m.Body())] {
					t.Errorf("delivery %d: %d octets that nobody sent: %.300q", i, len(m.Body()), m.Body())
				}
				delete(sent, string(m.Body()))
			}
			if len(sent) > 0 {
				t.Errorf("%d messages were not delivered as they were sent", len(sent))
			}
		})
	}
}

// TestMemory sends large messages through many sessions at once. What the program takes at its most
// must not grow with the octets that pass.
func TestMemory(t *testing.T) {
	const (
		large    = 10 << 20
		sessions = 8
		most     = 24 << 20 // over what it took after one message
	)
	for _, path := range paths {
		t.Run(path.name, func(t *testing.T) {
			up := newDrain(t)
			p := moongate.Start(t, moongate.Options{Upstream: up.Addr, Files: path.files, Plain: true})
			message := bytes.Repeat([]byte("0123456789 0123456789 0123456789 0123456789 0123456789 01234567\r\n"), large/65)
			send := func() {
				s := client.Dial(t, p.Addr, "").Greet("client.example.com")
				defer s.Close()
				if text := s.Send("a@example.com", "b@example.org", "Subject: large\r\n\r\n"); !strings.HasPrefix(text, "250") {
					t.Errorf("%q", text)
				}
				for _, line := range []string{"MAIL FROM:<a@example.com>", "RCPT TO:<b@example.org>", "DATA"} {
					s.Say(line)
				}
				s.Write([]byte("Subject: large\r\n\r\n"))
				s.Write(message)
				if text := s.Say("."); !strings.HasPrefix(text, "250") {
					t.Errorf("%q", text)
				}
			}
			send()
			before := peak(t, p.Pid())
			var wg sync.WaitGroup
			for range sessions {
				wg.Go(func() { send(); send() })
			}
			wg.Wait()
			after := peak(t, p.Pid())
			t.Logf("peak after one message %d KiB, after %d in %d sessions %d KiB", before>>10, 2*sessions, sessions, after>>10)
			if after-before > most {
				t.Errorf("the peak grew by %d MiB while %d MiB passed", (after-before)>>20, 2*sessions*large>>20)
			}
		})
	}
}

// peak is the most memory that a process ever had, in octets.
func peak(t testing.TB, pid int) int {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Skipf("no /proc: %v", err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	var kib int
	if _, err := fmt.Sscan(rest, &kib); err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// newDrain is an upstream that keeps nothing of what it is sent. The scripted one records every octet,
// which is a lot here.
func newDrain(t testing.TB) *upstream.Server {
	s := upstream.Start(t, "")
	s.Forget()
	return s
}

// TestClients sends with each real client, and looks at what it is told and what arrives.
func TestClients(t *testing.T) {
	for _, path := range paths {
		t.Run(path.name, func(t *testing.T) {
			mta := postfix.Start(t, postfix.Options{Main: map[string]string{
				"smtpd_recipient_restrictions": "check_recipient_access inline:{{ gone@example.org = 550 5.1.1 moved away }}"}})
			p := moongate.Start(t, moongate.Options{Upstream: mta.Addr, Files: path.files})
			for i, c := range clients.All {
				t.Run(c.Name, func(t *testing.T) {
					data := []byte(client.Head(c.Name) + "\r\n.dot\r\n\r\nlatin \xe4\r\n")
					m := clients.Message{From: "a@example.com", Rcpts: []string{"b@example.org", "c@example.org"}, Data: data}
					if r := c.Send(t, p.Addr, m); r.Code != 0 || strings.Contains(r.Output, "REFUSED") {
						t.Fatalf("exit code %d:\n%s", r.Code, r.Output)
					}
					got := mta.Messages(i + 1)
					if last := got[len(got)-1]; !bytes.Equal(last.Body(), data) || len(last.Rcpts) != 2 {
						t.Errorf("delivered to %q:\n%q, want\n%q", last.Rcpts, last.Body(), data)
					}
					m.Rcpts = []string{"gone@example.org"}
					if r := c.Send(t, p.Addr, m); r.Code == 0 || !strings.Contains(r.Output, "550") {
						t.Errorf("refused: exit code %d:\n%s", r.Code, r.Output)
					}
				})
			}
		})
	}
}
