package milter_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moongate/moongate/internal/socket"
	"github.com/moongate/moongate/milter"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/policytest"
	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/postfix"
	"github.com/prometheus/client_golang/prometheus"
)

// notes is a rule at some hooks that writes down who the client is.
type notes struct {
	mu   sync.Mutex
	seen []string
}

func (n *notes) rules(hooks ...policy.Hook) (rules []*policy.Rule) {
	for _, h := range hooks {
		rules = append(rules, policytest.Rule(h, func(s *policy.Session, ev *policy.Event) (policy.Verdict, error) {
			line := fmt.Sprintf("%s %s %s", ev.Hook, s.ClientName(), s.Helo)
			if s.TLS != nil {
				line += " " + s.TLS.Version
			}
			n.mu.Lock()
			n.seen = append(n.seen, line)
			n.mu.Unlock()
			return policy.Verdict{}, nil
		}))
	}
	return rules
}

func (n *notes) want(t *testing.T, want ...string) {
	t.Helper()
	n.mu.Lock()
	defer n.mu.Unlock()
	if !slices.Equal(n.seen, want) {
		t.Errorf("the rules saw\n\t%s\nwant\n\t%s", strings.Join(n.seen, "\n\t"), strings.Join(want, "\n\t"))
	}
}

// With XCLIENT Postfix says that the client is another one: all that was known
// of the first is gone.
func TestXClientFromPostfix(t *testing.T) {
	p := serve(t)
	mta := postfix.Start(t, postfix.Options{Milters: []string{"inet:" + p.addr}, XClient: true, Main: map[string]string{"inet_protocols": "all"}})
	var n notes
	p.use(n.rules(policy.Connect, policy.Mail)...)
	c := client.Dial(t, mta.Addr, "").Greet("proxy.example")
	c.Must("220", "XCLIENT NAME=client.example ADDR=192.0.2.9 PORT=2525")
	c.Must("250", "EHLO client.example")
	c.Must("250", "MAIL FROM:<a@example.net>")
	c.Must("221", "QUIT")
	c = client.Dial(t, mta.Addr, "") // one session may do so once
	c.Reply()
	c.Must("220", "XCLIENT NAME=[UNAVAILABLE] ADDR=IPV6:2001:db8::9")
	c.Must("250", "HELO six.example")
	c.Must("250", "MAIL FROM:<a@example.net>")
	c.Must("221", "QUIT")
	n.want(t, "connect unknown[127.0.0.1] ", "connect client.example[192.0.2.9] ", "mail client.example[192.0.2.9] client.example",
		"connect unknown[127.0.0.1] ", "connect unknown[2001:db8::9] ", "mail unknown[2001:db8::9] six.example")
}

// Behind STARTTLS the rules know of it, and of the new EHLO.
func TestStartTLSFromPostfix(t *testing.T) {
	p := serve(t)
	cert := certificate(t)
	mta := postfix.Start(t, postfix.Options{Milters: []string{"inet:" + p.addr}, Smtpd: map[string]string{
		"smtpd_tls_security_level": "may", "smtpd_tls_chain_files": cert, "smtpd_tls_loglevel": "1",
	}})
	var n notes
	p.use(n.rules(policy.Helo, policy.Mail)...)
	c := client.Dial(t, mta.Addr, "").Greet("one.example")
	c.StartTLS(tls.VersionTLS12)
	c.Must("250", "EHLO two.example")
	c.Must("250", "MAIL FROM:<a@example.net>")
	c.Must("221", "QUIT")
	n.want(t, "helo unknown[127.0.0.1] one.example", "helo unknown[127.0.0.1] two.example TLSv1.2", "mail unknown[127.0.0.1] two.example TLSv1.2")
}

// certificate writes key and certificate into a file that Postfix can read.
func certificate(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{"mta.example.org"}, NotAfter: time.Now().Add(time.Hour)}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	b := pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
	b = append(b, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})...)
	path := t.TempDir() + "/cert.pem"
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// Over a unix socket that only Postfix's group may open; and when the server
// is gone, in the middle of a session, the client is asked to come again and
// nothing passes unjudged.
func TestUnixSocketFromPostfix(t *testing.T) {
	if why := postfix.Missing(); why != "" {
		t.Skip(why)
	}
	dir, err := os.MkdirTemp("", "milter-") // t.TempDir is closed to Postfix
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	place := socket.Place{Address: "unix:" + dir + "/s", Group: "postfix"}
	env, _ := policytest.Env(policy.Milter, policytest.Always(policy.Rcpt, policytest.Reject("not here")))
	serveOn := func() (*milter.Server, net.Listener, chan error) {
		l, err := place.Listen()
		if err != nil {
			t.Fatal(err)
		}
		srv, done := &milter.Server{Env: env}, make(chan error, 1)
		go func() { done <- srv.Serve(l) }()
		return srv, l, done
	}
	srv, _, done := serveOn()
	mta := postfix.Start(t, postfix.Options{Milters: []string{"unix:" + dir + "/s"}})
	c := client.Dial(t, mta.Addr, "").Greet("one.example")
	c.Must("250", "MAIL FROM:<a@example.net>")
	c.Must("550 5.7.1 not here", "RCPT TO:<b@example.org>")
	srv.Close()
	<-done
	c.Must("451 4.7.1", "RCPT TO:<b@example.org>")
	c = client.Dial(t, mta.Addr, "").Greet("one.example")
	c.Must("451 4.7.1", "MAIL FROM:<a@example.net>")

	srv, _, done = serveOn()
	c = client.Dial(t, mta.Addr, "").Greet("one.example")
	c.Must("250", "MAIL FROM:<a@example.net>")
	c.Must("550 5.7.1 not here", "RCPT TO:<b@example.org>")
	c.Must("221", "QUIT")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil {
		t.Errorf("shutdown: %v", err)
	}
	<-done
}

// A connection that is one too many is closed at once: the client hears the same
// as when the milter is away, without a wait, and the message of the other one
// goes on. When that one has gone there is room again.
func TestOneConnectionTooMany(t *testing.T) {
	env, _ := policytest.Env(policy.Milter, policytest.Always(policy.Rcpt, policytest.Reject("not here")))
	reg := prometheus.NewRegistry()
	// The MTA tells its milter of an end after its client.
	quiet := func() {
		for {
			families, err := reg.Gather()
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range families {
				if f.GetName() == "moongate_milter_connections" && f.GetMetric()[0].GetGauge().GetValue() == 0 {
					return
				}
			}
			runtime.Gosched()
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv, done := &milter.Server{Env: env, Connections: 1, Metrics: milter.NewMetrics(reg)}, make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	defer func() { srv.Close(); <-done }()
	mta := postfix.Start(t, postfix.Options{Milters: []string{"inet:" + l.Addr().String()}})
	quiet() // the one that tried whether Postfix is up
	first := client.Dial(t, mta.Addr, "").Greet("one.example")
	first.Must("250", "MAIL FROM:<a@example.net>")
	second := client.Dial(t, mta.Addr, "").Greet("two.example")
	second.Must("451 4.7.1", "MAIL FROM:<a@example.net>")
	first.Must("550 5.7.1 not here", "RCPT TO:<b@example.org>")
	first.Must("221", "QUIT")
	quiet()
	third := client.Dial(t, mta.Addr, "").Greet("three.example")
	third.Must("250", "MAIL FROM:<a@example.net>")
	third.Must("550 5.7.1 not here", "RCPT TO:<b@example.org>")
	third.Must("221", "QUIT")
}
