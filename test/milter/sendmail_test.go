package milter_test

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/policytest"
	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/postfix"
)

const sendmailMC = `divert(-1)
include(@ROOT@/usr/share/sendmail/cf/m4/cf.m4)
divert(0)
OSTYPE(linux)
define(§confDOMAIN_NAME', §sm.example.org')
define(§QUEUE_DIR', §@DIR@/q')
define(§ALIAS_FILE', §')
define(§STATUS_FILE', §@DIR@/st')
define(§confPID_FILE', §@DIR@/pid')
define(§confHOST_STATUS_DIRECTORY', §')
define(§confTRUSTED_USER', §root')
define(§confTO_IDENT', §0')
define(§confREFUSE_LA', §10000')
define(§confQUEUE_LA', §10000')
define(§confSERVICE_SWITCH_FILE', §@DIR@/service.switch')
define(§SMART_HOST', §relay:[127.0.0.1]')
define(§RELAY_MAILER_ARGS', §TCP $h @RELAY@')
FEATURE(nocanonify)
FEATURE(accept_unresolvable_domains)
FEATURE(accept_unqualified_senders)
FEATURE(promiscuous_relay)
FEATURE(no_default_msa)
DAEMON_OPTIONS(§Name=MTA, Addr=127.0.0.1, Port=@PORT@')
@FILTER@
MAILER(smtp)
`

// sendmail runs an unpacked Sendmail that relays to relay and asks the milter,
// and returns where it listens.
func sendmail(t *testing.T, filter, relay string) string {
	t.Helper()
	root := os.Getenv("SENDMAIL_ROOT")
	if root == "" {
		root = "/usr/local/lib/sendmail-for-tests"
	}
	bin := root + "/usr/libexec/sendmail/sendmail"
	if _, err := os.Stat(bin); err != nil {
		t.Skip("there is no unpacked Sendmail (test/milter/sendmail.sh)")
	}
	if _, err := exec.LookPath("m4"); err != nil {
		t.Skip("m4 is not installed")
	}
	if os.Getuid() != 0 {
		t.Skip("Sendmail wants to be root")
	}
	dir := t.TempDir()
	addr := postfix.FreeAddr(t)
	port := func(addr string) string { _, p, _ := net.SplitHostPort(addr); return p }
	line := strings.Replace(documented(t), "7357", port(filter), 1)
	mc := strings.NewReplacer("@FILTER@", line, "@ROOT@", root, "@DIR@", dir, "@RELAY@", port(relay), "@PORT@", port(addr), "§", "`").Replace(sendmailMC)
	if err := os.Mkdir(dir+"/q", 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"service.switch": "hosts files\naliases files\n", "s.mc": mc} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cf, err := exec.Command("m4", "-D_CF_DIR_="+root+"/usr/share/sendmail/cf/", dir+"/s.mc").Output()
	if err != nil {
		t.Fatalf("m4: %v", err)
	}
	if err := os.WriteFile(dir+"/sendmail.cf", cf, 0o644); err != nil {
		t.Fatal(err)
	}
	// A host name without a dot makes Sendmail sleep for a minute, so it gets
	// one in a name space of its own.
	cmd := exec.Command("unshare", "--uts", "sh", "-c", "hostname sm.example.org && exec "+bin+" -C "+dir+"/sendmail.cf -bD -X "+dir+"/trace")
	cmd.Env = append(os.Environ(), "LD_LIBRARY_PATH="+root+"/usr/lib/x86_64-linux-gnu")
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		<-ended
		if t.Failed() {
			trace, _ := os.ReadFile(dir + "/trace")
			t.Logf("Sendmail: %s\n%s", out.String(), trace)
		}
	})
	for deadline := time.Now().Add(time.Minute); ; {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			// Until it has greeted it may not have asked the milter.
			c.SetDeadline(time.Now().Add(time.Minute))
			bufio.NewReader(c).ReadString('\n')
			c.Close()
			return addr
		}
		select {
		case <-ended:
			t.Skipf("Sendmail does not run here: %s", out.String())
		case <-time.After(20 * time.Millisecond): // there is no event to wait for
		}
		if time.Now().After(deadline) {
			t.Fatal("Sendmail does not listen")
		}
	}
}

// documented is the line for sendmail.mc that the documentation advises.
func documented(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile("../../docs/sendmail.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(page)) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "INPUT_MAIL_FILTER(") {
			return line
		}
	}
	t.Fatal("docs/sendmail.md has no line for sendmail.mc")
	return ""
}

// Sendmail, the other MTA, says nothing between two messages, has its own
// count of header fields and its own list of macros.
func TestSendmail(t *testing.T) {
	p := serve(t)
	mta := postfix.Start(t, postfix.Options{})
	p.use()
	addr := sendmail(t, p.addr, mta.Addr)
	var mu sync.Mutex
	var seen []string
	want := make(chan string, 2)
	note := func(s *policy.Session, ev *policy.Event) {
		mu.Lock()
		defer mu.Unlock()
		line := ev.Hook.String() + " " + s.ClientName() + " " + s.Helo
		if s.Tx != nil {
			line += " " + s.Proto + " " + s.Tx.In.From.Raw + " " + strconv.Itoa(len(s.Tx.In.Params))
		}
		if ev.Rcpt != nil {
			line += " " + ev.Rcpt.In.Raw
		}
		seen = append(seen, line)
	}
	var rules []*policy.Rule
	for _, h := range []policy.Hook{policy.Connect, policy.Helo, policy.Mail, policy.Rcpt, policy.Data, policy.Headers, policy.Message} {
		rules = append(rules, policytest.Rule(h, func(s *policy.Session, ev *policy.Event) (policy.Verdict, error) {
			note(s, ev)
			switch {
			case h == policy.Rcpt && ev.Rcpt.In.Local == "bad":
				return policytest.Reject("100% unknown"), nil
			case h == policy.Rcpt && ev.Rcpt.In.Local == "drop":
				return policy.Verdict{Action: policy.Drop}, nil
			case h == policy.Message:
				for _, e := range []policy.Edit{
					{Kind: policy.InsertHeader, Name: "X-Top", Value: "  two blanks"},
					{Kind: policy.AddHeader, Name: "X-End", Value: " a\r\n\tfold"},
					{Kind: policy.ChangeHeader, Index: 2, Name: "X-A", Value: " changed"},
					{Kind: policy.RemoveHeader, Index: 1, Name: "X-A"},
					{Kind: policy.RemoveHeader, Index: 2, Name: "X-A"},
					{Kind: policy.ChangeHeader, Index: 1, Name: "Subject", Value: " new"},
					{Kind: policy.ReplaceBody, Body: []byte("New body.\r\n" + strings.Repeat("0123456789abcdef\r\n", 5000))},
					{Kind: policy.SetSender, Path: policytest.Path(t, "new@example.net")},
					{Kind: policy.AddRcpt, Path: policytest.Path(t, "c@example.org")},
				} {
					if err := s.Tx.Do(e); err != nil {
						return policy.Verdict{}, err
					}
				}
				body, _ := s.Tx.Body()
				want <- string(s.Tx.Header().Append(nil)) + "\r\n" + string(body)
			}
			return policy.Verdict{}, nil
		}))
	}
	p.use(rules...) // not for the connection by which sendmail sees that it is up
	c := client.Dial(t, addr, "").Greet("client.example")
	for range 2 {
		c.Must("250", "MAIL FROM:<a@example.net> SIZE=300 BODY=8BITMIME")
		c.Must("550 5.7.1 <bad@example.org>... 100% unknown", "RCPT TO:<bad@example.org>")
		c.Must("250", "RCPT TO:<drop@example.org>")
		c.Must("250", "RCPT TO:<b@example.org>")
		if r := data(c, mail); !strings.HasPrefix(r, "250") {
			t.Fatalf("message: %q", r)
		}
	}
	c.Must("250", "MAIL FROM:<a@example.net>") // nothing of ESMTP in it
	c.Must("221", "QUIT")
	for n, m := range mta.Messages(2) {
		wanted := <-want
		// Sendmail's own Received is on top of all.
		got := string(m.Body())
		_, rest, ok := strings.Cut(got, "\r\n\tfor ")
		if ok {
			_, got, _ = strings.Cut(rest, "\r\n")
		} else if _, rest, ok = strings.Cut(got, "GMT\r\n"); ok {
			got = rest
		}
		if d := cmp.Diff(wanted, got); d != "" {
			t.Errorf("message %d (-policy +sendmail):\n%.3000s\n%.600s", n+1, d, m.Body())
		}
		from, _, _ := strings.Cut(m.From, " ")
		if from != "<new@example.net>" || strings.Contains(fmt.Sprint(m.Rcpts), "drop") || !strings.Contains(fmt.Sprint(m.Rcpts), "c@example.org") {
			t.Errorf("envelope: %s %s", m.From, m.Rcpts)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	who := "localhost[127.0.0.1] client.example ESMTP <a@example.net> 2"
	one := []string{"mail " + who, "rcpt " + who + " <bad@example.org>", "rcpt " + who + " <drop@example.org>", "rcpt " + who + " <b@example.org>", "data " + who, "headers " + who, "message " + who}
	all := slices.Concat([]string{"connect localhost[127.0.0.1] ", "helo localhost[127.0.0.1] client.example"}, one, one,
		[]string{"mail localhost[127.0.0.1] client.example ESMTP <a@example.net> 0"})
	if d := cmp.Diff(all, seen); d != "" {
		t.Errorf("the rules saw (-want +got):\n%s", d)
	}
}
