package milter_test

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
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/emersion/go-msgauth/dkim"

	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/moongate"
	"github.com/moongate/moongate/test/postfix"
)

// dkimKey makes a key: as a file for whoever signs, and as the record to verify
// with.
func dkimKey(t *testing.T) (file, record string) {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	pub, err := x509.MarshalPKIXPublicKey(&key.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	file = string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}))
	return file, "v=DKIM1; k=rsa; p=" + base64.StdEncoding.EncodeToString(pub)
}

// openDKIM runs opendkim with these settings and files, where {dir} is the
// directory of the files, until the test ends or stop is called.
func openDKIM(t *testing.T, conf string, files map[string]string) (addr string, stop func()) {
	t.Helper()
	const program = "/usr/sbin/opendkim"
	if _, err := os.Stat(program); err != nil {
		t.Skip("opendkim is not installed (Debian package opendkim)")
	}
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(dir+"/"+name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	conf = strings.ReplaceAll(conf, "{dir}", dir) + "Syslog no\nRequireSafeKeys false\nSocket local:" + dir + "/s\n"
	if err := os.WriteFile(dir+"/conf", []byte(conf), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(program, "-f", "-x", dir+"/conf")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL); cmd.Wait() })
	t.Cleanup(stop)
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) { // there is no event to wait for
		c, err := net.Dial("unix", dir+"/s")
		if err == nil {
			c.Close()
			return "unix:" + dir + "/s", stop
		}
		if time.Now().After(deadline) {
			stop()
			t.Fatalf("%v\n%s", err, said.String())
		}
	}
}

// What no signature survives that is changed on the way: double blanks, folds, no
// blank behind a colon, 8-bit octets, dots, blank lines at the end.
const delicate = "From: a@example.net\r\nTo:  b@example.org,\r\n\tc@example.org\r\nDate: Thu, 1 Jan 2026 00:00:00 +0000\r\nMessage-ID: <1@example.net>\r\n" +
	"subject:no blank  and two \r\nX-8bit: \xe4\xf6 \xc3\xa4\r\nX-Fold:\r\n first\r\n\t  second\r\n\r\n" +
	"Body  with blanks \t\r\n8 bits \xe4\xf6\r\n..\r\n..x\r\n\r\n\r\n"

// opendkim as a filter before the rules: a signature simple/simple, our own or one
// that opendkim made at another door, verifies at the door behind it, and one
// octet changed on the way shows. The rules see what it said and the field it
// added, and Postfix delivers that.
func TestDoorVerifiesWithOpenDKIM(t *testing.T) {
	private, record := dkimKey(t)
	keys := map[string]string{"keys": "sel._domainkey.example.net " + record + "\n"}
	const verifies = "Mode v\nAuthservID mx.example.org\nTestPublicKeys {dir}/keys\n" // no DNS is asked
	lenient, _ := openDKIM(t, verifies, keys)
	strict, _ := openDKIM(t, verifies+"On-BadSignature reject\n", keys)
	signs, _ := openDKIM(t, "Mode s\nCanonicalization simple/simple\nDomain example.net\nSelector sel\nKeyFile {dir}/key\nInternalHosts 0.0.0.0/0\n",
		map[string]string{"key": private})

	const filter = "\n[[filter]]\nname = \"opendkim\"\naddress = %q\n"
	mta := postfix.Start(t, postfix.Options{})
	last := moongate.Start(t, moongate.Options{Upstream: mta.Addr, Config: moongate.Default + fmt.Sprintf(filter, lenient),
		Files: map[string]string{"scripts/10-policy.lua": `
on.message("seen", function(msg)
  local f = msg.filters.opendkim
  msg:add_header("X-Seen", table.concat({f.verdict, tostring(f.code), tostring(f.error), msg:header("Authentication-Results") or "nothing"}, "; "))
end)`}})
	refuses := moongate.Start(t, moongate.Options{Upstream: mta.Addr, Config: moongate.Default + fmt.Sprintf(filter, strict),
		Files: map[string]string{"scripts/10-policy.lua": `
on.message("seen", function(msg)
  local f = msg.filters.opendkim
  if msg.from == "rule@example.net" then return reject(554, "5.7.20", "it said " .. f.verdict .. " " .. tostring(f.code)) end
end)`}})
	first := moongate.Start(t, moongate.Options{Upstream: last.Addr, Config: moongate.Default + fmt.Sprintf(filter, signs) + "phase = \"sign\"\n"})

	key, _ := pem.Decode([]byte(private))
	signer, err := x509.ParsePKCS1PrivateKey(key.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	unstuffed := strings.ReplaceAll(delicate, "\r\n..", "\r\n.")
	if err := dkim.Sign(&b, strings.NewReader(unstuffed), &dkim.SignOptions{Domain: "example.net", Selector: "sel", Signer: signer,
		HeaderCanonicalization: dkim.CanonicalizationSimple, BodyCanonicalization: dkim.CanonicalizationSimple,
		HeaderKeys: []string{"From", "To", "Subject", "X-8bit", "X-Fold"}}); err != nil {
		t.Fatal(err)
	}
	signed := client.Stuff(b.String())

	n := 0
	through := func(addr, from, message string) (reply, delivered string) {
		t.Helper()
		c := client.Dial(t, addr, "")
		c.Greet("client.example")
		c.Must("250", "MAIL FROM:<"+from+"> BODY=8BITMIME")
		c.Must("250", "RCPT TO:<b@example.org>")
		if reply = data(c, message); strings.HasPrefix(reply, "250") {
			n++
			delivered = string(mta.Messages(n)[n-1].Body())
		}
		c.Must("221", "QUIT")
		return reply, delivered
	}
	changed := strings.Replace(signed, "Body  with", "Body  wiTh", 1)
	for _, tc := range []struct{ name, addr, message, want, body string }{
		{"signed by us", last.Addr, signed, "dkim=pass", unstuffed},
		{"one octet of the body changed", last.Addr, changed, "dkim=fail", ""},
		{"one blank of the header less", last.Addr, strings.Replace(signed, "blank  and", "blank and", 1), "dkim=fail", ""},
		{"signed by opendkim at the door before", first.Addr, delicate, "dkim=pass", unstuffed},
		{"the same, signed twice", first.Addr, signed, "dkim=pass", unstuffed},
		{"not refused", refuses.Addr, signed, "dkim=pass", unstuffed},
	} {
		reply, got := through(tc.addr, "a@example.net", tc.message)
		field, _, _ := strings.Cut(got[strings.Index(got, "Authentication-Results:")+1:], "\r\nFrom:")
		if !strings.HasPrefix(reply, "250") || !strings.Contains(field, "uthentication-Results: mx.example.org;") || !strings.Contains(field, tc.want) {
			t.Errorf("%s: %q\n%s", tc.name, reply, got)
			continue
		}
		if tc.addr != refuses.Addr {
			_, seen, _ := strings.Cut(got, "X-Seen: ")
			seen = strings.Join(strings.Fields(seen), " ")
			if !strings.HasPrefix(seen, "accept; nil; nil; mx.example.org;") || !strings.Contains(seen, tc.want) {
				t.Errorf("%s: the rule saw %.200q", tc.name, seen)
			}
		}
		if _, body, _ := strings.Cut(got, "\r\n\r\n"); tc.body != "" && !strings.HasSuffix(tc.body, "\r\n\r\n"+body) {
			t.Errorf("%s: the body is %q", tc.name, body)
		}
	}
	if reply, _ := through(refuses.Addr, "a@example.net", changed); !strings.HasPrefix(reply, "550 5.7.0") {
		t.Errorf("refused: %q", reply)
	}
	if reply, _ := through(refuses.Addr, "rule@example.net", changed); !strings.HasPrefix(reply, "554 5.7.20 it said reject 550") {
		t.Errorf("what the rule saw of the refusal: %q", reply)
	}
	line := last.WaitLog("message", nil)
	if s := fmt.Sprint(line["edits"]); !strings.Contains(s, "Authentication-Results") || !strings.Contains(s, "by opendkim") {
		t.Errorf("audit line: %s", line)
	}
}
