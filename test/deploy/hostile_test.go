package deploy

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/moongate"
	"github.com/moongate/moongate/test/netns"
	"github.com/moongate/moongate/test/upstream"
)

const xscript = `EHLO 250-up|250-PIPELINING|250-XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE|250 XCLIENT NAME ADDR PORT REVERSE_NAME LOGIN DESTADDR DESTPORT
XCLIENT 220 up
`

// helos are names that would be another attribute, another command or another client if they were
// pasted into one.
var helos = []string{
	"honest.example",
	"x=ADDR=127.0.0.1",
	"x+20ADDR=127.0.0.1",
	"x\tADDR=127.0.0.1",
	"x ADDR=127.0.0.1",
	"x ADDR=127.0.0.1 NAME=localhost LOGIN=root",
	"ADDR=127.0.0.1",
	"[127.0.0.1]",
	"[IPV6:::1]",
	"[UNAVAILABLE]",
	"%00%0d%0aXCLIENT",
	"+0D+0AXCLIENT+20ADDR=127.0.0.1",
	`\r\nXCLIENT`,
	`"quoted name"`,
	"(comment)",
	"<b@example.org>",
	strings.Repeat("h", 255),
	strings.Repeat("+", 250),
	strings.Repeat("=", 255),
	strings.Repeat("h", 256),
	strings.Repeat("h", 900),
	"h\u00e9lo.example",
	"h\x00.example",
	"h\rXCLIENT ADDR=127.0.0.1",
	"h\nXCLIENT ADDR=127.0.0.1",
}

// TestHostileNames: whatever a client says in HELO or has put into DNS, the upstream is told of one
// client, who is this one, with each attribute once, and hears no command of the client's making.
func TestHostileNames(t *testing.T) {
	moongate.Binary(t, true)
	if netns.Outside(t, "192.0.2.1/24") {
		return
	}
	names := [][]byte{
		[]byte("\x06client\x07example\x00"),
		[]byte("\x10x ADDR=127.0.0.1\x07example\x00"),
		[]byte("\x12x+20ADDR=127.0.0.1\x07example\x00"),
		[]byte("\x0fa\r\nXCLIENT NAME\x07example\x00"),
		[]byte("\x0b[127.0.0.1]\x00"),
		[]byte("\x09localhost\x00"),
		append(append(append(label(63), label(63)...), append(label(63), label(61)...)...), 0), // 253 octets
		// Once more: if a busy machine was late with the first, its client has no name.
		[]byte("\x06client\x07example\x00"),
	}
	for _, identity := range []string{"xclient", "xforward", "proxy"} {
		t.Run(identity, func(t *testing.T) {
			script := xscript
			if identity == "proxy" {
				script = "proxy\n" + script
			}
			up := upstream.Start(t, script)
			dns := serveDNS(t)
			p := setup{top: "received = \"never\"", rest: fmt.Sprintf("[dns]\nservers = [%q]\n[limits]\nerrors = 100", dns.addr)}.start(t, identity, up.Addr)
			talk := func(local, helo string) {
				c := client.Dial(t, p.Addr, local)
				c.Reply()
				c.Say("EHLO " + helo)
				for strings.HasPrefix(c.Say("NOOP"), "5") { // the rest of what was meant to be one line
				}
				c.Say("MAIL FROM:<a@example.com>")
				c.Say("RCPT TO:<b@example.org>")
				c.Close()
			}
			for _, helo := range helos {
				talk("192.0.2.200", helo)
			}
			for i, name := range names {
				local := fmt.Sprintf("192.0.2.%d", i+1)
				dns.set(net.ParseIP(local), name)
				talk(local, "honest.example")
			}
			p.Signal(syscall.SIGTERM) // all that it had to say is said
			p.Wait()
			up.Wait(patience, func() bool { _, open := up.Conns(); return open == 0 })
			all, _ := up.Conns()
			told, named := 0, false
			for n := 1; n <= all; n++ {
				named = named || strings.Contains(string(up.Bytes(n)), " NAME=client.example ")
				told += wellTold(t, identity, up.Lines(n))
				if text := string(up.Bytes(n)); strings.Count(text, "\n") != strings.Count(text, "\r\n") && identity != "proxy" {
					t.Errorf("a bare LF: %q", text)
				}
			}
			if told < 20 {
				t.Errorf("the upstream was told of %d clients only", told)
			}
			if !named && identity != "proxy" {
				t.Error("no client's name was told")
			}
		})
	}
}

// wellTold judges one upstream connection and returns how often a client was named in it.
func wellTold(t *testing.T, identity string, lines []string) (told int) {
	t.Helper()
	for _, line := range lines {
		verb, arg, _ := strings.Cut(line, " ")
		switch verb {
		case "XCLIENT", "XFORWARD":
			told++
			if !strings.EqualFold(verb, identity) {
				t.Errorf("identity %s says %q", identity, line)
			}
			if len(line) > 510 && verb == "XFORWARD" {
				t.Errorf("%d octets: %q", len(line), line)
			}
			var keys []string
			for _, attr := range strings.Split(arg, " ") {
				key, value, ok := strings.Cut(attr, "=")
				if !ok || slices.Contains(keys, key) || strings.ContainsAny(value, "= \t") || len(value) > 255 || value == "" {
					t.Errorf("%q in %q", attr, line)
				}
				keys = append(keys, key)
				switch {
				case key == "ADDR" && !strings.HasPrefix(value, "192.0.2."),
					key == "LOGIN" && value != "[UNAVAILABLE]", key == "SOURCE" && value != "REMOTE":
					t.Errorf("%q in %q", attr, line)
				case key == "NAME" || key == "REVERSE_NAME":
					if strings.Contains(value, "ADDR") || strings.Contains(value, "XCLIENT") || value == "[127.0.0.1]" {
						t.Errorf("%q in %q", attr, line)
					}
				}
			}
			if verb == "XCLIENT" && (!slices.Contains(keys, "ADDR") || !slices.Contains(keys, "NAME")) {
				t.Errorf("incomplete: %q", line)
			}
		case "PROXY2":
			if arg != "LOCAL" {
				told++
				if f := strings.Fields(arg); len(f) != 5 || !strings.HasPrefix(f[1], "192.0.2.") {
					t.Errorf("%q", line)
				}
			}
		case "EHLO", "HELO":
			if strings.ContainsAny(arg, " \t") {
				t.Errorf("%q", line)
			}
		case "MAIL", "RCPT", "RSET", "QUIT":
		default:
			t.Errorf("the upstream was told %q", line)
		}
	}
	return told
}

// TestClientsOwnXCommands: what a client says of itself in this way is refused at every stage and never
// goes on.
func TestClientsOwnXCommands(t *testing.T) {
	for _, identity := range []string{"none", "xforward", "proxy", "xclient"} {
		t.Run(identity, func(t *testing.T) {
			script := xscript
			if identity == "proxy" {
				script = "proxy\n" + script
			}
			up := upstream.Start(t, script)
			p := setup{listen: "127.0.0.1:0", rest: "[limits]\nerrors = 100"}.start(t, identity, up.Addr)
			c := client.Dial(t, p.Addr, "")
			c.Reply()
			own := func() {
				t.Helper()
				for _, line := range []string{
					"XCLIENT ADDR=10.9.8.7 NAME=forged.example", "xclient addr=10.9.8.7", "XCLIENT", "XCLIENT\tADDR=10.9.8.7",
					"XFORWARD ADDR=10.9.8.7 NAME=forged.example", "xForward SOURCE=LOCAL ADDR=10.9.8.7", "XFORWARD",
					"PROXY TCP4 10.9.8.7 10.9.8.7 1 25",
				} {
					if r := c.Say(line); !strings.HasPrefix(r, "50") {
						t.Errorf("%q: %q", line, r)
					}
				}
			}
			own()
			hello := c.Must("250", "EHLO client.example.com")
			if strings.Contains(hello, "XCLIENT") || strings.Contains(hello, "XFORWARD") {
				t.Errorf("offered: %q", hello)
			}
			own()
			c.Must("250", "MAIL FROM:<a@example.com>")
			own()
			c.Must("250", "RCPT TO:<b@example.org>")
			own()
			c.Must("354", "DATA")
			c.Must("250", "Subject: s\r\n\r\nXCLIENT ADDR=10.9.8.7 is text here\r\n.")
			own()
			c.Must("221", "QUIT")
			p.Signal(syscall.SIGTERM)
			p.Wait()
			up.Wait(patience, func() bool { _, open := up.Conns(); return open == 0 })
			all, _ := up.Conns()
			for n := 1; n <= all; n++ {
				for _, line := range up.Lines(n) {
					if strings.Contains(line, "10.9.8.7") && !strings.HasSuffix(line, "is text here") || strings.Contains(line, "forged") {
						t.Errorf("the upstream was told %q", line)
					}
				}
			}
		})
	}
	// In front of everything, as a PROXY header: this door takes none.
	up := upstream.Start(t, "")
	p := setup{listen: "127.0.0.1:0"}.start(t, "none", up.Addr)
	for _, header := range []string{"PROXY TCP4 10.9.8.7 10.9.8.7 1 25", "\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\x0a\x09\x08\x07\x0a\x09\x08\x07\x00\x01\x00\x19"} {
		c := client.Dial(t, p.Addr, "")
		c.Say(header)
		c.Close()
	}
	p.WaitLog("disconnect", nil)
	if strings.Contains(p.Stderr(), "10.9.8.7") {
		t.Error("a PROXY header was believed")
	}
}

func label(n int) []byte {
	return append([]byte{byte(n)}, strings.Repeat("l", n)...)
}
