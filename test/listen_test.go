package test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/moongate"
	"github.com/moongate/moongate/test/postfix"
	"github.com/moongate/moongate/test/upstream"
)

// TestListeners serves on a Unix socket, on IPv6 and on two ports at once; a client of the socket is no
// stranger.
func TestListeners(t *testing.T) {
	up := upstream.Start(t, "")
	config := strings.Replace(moongate.Default, "[upstream]", `[[listener]]
address = "unix:{dir}/smtp.sock"

[[listener]]
address = "[::1]:0"

[upstream]`, 1)
	if l, err := net.Listen("tcp", "[::1]:0"); err != nil {
		t.Log("no IPv6 here: ", err)
		config = strings.Replace(config, `"[::1]:0"`, `"127.0.0.1:0"`, 1)
	} else {
		l.Close()
	}
	p := moongate.Start(t, moongate.Options{Upstream: up.Addr, Config: config})
	socket := filepath.Join(p.Dir, "smtp.sock")
	for i, addr := range append([]string{socket}, p.Addrs...) {
		network := "tcp"
		if addr == p.Admin {
			continue
		}
		if strings.HasPrefix(strings.TrimPrefix(addr, "unix:"), "/") {
			network, addr = "unix", strings.TrimPrefix(addr, "unix:")
		}
		c, err := net.Dial(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		c.SetDeadline(time.Now().Add(patience))
		in := bufio.NewReader(c)
		for _, line := range []string{"", "HELO c.example.com", "MAIL FROM:<a@example.com>", "RCPT TO:<b@elsewhere.example>", "DATA",
			fmt.Sprintf("Subject: %d\r\n\r\n.", i), "QUIT"} {
			if line != "" {
				fmt.Fprintf(c, "%s\r\n", line)
			}
			if reply, err := in.ReadString('\n'); err != nil || reply[0] != '2' && reply[0] != '3' {
				t.Errorf("%s: %s: %q %v", addr, line, reply, err)
			}
		}
		c.Close()
	}
	if n := len(up.Messages()); n != 4 {
		t.Errorf("%d messages, want 4: the socket twice, the two ports", n)
	}
	if st, err := os.Stat(socket); err != nil || st.Mode().Perm()&0o002 != 0 {
		t.Errorf("the socket: %v %v", st.Mode(), err)
	}
}

// TestOwnUpstream is a loop: an upstream that is one of our own listeners.
func TestOwnUpstream(t *testing.T) {
	addr := postfix.FreeAddr(t)
	dir := moongate.Write(t, moongate.Options{Upstream: addr, Config: strings.Replace(moongate.Default, `address = "127.0.0.1:0"`, `address = "`+addr+`"`, 1)})
	if code, out := moongate.Run(t, dir, "check", "-c", "moongate.toml"); code != 78 || !strings.Contains(out, "moongate.toml:") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
}

// TestTakenPort is no matter of the configuration: 69, which a supervisor may try again.
func TestTakenPort(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	dir := moongate.Write(t, moongate.Options{Upstream: "127.0.0.1:1",
		Config: strings.Replace(moongate.Default, `address = "127.0.0.1:0"`, `address = "`+l.Addr().String()+`"`, 1)})
	if code, out := moongate.Run(t, dir, "serve", "-c", "moongate.toml"); code != 69 || !strings.Contains(out, l.Addr().String()) {
		t.Errorf("exit code %d:\n%s", code, out)
	}
}

// TestTextLog has lines that the tools for Postfix's log can read.
func TestTextLog(t *testing.T) {
	up := upstream.Start(t, "RCPT /no@/ 550 5.1.1 no such user")
	addr := postfix.FreeAddr(t)
	dir := moongate.Write(t, moongate.Options{Upstream: up.Addr,
		Config: strings.Replace(moongate.Default, `address = "127.0.0.1:0"`, `address = "`+addr+`"`, 1) + "\n[log]\nformat = \"text\"\n"})
	out := filepath.Join(dir, "log")
	f, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, dir, f)
	serves(t, addr)
	s := client.Dial(t, addr, "").Greet("client.example.com")
	s.Must("250", "MAIL FROM:<a@example.com>")
	s.Must("550", "RCPT TO:<no@example.org>")
	s.Must("250", "RCPT TO:<b@example.org>")
	s.Must("354", "DATA")
	s.Must("250", "Subject: x\r\nMessage-ID: <1@example.com>\r\n\r\n.")
	s.Must("221", "QUIT")
	var log string
	if !wait(func() bool {
		b, _ := os.ReadFile(out)
		log = string(b)
		return strings.Contains(log, "ehlo=1 mail=1")
	}) {
		t.Fatalf("the log:\n%s", log)
	}
	for _, want := range []string{
		`(?m)^\S+ \S+ moongate/smtpd\[\d+\]: connect from unknown\[127\.0\.0\.1\]`,
		`reject: RCPT from unknown\[127\.0\.0\.1\]: 550 5\.1\.1 <no@example\.org>: no such user; from=<a@example\.com> to=<no@example\.org> proto=ESMTP helo=<client\.example\.com>`,
		`to=<b@example\.org>.*status=sent`,
		`disconnect from unknown\[127\.0\.0\.1\].* ehlo=1 mail=1 .*rcpt=1/2`,
	} {
		if !regexp.MustCompile(want).MatchString(log) {
			t.Errorf("the log has no line like %s:\n%s", want, log)
		}
	}
}
