package milter_test

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/policytest"
	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/postfix"
)

// dovecot lets everybody in: Dovecot's authentication protocol, as Postfix
// speaks it. It returns smtpd_sasl_path.
func dovecot(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	serve := func(c net.Conn) {
		defer c.Close()
		fmt.Fprint(c, "VERSION\t1\t1\nMECH\tPLAIN\tplaintext\nSPID\t1\nCUID\t1\nCOOKIE\t0123456789abcdef0123456789abcdef\nDONE\n")
		for in := bufio.NewScanner(c); in.Scan(); {
			f := strings.Split(in.Text(), "\t")
			if f[0] != "AUTH" || len(f) < 3 {
				continue
			}
			for _, arg := range f[3:] {
				if resp, ok := strings.CutPrefix(arg, "resp="); ok {
					b, _ := base64.StdEncoding.DecodeString(resp)
					fmt.Fprintf(c, "OK\t%s\tuser=%s\n", f[1], strings.Split(string(b), "\x00")[1])
				}
			}
		}
	}
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { serve(c) })
		}
	})
	t.Cleanup(wg.Wait) // Postfix, which is started later, is gone by then
	t.Cleanup(func() { l.Close() })
	return "inet:" + l.Addr().String()
}

// Who has logged in at Postfix is conn.user from MAIL on, and no stranger; the
// id under which Postfix queues a message is in the audit line.
func TestLoginFromPostfix(t *testing.T) {
	ended := newRecorder()
	p := serve(t, func(e *policy.Env) { e.Recorder = ended })
	mta := postfix.Start(t, postfix.Options{Milters: []string{"inet:" + p.addr}, XClient: true, Smtpd: map[string]string{
		"smtpd_sasl_auth_enable": "yes", "smtpd_sasl_type": "dovecot", "smtpd_sasl_path": dovecot(t),
	}})
	var mu sync.Mutex
	var seen []string
	var rules []*policy.Rule
	for _, h := range []policy.Hook{policy.Helo, policy.Mail, policy.Rcpt, policy.Message} {
		rules = append(rules, policytest.Rule(h, func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
			mu.Lock()
			defer mu.Unlock()
			seen = append(seen, fmt.Sprintf("%s %q %s stranger=%v", h, s.User, s.Proto, s.Stranger))
			return policy.Verdict{}, nil
		}))
	}
	p.use(rules...)
	for _, sender := range []string{"user", "anybody"} {
		c := client.Dial(t, mta.Addr, "")
		c.Reply()
		c.Must("220", "XCLIENT NAME=client.example ADDR=192.0.2.9")
		c.Must("250", "EHLO one.example")
		if sender == "user" {
			c.Must("235", "AUTH PLAIN "+base64.StdEncoding.EncodeToString([]byte("\x00joe\x00secret")))
		}
		c.Must("250", "MAIL FROM:<"+sender+"@example.net>")
		c.Must("250", "RCPT TO:<b@example.org>")
		r := data(c, mail)
		_, id, ok := strings.Cut(r, "queued as ")
		if !ok {
			t.Fatalf("message: %q", r)
		}
		c.Must("221", "QUIT")
		ended.word(sender)
		lines := p.logs.FilterMessage("message").All()
		if l := lines[len(lines)-1].ContextMap(); l["queued_as"] != id || l["upstream"] != "mta.example.org" {
			t.Errorf("Postfix queues %s, the audit line says %v", id, l)
		}
	}
	want := []string{
		`helo "" SMTP stranger=true`, `mail "joe" ESMTP stranger=false`, `rcpt "joe" ESMTP stranger=false`, `message "joe" ESMTP stranger=false`,
		`helo "" SMTP stranger=true`, `mail "" SMTP stranger=true`, `rcpt "" SMTP stranger=true`, `message "" SMTP stranger=true`,
	}
	mu.Lock()
	defer mu.Unlock()
	if d := cmp.Diff(want, seen); d != "" {
		t.Errorf("the rules saw (-want +got):\n%s", d)
	}
}
