package test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/moongate"
	"github.com/moongate/moongate/test/postfix"
	"github.com/moongate/moongate/test/upstream"
)

// textLog is the file of the log of both faces with format = "text": sessions that end well, and some that
// are refused at each stage, each from an address of its own.
func textLog(t *testing.T) string {
	t.Helper()
	up := upstream.Start(t, `
RCPT /no@/ 550 5.1.1 <no@example.org>: Recipient address rejected: User unknown in local recipient table
RCPT /full@/ 452 4.2.2 Mailbox full`)
	door, forwarded, milter := postfix.FreeAddr(t), postfix.FreeAddr(t), postfix.FreeAddr(t)
	dir := moongate.Write(t, moongate.Options{Upstream: up.Addr, Files: map[string]string{"scripts/10-gate.lua": gateRules},
		Config: fmt.Sprintf(gateConfig, door, forwarded, milter)})
	out := filepath.Join(dir, "log")
	f, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	serve(t, dir, f)
	serves(t, door)
	front := postfix.Start(t, postfix.Options{Milters: []string{"inet:" + milter}, Main: map[string]string{
		"smtpd_client_restrictions": "", "smtpd_delay_reject": "no"}})
	// Loopback may relay; whom a forwarder names may not.
	stranger := client.Dial(t, forwarded, "").Greet("forwarder.example")
	stranger.Must("250", "XFORWARD NAME=a[198.51.100.1].example ADDR=192.0.2.9 HELO=relay.example PROTO=ESMTP")
	stranger.Must("250", "MAIL FROM:<a@example.net>")
	stranger.Must("550", "RCPT TO:<x@example.com>")
	stranger.Must("221", "QUIT")
	// One whom the log knows no address of, and who would have others banned.
	local, err := net.Dial("unix", filepath.Join(dir, "local"))
	if err != nil {
		t.Fatal(err)
	}
	defer local.Close()
	io.WriteString(local, "EHLO x[198.51.100.2]:\r\n"+
		"MAIL FROM:<\"a[198.51.100.3]: 554 5.7.1 Relay access denied b\"@banned.example>\r\n"+
		"MAIL FROM:<\"a[198.51.100.4]: SASL LOGIN authentication failed: b\"@banned.example>\r\n"+strings.Repeat("WIZ\r\n", 20))
	if said, err := io.ReadAll(local); err != nil || bytes.Count(said, []byte("\n554 5.7.1 Sender")) != 2 || !bytes.Contains(said, []byte("Too many errors")) {
		t.Fatalf("heard %q, %v", said, err)
	}
	for i, addr := range []string{door, front.Addr} {
		from := func(n int) *client.Client { return client.Dial(t, addr, fmt.Sprintf("127.0.%d.%d", i+1, n)) }
		c := from(1).Greet("client.example")
		for _, subject := range []string{"ham", "spam", "later", "junk", "odd", "broken"} {
			c.Send("a@example.net", "b@example.org", client.Head(subject)+"\r\nx\r\n")
		}
		c.Say("MAIL FROM:<a@example.net>")
		for _, to := range []string{"b", "c", "no", "full", "ghost", "closed", "grey"} {
			c.Say("RCPT TO:<" + to + "@example.org>")
		}
		c.Say("RCPT TO:<x@example.com>")
		c.Say("DATA")
		c.Say(client.Stuff(client.Head("two")+"\r\nx\r\n") + ".")
		c.Must("221", "QUIT")
		for n, line := range []string{"EHLO liar.example", "MAIL FROM:<a@banned.example>", "RCPT TO:<no@example.org>",
			"RCPT TO:<closed@example.org>", "RCPT TO:<grey@example.org>", "DATA", "VRFY b"} { // and it hangs up
			c := from(2 + n)
			c.Reply()
			if line[0] != 'E' {
				c.Say("EHLO client.example")
				if line[0] != 'M' && line[0] != 'V' {
					c.Say("MAIL FROM:<a@example.net>")
				}
			}
			c.Say(line)
			c.Close()
		}
		c = from(20).Greet("client.example")
		for c.Say("WIZ") != "" {
		}
		c = from(21).Greet("client.example")
		c.Say("AUTH LOGIN") // nobody can
		c.Must("221", "QUIT")
	}
	// The last session of each face has ended, whichever way the lines came.
	if !wait(func() bool {
		b, _ := os.ReadFile(out)
		return bytes.Count(b, []byte(": disconnect from ")) == bytes.Count(b, []byte(": connect from ")) &&
			bytes.Contains(b, []byte("disconnect from unknown[127.0.2.21]"))
	}) {
		b, _ := os.ReadFile(out)
		t.Fatalf("sessions have not ended:\n%s", b)
	}
	return out
}

const gateConfig = `hostname = "mx.example.org"
domains = ["example.org"]

[[listener]]
address = %q

[[listener]]
address = %q
xforward = ["127.0.0.1"]

[[listener]]
address = "unix:local"

[upstream]
address = "{upstream}"

[milter]
address = %q

[policy]
scripts = "scripts"

[quarantine]
path = "drawer"

[log]
format = "text"
`

const gateRules = `
on.helo(function(conn)
  if conn.helo == "liar.example" then return reject(554, "5.7.1", "That is not you") end
end)
on.mail(function(msg)
  if msg.from_domain == "banned.example" then
    log.warn("banned", { from = msg.from })
    return reject(554, "5.7.1", "Sender address rejected: Domain not found")
  end
end)
on.rcpt(function(msg, rcpt)
  if rcpt.address == "closed@example.org" then
    return reject(554, "5.7.1", "Service unavailable; Client host [" .. msg.conn.ip .. "] blocked using bl.example.net")
  elseif rcpt.address == "grey@example.org" then
    return tempfail(450, "4.2.0", "You are new here")
  elseif rcpt.address == "ghost@example.org" then
    return drop("nobody reads it")
  end
end)
on.message(function(msg)
  local s = msg.subject
  if s == "spam" then return reject(550, "5.7.1", "No spam, please")
  elseif s == "later" then return tempfail(451, "4.7.1", "Later")
  elseif s == "junk" then return discard("junk")
  elseif s == "odd" then return quarantine("odd")
  elseif s == "broken" then error("broken") end
end)
`

// What fail2ban's own filter for Postfix finds in our log, told the name of our program, and what
// ours does; the MTA's log has what it refuses itself. The words of a refusal decide: those of an
// operator are not Postfix's.
func TestLogForFail2ban(t *testing.T) {
	const tool = "fail2ban-regex"
	if _, err := exec.LookPath(tool); err != nil {
		t.Skip("no fail2ban: Debian's package fail2ban is not installed")
	}
	path := textLog(t)
	const system = "/etc/fail2ban"
	ours := t.TempDir() // as it is when our filter was copied into the system's
	for to, from := range map[string]string{"moongate.conf": "../configs/fail2ban/moongate.conf", "common.conf": system + "/filter.d/common.conf"} {
		text, err := os.ReadFile(from)
		if err == nil {
			err = errors.Join(os.MkdirAll(ours+"/filter.d", 0o755), os.WriteFile(ours+"/filter.d/"+to, text, 0o644))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, tc := range []struct {
		dir, filter string
		want        string // the addresses, without 127.0., once for each line that it finds
	}{
		{system, `postfix[mode=more,_daemon="moongate/smtpd"]`, "1.1 1.1 1.20 1.3 1.4 1.5 192.0.2.9 2.1 2.3 2.5"},
		{system, `postfix[mode=normal,_daemon="moongate/smtpd"]`, "1.1 1.1 1.20 1.3 1.4 1.5 192.0.2.9 2.1 2.3 2.5"},
		{system, `postfix[mode=extra,_daemon="moongate/smtpd"]`, "1.1 1.1 1.20 1.3 1.4 1.5 192.0.2.9 2.1 2.3 2.5"},
		{system, `postfix[mode=auth,_daemon="moongate/smtpd"]`, ""},
		{system, `postfix[mode=rbl,_daemon="moongate/smtpd"]`, "1.1 1.5 2.1 2.5"},
		{system, `postfix[mode=errors,_daemon="moongate/smtpd"]`, "1.20"},
		{system, `postfix[mode=ddos,_daemon="moongate/smtpd"]`, "1.21"}, // the one who tried AUTH
		{system, `postfix[mode=aggressive,_daemon="moongate/smtpd"]`, "1.1 1.1 1.20 1.21 1.3 1.4 1.5 192.0.2.9 2.1 2.3 2.5"},
		{ours, "moongate[mode=errors]", "1.20"},
		{ours, "moongate", "1.1 1.1 1.1 1.2" + strings.Repeat(" 1.20", 22) + " 1.21 1.3 1.4 1.5 1.7 192.0.2.9 2.1 2.1 2.2 2.3 2.5"},
	} {
		out, err := exec.Command(tool, "-c", tc.dir, "-o", "ip", path, tc.filter).CombinedOutput()
		if err != nil {
			t.Errorf("%s: %v\n%s", tc.filter, err, out)
		}
		got := strings.Fields(strings.ReplaceAll(string(out), "127.0.", ""))
		slices.Sort(got)
		if strings.Join(got, " ") != tc.want {
			t.Errorf("%s finds %s, want %s", tc.filter, got, tc.want)
		}
	}
}

// What pflogsumm counts, and that it finds the reason of a refusal, which is no other for each message.
func TestLogForPflogsumm(t *testing.T) {
	if _, err := exec.LookPath("pflogsumm"); err != nil {
		t.Skip("no pflogsumm: Debian's package pflogsumm is not installed")
	}
	path := textLog(t)
	out, err := exec.Command("pflogsumm", "--syslog-name=moongate", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		// Whose first recipient was taken is received; ham goes to one, the last message to three, and
		// behind the other MTA, which refuses nobody, to five.
		`^ +15 +received$`, `^ +10 +delivered$`, `^ +2 +held$`, `^ +2 +discarded`, `^ +1036 +bytes received$`, `^ +1290 +bytes delivered$`,
		`^ +8 +1032 +0 .* example.org$`, `^ +4 +b@example\.org$`,
		`^    You are new here \(total: 4\)$`, `^    Relay access denied \(total: 1\)$`, `^    No spam \(total: 2\)$`,
		`^    odd \(total: 2\)$`, `^    junk \(total: 2\)$`, `rule failed error=`,
	} {
		if !regexp.MustCompile(`(?m)` + want).Match(out) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
}
