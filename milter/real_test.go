package milter

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/emersion/go-msgauth/dkim"

	"github.com/moongate/moongate/policy"
)

// installed skips a test where a program is not installed.
func installed(t *testing.T, program, pkg string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		for _, dir := range []string{"/usr/sbin/", "/usr/bin/"} {
			if _, err := os.Stat(dir + program); err == nil {
				return dir + program
			}
		}
		t.Skipf("%s is not installed (Debian package %s)", program, pkg)
	}
	return path
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// dkimKey makes a key file for opendkim and the record to verify with.
func dkimKey(t *testing.T, path string) (record string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	b := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	if err := os.WriteFile(path, b, 0o600); err != nil {
		t.Fatal(err)
	}
	pub, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(pub)
}

// opendkim signs simple/simple what goes through our client: double blanks,
// folds, 8 bits, long bodies; the signature verifies over the very bytes that
// go on.
func TestOpenDKIM(t *testing.T) {
	bin := installed(t, "opendkim", "opendkim")
	dir := t.TempDir()
	record := dkimKey(t, dir+"/key")
	write(t, dir+"/conf", fmt.Sprintf(`Syslog no
Canonicalization simple/simple
Mode s
Domain example.net
Selector sel
KeyFile %s/key
Socket local:%s/s
InternalHosts 0.0.0.0/0
RequireSafeKeys false
SignHeaders From,To,Subject,X-Two,X-8bit,X-Fold,X-None
`, dir, dir))
	addr := "unix:" + dir + "/s"
	start(t, addr, bin, "-f", "-x", dir+"/conf")
	d := doorOf(t, t.Context(), []policy.Filter{&Filter{Label: "opendkim", Address: addr, Sign: true, Hostname: "mx.example.org"}})
	defer d.close()
	d.connect()
	d.helo("client.example")
	const header = "From: a@example.net\r\nTo:  two@example.org,\r\n\tthree@example.org\r\nsubject:no blank\r\nX-Two:  two  blanks \r\nX-8bit: \xe4\xf6 \xc3\xa4\r\nX-Fold:\r\n first\r\n\t second\r\nX-None:\r\n"
	for name, body := range map[string]string{
		"short": "Hello  there \r\n\r\nend\r\n", "empty": "", "no end": "no line end", "blank end": "a\r\n\r\n\r\n",
		"a chunk": strings.Repeat("0123456789abcde\r\n", 3855) + "\r\n", "long": strings.Repeat("\xe4bcdefgh ijk\r\n", 20000),
		"exactly a chunk": strings.Repeat("x", 65533) + "\r\n", "long line": strings.Repeat("y", 200000) + "\r\n",
	} {
		d.mail("a@example.net")
		d.rcpt("b@example.org")
		if v := d.message(header, body); v.Decided() {
			t.Fatalf("%s: %s", name, say(v))
		}
		whole := d.out() + "\r\n" + d.outBody()
		if !strings.Contains(whole, "DKIM-Signature:") || !strings.HasSuffix(whole, header+"\r\n"+body) {
			t.Fatalf("%s: goes on as\n%.1000s", name, whole)
		}
		verify(t, name, whole, record)
		d.done(policy.Verdict{Action: policy.Accept})
	}
}

func verify(t *testing.T, name, whole, record string) {
	t.Helper()
	got, err := dkim.VerifyWithOptions(bytes.NewReader([]byte(whole)), &dkim.VerifyOptions{
		LookupTXT: func(string) ([]string, error) { return []string{record}, nil },
	})
	if err != nil || len(got) != 1 || got[0].Err != nil {
		t.Errorf("%s: %v, %v", name, got, err)
		for _, v := range got {
			t.Errorf("%s: %s: %v", name, v.Domain, v.Err)
		}
	}
}

// rspamd refuses GTUBE, and knows the client and his HELO at every message of a
// session, though it forgets them with each.
func TestRspamd(t *testing.T) {
	bin := installed(t, "rspamd", "rspamd")
	dir := t.TempDir()
	addr := "unix:" + dir + "/s"
	// No plugin, no map, no question to the outside: what is tested is the
	// protocol, and the test patterns need nothing.
	write(t, dir+"/rspamd.conf", `
options {
  pidfile = "`+dir+`/rspamd.pid"; tempdir = "`+dir+`"; filters = ""; disable_hyperscan = true; task_timeout = 60s; enable_test_patterns = true;
  dns { timeout = 0.05s; retransmits = 1; nameserver = ["127.0.0.1:9"]; }
}
logging { type = "console"; level = "error"; }
metric "default" { actions { reject = 15; add_header = 6; } }
lua = "`+dir+`/rules.lua";
worker "rspamd_proxy" {
  bind_socket = "`+dir+`/s mode=0600"; milter = yes; timeout = 60s; count = 1; max_retries = 1;
  upstream "local" { default = yes; self_scan = yes; }
}
`)
	write(t, dir+"/rules.lua", `rspamd_config:register_symbol({ name = 'TELL', type = 'postfilter', callback = function(task)
  task:set_milter_reply({ add_headers = { ['X-Helo'] = tostring(task:get_helo()), ['X-From-IP'] = tostring(task:get_from_ip()) } })
end })
`)
	args := []string{"-f", "-c", dir + "/rspamd.conf", "--var=LOCAL_CONFDIR=" + dir, "--var=DBDIR=" + dir, "--var=RUNDIR=" + dir, "--var=LOGDIR=" + dir}
	if os.Getuid() == 0 {
		args = append(args, "--insecure")
	}
	start(t, addr, bin, args...)
	f := &Filter{Label: "rspamd", Address: addr, Hostname: "mx.example.org"}
	d := doorOf(t, t.Context(), []policy.Filter{f})
	defer d.close()
	d.connect()
	d.helo("helo.client.example")
	const header = "From: a@example.net\r\nTo: b@example.org\r\nSubject: hello\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@example.net>\r\n"
	ask := func(pattern string) policy.Verdict {
		t.Helper()
		d.mail("a@example.net")
		d.rcpt("b@example.org")
		return d.message(header, pattern+"\r\n")
	}
	for range 2 {
		v := ask("An ordinary message.")
		if v.Decided() {
			t.Fatalf("an ordinary message: %s", say(v))
		}
		helo, _ := d.s.Tx.Header().Get("X-Helo", 1)
		ip, _ := d.s.Tx.Header().Get("X-From-IP", 1)
		if helo.Value() != "helo.client.example" || ip.Value() != "192.0.2.1" {
			t.Errorf("rspamd knows the client as %q, %q", helo.Value(), ip.Value())
		}
		d.done(policy.Verdict{Action: policy.Accept})
		v = ask("XJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X")
		if got := say(v); !strings.HasPrefix(got, "reject 554 5.7.1") {
			t.Errorf("GTUBE: %q", got)
		}
		d.done(v)
		v = ask("YJS*C4JDBQADN1.NSBN3*2IDNEN*GTUBE-STANDARD-ANTI-UBE-TEST-EMAIL*C.34X")
		if out := d.out(); v.Decided() || !strings.Contains(out, "\r\nX-Spam: Yes\r\n") { // docs/recipes.md counts on it
			t.Errorf("its action add header: %s\n%s", say(v), out)
		}
		d.done(policy.Verdict{Action: policy.Accept})
	}
}

// clamav-milter refuses what clamd knows, with the virus's name.
func TestClamAV(t *testing.T) {
	clamd, bin := installed(t, "clamd", "clamav-daemon"), installed(t, "clamav-milter", "clamav-milter")
	dir := t.TempDir()
	addr := "unix:" + dir + "/s"
	const virus = "this-is-our-own-test-virus"
	write(t, dir+"/db/test.ndb", fmt.Sprintf("Test.Own:0:*:%x\n", virus))
	write(t, dir+"/clamd.conf", "Foreground yes\nLocalSocket "+dir+"/clamd.sock\nDatabaseDirectory "+dir+"/db\nUser root\nLogFile "+dir+"/clamd.log\nTemporaryDirectory "+dir+"\n")
	write(t, dir+"/milter.conf", "Foreground yes\nMilterSocket unix:"+dir+"/s\nClamdSocket unix:"+dir+"/clamd.sock\nUser root\nOnInfected Reject\nRejectMsg virus %v\nAddHeader Replace\nTemporaryDirectory "+dir+"\n")
	if os.Getuid() != 0 {
		t.Skip("clamd wants to change its user: root only")
	}
	startUntil(t, func() bool {
		c, err := net.Dial("unix", dir+"/clamd.sock")
		if err == nil {
			c.Close()
		}
		return err == nil
	},
		clamd, "--config-file="+dir+"/clamd.conf")
	// It looks for clamd in a thread of its own, and says tempfail until it has
	// found it.
	startUntil(t, func() bool {
		d := doorOf(t, t.Context(), []policy.Filter{&Filter{Address: addr}})
		defer d.close()
		v := converse(d)
		d.done(v)
		return !v.Decided()
	}, bin, "--config-file="+dir+"/milter.conf")
	d := doorOf(t, t.Context(), []policy.Filter{&Filter{Label: "clamav", Address: addr}})
	defer d.close()
	d.connect()
	d.helo("client.example")
	for range 2 {
		d.mail("a@example.net")
		d.rcpt("b@example.org")
		v := d.message(aHeader, "Nothing here.\r\n")
		if _, ok := d.s.Tx.Header().Get("X-Virus-Scanned", 1); v.Decided() || !ok {
			t.Errorf("clean: %s %q", say(v), d.out())
		}
		d.done(v)
		d.mail("a@example.net")
		d.rcpt("b@example.org")
		v = d.message(aHeader, strings.Repeat("line\r\n", 20000)+virus+"\r\n")
		if got := say(v); v.Action != policy.Reject || !strings.Contains(got, "virus Test.Own") {
			t.Errorf("infected: %q", got)
		}
		d.done(v)
	}
}
