package proxy

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/moongate/moongate/policy"
)

// sinkUpstream is the fastest of upstreams: it answers by the first letter.
func sinkUpstream(b *testing.B) net.Listener {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go sinkServe(c)
		}
	}()
	return l
}

func sinkServe(c net.Conn) {
	defer c.Close()
	r := bufio.NewReaderSize(c, 64<<10)
	io.WriteString(c, "220 sink\r\n")
	body := false
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return
		}
		switch {
		case body:
			if string(line) == ".\r\n" {
				body = false
				io.WriteString(c, "250 2.0.0 Ok: queued as X\r\n")
			}
		case line[0] == 'E':
			io.WriteString(c, "250-sink\r\n250-PIPELINING\r\n250 8BITMIME\r\n")
		case line[0] == 'D':
			body = true
			io.WriteString(c, "354 Go\r\n")
		default:
			io.WriteString(c, "250 2.1.0 Ok\r\n")
		}
	}
}

// BenchmarkMessage is a 4 KB message on a connection that stays open, command
// by command, through a rule at each of seven stages.
func BenchmarkMessage(b *testing.B) {
	all := []policy.Hook{policy.Connect, policy.Helo, policy.Mail, policy.Rcpt, policy.Data, policy.Headers}
	for _, bb := range []struct {
		name  string
		hooks []policy.Hook
	}{{"free", nil}, {"stream", all}, {"hold", append(all, policy.Message)}} {
		b.Run(bb.name, func(b *testing.B) {
			var rules []*policy.Rule
			for _, h := range bb.hooks {
				rules = append(rules, opinion(h))
			}
			up := sinkUpstream(b)
			srv := door(b, &recordingUpstream{l: up}, rules...)
			c, done := begin(b, srv)
			r := bufio.NewReader(c)
			say := func(s string) {
				io.WriteString(c, s)
				if _, err := r.ReadSlice('\n'); err != nil {
					b.Fatal(err)
				}
			}
			r.ReadSlice('\n')
			say("HELO c\r\n")
			text := "Subject: x\r\nFrom: a@example.net\r\n\r\n" + strings.Repeat(strings.Repeat("x", 62)+"\r\n", 64) + ".\r\n"
			b.ReportAllocs()
			for b.Loop() {
				say("MAIL FROM:<a@example.net>\r\n")
				say("RCPT TO:<b@example.org>\r\n")
				say("DATA\r\n")
				say(text)
			}
			fmt.Fprintf(c, "QUIT\r\n")
			<-done
			c.Close()
		})
	}
}

// BenchmarkConnection is the same for a client that comes for one message.
func BenchmarkConnection(b *testing.B) {
	up := sinkUpstream(b)
	srv := door(b, &recordingUpstream{l: up}, opinion(policy.Connect), opinion(policy.Helo), opinion(policy.Mail), opinion(policy.Rcpt))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	go srv.Serve(l)
	text := "Subject: x\r\n\r\n" + strings.Repeat(strings.Repeat("x", 62)+"\r\n", 64) + ".\r\n"
	r := bufio.NewReader(nil)
	b.ReportAllocs()
	for b.Loop() {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		r.Reset(c)
		r.ReadSlice('\n')
		for _, s := range []string{"HELO c\r\n", "MAIL FROM:<a@example.net>\r\n", "RCPT TO:<b@example.org>\r\n", "DATA\r\n", text, "QUIT\r\n"} {
			io.WriteString(c, s)
			if _, err := r.ReadSlice('\n'); err != nil {
				b.Fatal(err)
			}
		}
		c.Close()
	}
}
