package deploy

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/moongate"
	"github.com/moongate/moongate/test/postfix"
)

// TestEverySmtpdTaken: a Postfix with every smtpd taken accepts the connection and never greets. The
// client hears 451 4.3.2 within 5 s. An idle session gives its upstream connection back, so that
// another can have it, and gets a new one when it goes on.
func TestEverySmtpdTaken(t *testing.T) {
	t.Parallel()
	if outside(t) {
		return
	}
	for _, d := range shippedFronts {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			mta, p := d.start(t, postfix.Options{Main: map[string]string{"default_process_limit": "2"}},
				setup{upstream: `idle = "300ms"`})
			var busy []*client.Client
			for i, from := range []string{another, neighbour} {
				c := client.Dial(t, p.Addr, from).Greet(fmt.Sprintf("busy%d.example", i))
				c.Must("250", "MAIL FROM:<a@example.com>")
				c.Must("250", "RCPT TO:<b@example.org>")
				busy = append(busy, c)
			}
			c := client.Dial(t, p.Addr, stranger).Greet("waits.example")
			begin := time.Now()
			if r := c.Say("MAIL FROM:<a@example.com>"); !strings.HasPrefix(r, "451 4.3.2") {
				t.Errorf("with every smtpd taken: %q", r)
			}
			if took := time.Since(begin); took > 30*time.Second { // 5 s, and a busy machine
				t.Errorf("it took %v", took)
			}
			p.WaitLog("refuse", func(l moongate.Line) bool { return l["code"] == 451.0 && l["cause"] != "" })

			// The others finish and stay connected. Their smtpds become free.
			for i, b := range busy {
				b.Must("354", "DATA")
				b.Must("250", letter(fmt.Sprintf("busy%d", i))+".")
			}
			deadline := time.Now().Add(patience)
			for {
				r := c.Send("a@example.com", "b@example.org", letter("waited"))
				if strings.HasPrefix(r, "250") {
					break
				}
				if !strings.HasPrefix(r, "4") || time.Now().After(deadline) {
					t.Fatalf("afterwards: %q", r)
				}
				// The upstream failed more than once in a row, then it is asked once a second.
				c.Close()
				c = client.Dial(t, p.Addr, stranger)
				for r = c.Reply(); !strings.HasPrefix(r, "220"); r = c.Reply() {
					c.Close()
					if time.Now().After(deadline) {
						t.Fatalf("greeted with %q", r)
					}
					c = client.Dial(t, p.Addr, stranger)
				}
				c.Must("250", "EHLO waits.example")
			}
			c.Must("221", "QUIT")
			for i, b := range busy {
				if r := b.Send("a@example.com", "b@example.org", letter(fmt.Sprintf("again%d", i))); !strings.HasPrefix(r, "250") {
					t.Errorf("going on after the pause: %q", r)
				}
				b.Must("221", "QUIT")
			}
			for _, m := range mta.Messages(5) {
				who := map[string]string{"busy0": another, "again0": another, "busy1": neighbour, "again1": neighbour, "waited": stranger}
				for id, addr := range who {
					if strings.Contains(string(m.Raw), "\r\nSubject: "+id+"\r\n") && !strings.Contains(string(m.Raw), "["+addr+"]") {
						t.Errorf("%s is not from %s:\n%s", id, addr, m.Raw)
					}
				}
			}
		})
	}
}

// TestPoolHoldsEverySmtpd: connections that wait in the pool serve new clients, even if the upstream gave
// no further one and greets none now.
func TestPoolHoldsEverySmtpd(t *testing.T) {
	t.Parallel()
	if outside(t) {
		return
	}
	d := deployment{"xforward", "xforward.master.cf"}
	mta, p := d.start(t, postfix.Options{Main: map[string]string{"default_process_limit": "2"}}, setup{})
	var busy []*client.Client
	for _, from := range []string{another, neighbour} {
		c := client.Dial(t, p.Addr, from).Greet("busy.example")
		c.Must("250", "MAIL FROM:<a@example.com>")
		c.Must("250", "RCPT TO:<b@example.org>")
		busy = append(busy, c)
	}
	var vain []*client.Client // they come until all are turned away
	for range 5 {             // Postfix lets three wait to be accepted, and does not answer a fourth
		vain = append(vain, client.Dial(t, p.Addr, stranger).Greet("waits.example"))
	}
	var wait sync.WaitGroup
	for _, c := range vain {
		wait.Go(func() {
			if r := c.Say("MAIL FROM:<a@example.com>"); !strings.HasPrefix(r, "451 4.3.2") {
				t.Errorf("with every smtpd taken: %q", r)
			}
		})
	}
	wait.Wait()
	if r := client.Dial(t, p.Addr, stranger).Reply(); !strings.HasPrefix(r, "421 4.3.2") {
		t.Errorf("then: %q", r)
	}
	for _, c := range busy {
		c.Must("354", "DATA")
		c.Must("250", letter("busy")+".")
		c.Must("250", "NOOP") // by now the connection is in the pool; at the 250 it may be on its way there
	}
	c := client.Dial(t, p.Addr, stranger).Greet("next.example")
	if r := c.Send("a@example.com", "b@example.org", letter("next")); !strings.HasPrefix(r, "250") {
		t.Errorf("afterwards: %q", r)
	}
	c.Must("221", "QUIT")
	mta.Messages(3)
}

// TestIdleGivesBack: with the identities whose connections belong to a session, Postfix loses the
// connection of a session that idles, after upstream.idle and not before the session has ended.
func TestIdleGivesBack(t *testing.T) {
	t.Parallel()
	if outside(t) {
		return
	}
	for _, d := range knowingFronts {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			const idle = 5 * time.Second
			mta, p := d.start(t, postfix.Options{}, setup{upstream: fmt.Sprintf("idle = %q", idle)})
			var c *client.Client
			sent := 0
			for tries := 1; ; tries++ {
				begin := time.Now()
				c = client.Dial(t, p.Addr, stranger).Greet("idle.example")
				for i := range 3 { // within five seconds: one connection
					if r := c.Send("a@example.com", "b@example.org", letter(fmt.Sprint("m", i))); !strings.HasPrefix(r, "250") {
						t.Fatalf("%q", r)
					}
					sent++
				}
				if time.Since(begin) < idle {
					break
				}
				if c.Must("221", "QUIT"); tries == 10 {
					t.Skip("this machine is too busy: three messages take more than 5 s")
				}
			}
			mta.WaitLog(`disconnect from unknown\[192\.0\.2\.1\] .*mail=3 rcpt=3 data=3 quit=1`)
			c.Must("250", "NOOP")
			if r := c.Send("a@example.com", "b@example.org", letter("m3")); !strings.HasPrefix(r, "250") {
				t.Fatalf("%q", r)
			}
			c.Must("221", "QUIT")
			mta.WaitLog(`disconnect from unknown\[192\.0\.2\.1\] .*mail=1 rcpt=1 data=1 quit=1`) // at once
			if got := len(mta.Messages(sent + 1)); got != sent+1 {
				t.Errorf("%d messages", got)
			}
		})
	}
}
