package test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/moongate"
	"github.com/moongate/moongate/test/postfix"
	"github.com/moongate/moongate/test/relay"
	"github.com/moongate/moongate/test/upstream"
)

// ledger is what clients know of their messages: how many times each may have been delivered.
type ledger struct {
	mu    sync.Mutex
	least map[string]int
	most  map[string]int
	text  map[string]string
}

// promised is how many messages were answered with 250.
func (l *ledger) promised() (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, least := range l.least {
		n += least
	}
	return n
}

func (l *ledger) note(name, text string, least, most int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.least[name], l.most[name], l.text[name] = least, most, text
}

// TestOnce lets clients of every manner send through a wire to Postfix that breaks again and again. In
// the end the mailboxes are compared with what the clients were told: each 250 is one delivery of these
// very octets, each refusal none; only a connection that broke between dot and reply may leave doubt.
func TestOnce(t *testing.T) {
	for _, path := range paths {
		t.Run(path.name, func(t *testing.T) {
			mta := postfix.Start(t, postfix.Options{})
			wire := relay.Start(t, mta.Addr)
			p := moongate.Start(t, moongate.Options{Upstream: wire.Addr, Files: path.files})
			l := &ledger{least: map[string]int{}, most: map[string]int{}, text: map[string]string{}}
			var clients sync.WaitGroup
			for n := range 8 {
				clients.Go(func() {
					r := rand.New(rand.NewPCG(uint64(n), 7))
					for m := 0; m < 40; {
						m += wild(t, p.Addr, r, l, fmt.Sprintf("%d-%d", n, m))
					}
				})
			}
			stop := make(chan struct{})
			var breaker sync.WaitGroup
			var cuts atomic.Int32
			breaker.Go(func() {
				r := rand.New(rand.NewPCG(99, 7))
				pause, passed := 15*time.Millisecond, 0
				for {
					select {
					case <-stop:
						return
					case <-time.After(pause):
						if r.IntN(2) == 0 {
							wire.Cut(r.IntN(3000), r.IntN(2) == 0)
						} else {
							wire.Cut(-1, false)
							wire.Hangup()
						}
					}
					if cuts.Add(1)%20 > 0 {
						continue
					}
					// A machine on which nothing comes through between two cuts is given more time.
					if before := passed; pause < time.Second {
						if passed = l.promised(); passed < before+2 {
							pause *= 2
						}
					}
				}
			})
			clients.Wait()
			close(stop)
			breaker.Wait()

			p.Signal(15) // all sessions end, and then the queue can become empty
			p.Wait()
			ambiguous := map[string]bool{}
			for _, line := range p.Log("message") {
				if line["ambiguous"] == true {
					id, _ := line["msgid"].(string)
					ambiguous[strings.TrimSuffix(strings.TrimPrefix(id, "<"), "@example.com>")] = true
				}
			}
			mta.Settle()
			got := map[string]int{}
			for _, m := range mta.Inside.Messages() {
				name := subject(m.Body())
				got[name]++
				if string(m.Body()) != l.text[name] {
					t.Errorf("%s was delivered with other octets: %.300q", name, m.Body())
				}
			}
			sent, doubt := 0, 0
			for name, least := range l.least {
				most := l.most[name]
				if ambiguous[name] {
					most++
					doubt++
				}
				if got[name] < least || got[name] > most {
					t.Errorf("%s: delivered %d times, the client was told %d to %d", name, got[name], least, most)
				}
				sent += got[name]
				delete(got, name)
			}
			if len(got) > 0 {
				t.Errorf("delivered, and nobody sent it: %v", got)
			}
			if sent < 10 || cuts.Load() < 10 { // a busy machine sends fewer
				t.Errorf("only %d messages and %d cuts: the test has not tried much", sent, cuts.Load())
			}
			t.Logf("%d messages delivered of %d, %d in doubt, %d times the wire broke", sent, len(l.least), doubt, cuts.Load())
		})
	}
}

// wild is one session of a random manner; it notes what each message may have come to and returns how
// many it sent.
func wild(t *testing.T, addr string, r *rand.Rand, l *ledger, name string) int {
	s := client.Dial(t, addr, "")
	defer s.Close()
	if r := s.Reply(); !strings.HasPrefix(r, "220") {
		return 0
	}
	if r := s.Say("EHLO c.example.com"); !strings.HasPrefix(r, "250") {
		return 0
	}
	n := 0
	for range 1 + r.IntN(4) {
		name := fmt.Sprintf("%s-%d", name, n)
		text := string(random(r, r.IntN(20_000)))
		_, text, _ = strings.Cut(text, "Subject: ")
		_, text, _ = strings.Cut(text, "\r\n")
		text = strings.ReplaceAll(client.Head(name)+text, "X-Space : ", "X-Space: ")
		wire := client.Stuff(text) + ".\r\n"
		n++
		envelope := []string{"MAIL FROM:<a@example.com>", "RCPT TO:<b@example.org>", "DATA"}
		ok := true
		if r.IntN(2) == 0 { // pipelined
			s.Write([]byte(strings.Join(envelope, "\r\n") + "\r\n"))
			for range envelope {
				if code := client.Code(s.Reply()); code != 250 && code != 354 {
					ok = false
				}
			}
			// A DATA that was taken although a command before it was refused is ended like any other.
		} else {
			for _, c := range envelope {
				if code := client.Code(s.Say(c)); code != 250 && code != 354 {
					ok = false
					break
				}
			}
		}
		if !ok {
			l.note(name, text, 0, 0)
			if r := s.Say("RSET"); !strings.HasPrefix(r, "250") {
				return n
			}
			continue
		}
		switch r.IntN(8) {
		case 0: // goes away inside
			s.Write([]byte(wire[:r.IntN(len(wire)-3)]))
			l.note(name, text, 0, 0)
			if r.IntN(2) == 0 {
				s.SetLinger(0)
			}
			return n
		case 1: // goes away right behind the dot
			s.Write([]byte(wire))
			l.note(name, text, 0, 1)
			s.SetLinger(0)
			return n
		default:
			for len(wire) > 0 { // in pieces
				k := min(len(wire), 1+r.IntN(9000))
				s.Write([]byte(wire[:k]))
				wire = wire[k:]
			}
			code := client.Code(s.Reply())
			switch {
			case code == 250:
				l.note(name, text, 1, 1)
			case code/100 == 4:
				l.note(name, text, 0, 0)
			case code == 0:
				l.note(name, text, 0, 1)
				return n
			default:
				l.note(name, text, 0, 0)
				t.Errorf("%s: %d", name, code)
			}
			if code == 421 {
				return n
			}
		}
	}
	return n
}

// TestOwnReplies runs many pipelining clients over few upstream connections: each reply has to be the
// one to the client's own command.
func TestOwnReplies(t *testing.T) {
	up := upstream.Start(t, "MAIL 250 {arg}\nRCPT /odd/ 550 {arg}\nRCPT 250 {arg}\nDATA 354 {conn}")
	p := moongate.Start(t, moongate.Options{Upstream: up.Addr,
		Config: strings.Replace(moongate.Default, "[policy]", "max_connections = 4\n\n[policy]", 1)})
	var wg sync.WaitGroup
	for n := range 24 {
		wg.Go(func() {
			s := client.Dial(t, p.Addr, "").Greet("client.example.com")
			defer s.Close()
			for m := range 20 {
				tag := fmt.Sprintf("%d-%d@example", n, m)
				s.Write([]byte("MAIL FROM:<" + tag + ".com>\r\nRCPT TO:<odd" + tag + ".org>\r\nRCPT TO:<" + tag + ".org>\r\nDATA\r\n"))
				for i, want := range []string{"250 FROM:<" + tag + ".com>", "550 TO:<odd" + tag + ".org>", "250 TO:<" + tag + ".org>", "354 "} {
					text := s.Reply()
					if i == 0 && strings.HasPrefix(text, "451") { // all four connections are taken
						for range 3 {
							s.Reply()
						}
						break
					}
					if !strings.HasPrefix(text, want) {
						t.Errorf("%s: reply %d is %q, want %q", tag, i, text, want)
						return
					}
					if want == "354 " {
						s.Must("250", "Subject: "+tag+"\r\n\r\n.")
					}
				}
			}
		})
	}
	wg.Wait()
	for _, m := range up.Messages() {
		if m.Accepted && "<"+subject(append([]byte("\r\n"), m.Body()...))+".com>" != m.Mail {
			t.Errorf("the message of %q has the envelope of %s", subject(append([]byte("\r\n"), m.Body()...)), m.Mail)
		}
	}
	if n := len(up.Messages()); n < 100 {
		t.Errorf("only %d messages passed", n)
	}
}
