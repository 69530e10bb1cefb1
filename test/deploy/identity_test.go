package deploy

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/postfix"
)

// withHosts gives the processes that this test starts from now on an /etc/hosts of their own: names
// are looked up forth and back without a resolver. It is called in the network of outside, so that this
// process ends with the test.
func withHosts(t *testing.T, hosts string) {
	t.Helper()
	// A mount namespace belongs to a thread, and what the thread starts inherits it. The thread is never
	// given back, so no other goroutine sees these mounts.
	runtime.LockOSThread()
	if err := syscall.Unshare(syscall.CLONE_NEWNS); err != nil {
		t.Skipf("no mount namespace: %v", err)
	}
	if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
		t.Skipf("no private mounts: %v", err)
	}
	dir := t.TempDir()
	os.Chmod(dir, 0o755)
	for name, text := range map[string]string{
		"hosts":       hosts,
		"resolv.conf": "nameserver 127.0.0.1\noptions timeout:1 attempts:1\n", // refuses at once
	} {
		file := filepath.Join(dir, name)
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := syscall.Mount(file, "/etc/"+name, "", syscall.MS_BIND, ""); err != nil {
			t.Skipf("no bind mount: %v", err)
		}
	}
}

// hosts names two clients.
const hosts = `192.0.2.1 client.example.com
192.0.2.77 other.example.net
`

// TestPostfixKnowsTheClient: the log and the Received line of Postfix name each client, with the
// messages of one session and of the next, whatever came before over whatever connection.
func TestPostfixKnowsTheClient(t *testing.T) {
	if outside(t) {
		return
	}
	for _, d := range knowingFronts {
		t.Run(d.String(), func(t *testing.T) {
			withHosts(t, hosts)
			mta, p := d.start(t, postfix.Options{Main: map[string]string{
				"smtpd_peername_lookup": "yes",
			}}, setup{listen: "[::]:0"})
			addr6 := "[::1]" + p.Addr[strings.LastIndex(p.Addr, ":"):]
			for i, from := range []struct{ addr, dial, name, helo string }{
				{stranger, p.Addr, "client.example.com[192.0.2.1]", "first.helo.example"},
				{another, p.Addr, "other.example.net[192.0.2.77]", "second.helo.example"},
				{neighbour, p.Addr, "unknown[203.0.113.5]", "[203.0.113.5]"},
				{"2001:db8::1", addr6, "unknown[2001:db8::1]", "sixth.helo.example"},
				{"127.0.0.1", p.Addr, "unknown[127.0.0.1]", "local"},
				{stranger, p.Addr, "client.example.com[192.0.2.1]", "again.helo.example"},
			} {
				c := client.Dial(t, from.dial, from.addr).Greet(from.helo)
				for n := range 2 {
					id := fmt.Sprintf("m%d-%d", i, n)
					if r := c.Send("a@example.com", "b@example.org", letter(id)); !strings.HasPrefix(r, "250") {
						t.Fatalf("%s: %q", id, r)
					}
					// Another HELO in the middle of a session is this client's from then on.
					helo, changed := from.helo, "changed-"+strings.Trim(from.helo, "[]")
					if n == 0 {
						c.Must("250", "EHLO "+changed)
					} else {
						helo = changed
					}
					msgs := mta.Messages(2*i + n + 1)
					got := msgs[len(msgs)-1]
					host, address, _ := strings.Cut(strings.TrimSuffix(from.name, "]"), "[")
					if strings.Contains(address, ":") {
						address = "IPv6:" + address
					}
					want := fmt.Sprintf("Received: from %s (%s [%s])\r\n\tby mta.example.org (Postfix) with ESMTP id ", helo, host, address)
					if !strings.HasPrefix(got.Received(), want) {
						t.Errorf("%s: %q\nwant %q", id, got.Received(), want)
					}
					mta.WaitLog(`smtpd\[\d+\]: [0-9A-F]+: client=` + regexp.QuoteMeta(from.name) + `$`)
				}
				c.Must("221", "QUIT")
			}
			if strings.Contains(mta.Log(), "reject") {
				t.Error("something was refused")
			}
		})
	}
}

// TestIPv6Client: our door has IPv6 where Postfix has it switched off; its mail passes, and is logged.
func TestIPv6Client(t *testing.T) {
	if outside(t) {
		return
	}
	mta, addrs := startAll(t, postfix.Options{Main: map[string]string{"inet_protocols": "ipv4"}})
	for _, d := range shippedFronts {
		p := setup{listen: "[::]:0"}.start(t, d.identity, addrs[d.listener])
		c := client.Dial(t, "[::1]"+p.Addr[strings.LastIndex(p.Addr, ":"):], "2001:db8::1").Greet("client.example.com")
		if r := c.Send("a@example.com", "b@example.org", letter("six")); !strings.HasPrefix(r, "250") {
			t.Errorf("%s: %q", d, r)
		} else {
			mta.WaitLog(r[strings.LastIndex(r, " ")+1:] + `: .*client=unknown\[2001:db8::1\]`)
		}
		c.Must("221", "QUIT")
	}
}

// TestPostfixJudgesTheClient: restrictions by client, by name and by HELO work behind moongate, and the
// client hears Postfix's own words, at MAIL or where Postfix says them.
func TestPostfixJudgesTheClient(t *testing.T) {
	if outside(t) {
		return
	}
	for _, d := range knowingFronts {
		t.Run(d.String(), func(t *testing.T) {
			withHosts(t, hosts)
			_, p := d.start(t, postfix.Options{Main: map[string]string{
				"smtpd_peername_lookup":     "yes",
				"smtpd_client_restrictions": "check_client_access inline:{ {192.0.2.77 = 550 5.7.1 not from your address}, {203.0.113.5 = 421 4.7.0 go away} }, reject_unknown_client_hostname",
				"smtpd_helo_restrictions":   "check_helo_access inline:{ liar.example=REJECT }",
			}}, setup{})
			for _, tc := range []struct{ from, helo, want string }{
				{stranger, "honest.example", "250 2.1.5 Ok"},
				{stranger, "liar.example", "554 5.7.1 <liar.example>: Helo command rejected: Access denied"},
				{another, "honest.example", "550 5.7.1 <other.example.net[192.0.2.77]>: Client host rejected: not from your address"},
				{neighbour, "honest.example", "421 4.7.0 <unknown[203.0.113.5]>: Client host rejected: go away"},
			} {
				c := client.Dial(t, p.Addr, tc.from).Greet(tc.helo)
				c.Must("250", "MAIL FROM:<a@example.com>")
				if r := c.Say("RCPT TO:<b@example.org>"); r != tc.want {
					t.Errorf("%s, %s: %q, want %q", tc.from, tc.helo, r, tc.want)
				}
				c.Close()
			}
			// Refused at the door of Postfix: the verdict on the client is given at MAIL.
			o := postfix.Options{Main: map[string]string{
				"smtpd_delay_reject": "no", "smtpd_client_restrictions": "check_client_access inline:{ {192.0.2.77 = 550 5.7.1 not from your address} }",
				"smtpd_helo_restrictions": "check_helo_access inline:{ liar.example=REJECT }",
			}}
			mta, p := d.start(t, o, setup{})
			for _, tc := range []struct{ from, helo, want string }{
				{another, "honest.example", "5"},
				{stranger, "liar.example", "554 5.7.1 <liar.example>: Helo command rejected: Access denied"},
			} {
				c := client.Dial(t, p.Addr, tc.from).Greet(tc.helo)
				if r := c.Say("MAIL FROM:<a@example.com>"); !strings.HasPrefix(r, tc.want) {
					t.Errorf("%s, %s: %q, want %q", tc.from, tc.helo, r, tc.want)
				}
				c.Close()
			}
			c := client.Dial(t, p.Addr, stranger).Greet("honest.example")
			if r := c.Send("a@example.com", "b@example.org", letter("honest")); !strings.HasPrefix(r, "250") {
				t.Errorf("honest: %q", r)
			}
			if got := len(mta.Messages(1)); got != 1 {
				t.Errorf("%d messages", got)
			}
		})
	}
}

// TestPooledIdentity: with xforward a few connections serve all clients, and each message is logged
// under the client that sent it, never under the one before.
func TestPooledIdentity(t *testing.T) {
	if outside(t) {
		return
	}
	d := deployment{"xforward", "xforward.master.cf"}
	mta, p := d.start(t, postfix.Options{}, setup{upstream: "max_connections = 2"})
	clients := map[string]*client.Client{}
	for i, from := range []string{stranger, another, stranger, neighbour, another, neighbour, stranger} {
		if clients[from] == nil {
			clients[from] = client.Dial(t, p.Addr, from).Greet("helo-of-" + from + ".example")
		}
		id := fmt.Sprintf("m%d", i)
		if r := clients[from].Send("a@example.com", "b@example.org", letter(id)); !strings.HasPrefix(r, "250") {
			t.Fatalf("%s: %q", id, r)
		}
		mta.Messages(i + 1)
		queued := mta.WaitLog(`([0-9A-F]+): message-id=<` + id + `@example\.com>`)[1]
		mta.WaitLog(queued + `: client=.*orig_client=unknown\[` + regexp.QuoteMeta(from) + `\]$`)
		raw := string(mta.Inside.Messages()[i].Raw)
		if !strings.Contains(raw, "Received: from helo-of-"+from+".example (["+from+"])\r\n") {
			t.Errorf("%s from %s:\n%s", id, from, raw)
		}
	}
	for _, c := range clients {
		c.Must("221", "QUIT")
	}
	// At most the probe of each of the first sessions, and the two connections.
	if n := len(regexp.MustCompile(`behind-moongate/smtpd\[\d+\]: connect from`).FindAllString(mta.Log(), -1)); n > 4 {
		t.Errorf("%d connections:\n%s", n, mta.Log())
	}
}
