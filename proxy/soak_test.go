package proxy

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/moongate/moongate/policy"
)

// TestSoak lets many clients, some of whom behave badly, talk at once through
// rules that decide this and that to an upstream that fails now and then. What
// clients were promised is there, each message whole, and nothing is left
// behind: no connection, no place in the pool, no octet in the spool.
func TestSoak(t *testing.T) {
	u := newRecordingUpstream(t, -1)
	var n atomic.Int64
	whim := func(h policy.Hook) *policy.Rule {
		r := opinion(h)
		r.Evaluator = evalFunc(func(context.Context, *policy.Session, *policy.Event) (policy.Verdict, error) {
			switch n.Add(1) % 53 {
			case 1:
				return policy.Verdict{Action: policy.Reject, Reply: policy.Say(550, policy.Status{5, 7, 1}, "whim")}, nil
			case 2:
				return policy.Verdict{}, errors.New("broken")
			case 3:
				return policy.Verdict{Action: policy.Accept, Delay: time.Millisecond}, nil
			}
			return policy.Verdict{}, nil
		})
		return r
	}
	srv := door(t, u, whim(policy.Mail), whim(policy.Rcpt), whim(policy.Data), whim(policy.Headers), whim(policy.Message))
	srv.Hop.MaxConns = 8
	l := listen(t)
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()

	// Two seconds, or as long as it takes until something is promised: the slower
	// the machine, the less comes between two restarts.
	ctx, stop := context.WithTimeout(context.Background(), 2*patience)
	defer stop()
	var promised soakPromises
	time.AfterFunc(2*time.Second, func() { promised.enough(stop) })
	var clients sync.WaitGroup
	for i := range 24 {
		clients.Go(func() { soakClient(ctx, l.Addr().String(), uint64(i), &promised) })
	}
	clients.Go(func() { // an upstream that restarts, again and again
		for start := time.Now(); ctx.Err() == nil; {
			select {
			case <-ctx.Done():
			case <-time.After(max(20*time.Millisecond, time.Since(start)/100)):
			}
			u.mu.Lock()
			for c := range u.open {
				c.Close()
				break
			}
			u.mu.Unlock()
		}
	})
	clients.Wait()
	over, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := srv.Shutdown(over); err != nil {
		t.Error(err)
	}
	<-served
	srv.Hop.Close()
	if open := srv.Hop.pool.open; open != 0 {
		t.Errorf("%d places in the pool are lost", open)
	}
	messages, _, _, stray := u.got()
	if stray {
		t.Error("a stray CR or LF went upstream")
	}
	got := map[string]bool{}
	for _, m := range messages {
		if !strings.HasSuffix(m, "\r\nend\r\n") {
			t.Errorf("half a message: %q", m)
		}
		id, _, _ := strings.Cut(m, "\r\n")
		got[id] = true
	}
	for _, id := range promised.ids {
		if !got[id] {
			t.Errorf("the client was promised %s", id)
		}
	}
	t.Logf("%d messages arrived, %d were promised", len(messages), len(promised.ids))
	if len(promised.ids) == 0 {
		t.Error("nothing was promised")
	}
}

// soakPromises are the messages for which a client heard 250.
type soakPromises struct {
	mu   sync.Mutex
	ids  []string
	stop func() // nil: there is time left
}

func (p *soakPromises) add(id string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ids = append(p.ids, id)
	if p.stop != nil {
		p.stop()
	}
}

// enough calls stop, at the first promise if there is none yet.
func (p *soakPromises) enough(stop func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stop = stop; len(p.ids) > 0 {
		stop()
	}
}

// soakClient sends messages until ctx ends, well or badly.
func soakClient(ctx context.Context, addr string, seed uint64, promised *soakPromises) {
	r := rand.New(rand.NewPCG(seed, 7))
	for i := 0; ctx.Err() == nil; i++ {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			return
		}
		soakSession(ctx, c, r, fmt.Sprintf("X-Id: %d-%d", seed, i), promised)
		if r.IntN(4) == 0 {
			c.(*net.TCPConn).SetLinger(0)
		}
		c.Close()
	}
}

func soakSession(ctx context.Context, c net.Conn, r *rand.Rand, id string, promised *soakPromises) {
	in := bufio.NewReader(c)
	c.SetDeadline(time.Now().Add(patience))
	hear := func() string {
		line, err := in.ReadString('\n')
		if err != nil {
			return ""
		}
		return line
	}
	say := func(s string) string {
		io.WriteString(c, s+"\r\n")
		return hear()
	}
	hear()
	say("HELO c")
	for k := 0; k < 1+r.IntN(4) && ctx.Err() == nil; k++ {
		id := fmt.Sprintf("%s-%d", id, k)
		if r.IntN(3) == 0 { // in a group
			io.WriteString(c, "MAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\nRCPT TO:<c@example.org>\r\nDATA\r\n")
			for range 3 {
				hear()
			}
		} else {
			say("MAIL FROM:<a@example.net>")
			say("RCPT TO:<b@example.org>")
			io.WriteString(c, "DATA\r\n")
		}
		if answer := hear(); !strings.HasPrefix(answer, "354") {
			if answer == "" || say("RSET") == "" {
				return
			}
			continue
		}
		text := id + "\r\n\r\n" + strings.Repeat("some text\r\n", r.IntN(2000)) + "end\r\n.\r\n"
		if r.IntN(8) == 0 {
			io.WriteString(c, text[:r.IntN(len(text)-3)])
			return
		}
		io.WriteString(c, text)
		if r.IntN(8) == 0 {
			return
		}
		if strings.HasPrefix(hear(), "250") {
			promised.add(id)
		}
	}
	if r.IntN(2) == 0 {
		say("QUIT")
	}
}
