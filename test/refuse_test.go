package test

import (
	"net"
	"strings"
	"testing"

	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/moongate"
	"github.com/moongate/moongate/test/netns"
	"github.com/moongate/moongate/test/postfix"
	"github.com/moongate/moongate/test/relay"
)

// forms are the ways in which a stock Postfix that trusts the client can be talked into sending mail to
// victim@ext.example: each was delivered outside when 127.0.0.1 asked for it.
var forms = []string{
	`<victim%ext.example@example.org>`,
	`<"victim@ext.example"@example.org>`,
	`<"victim%ext.example"@example.org>`,
	`<ext.example!victim@example.org>`,
	`<"ext.example!victim"@example.org>`,
	`<victim@ext.example@example.org>`,
	`<@example.org:victim@ext.example>`,
	`<@example.org,@example.org:victim@ext.example>`,
	`<victim%ext.example>`,
	`<"victim@ext.example">`,
	`<victim%ext.example@[127.0.0.1]>`,
	`<victim%ext.example@localhost>`,
	`<victim%ext.example@mta.example.org>`,
	`<victim@[127.0.0.1]>`,
	`<victim@[192.0.2.1]>`,
	`<victim@ext.example>`,
	`<victim@ext.example.>`,
	`<victim@EXAMPLE.ORG.ext.example>`,
	`<victim>`,
	`<"victim ext.example"@example.org>`,
	`<"a\@ext.example"@example.org>`,
	`<"victim\@ext.example"@example.org>`,
	`<victim%ext.example%x@example.org>`,
	`<victim@example.org@ext.example>`,
}

// TestNeighbours: who is in networks is no stranger, and may send anywhere.
func TestNeighbours(t *testing.T) {
	if why := postfix.Missing(); why != "" {
		t.Skip(why)
	}
	moongate.Binary(t, true)
	if netns.Outside(t, "192.0.2.1/32", "198.51.100.7/32") {
		return
	}
	mta := postfix.Start(t, postfix.Options{})
	p := moongate.Start(t, moongate.Options{Upstream: mta.Addr,
		Config: strings.Replace("networks = [\"198.51.100.0/24\"]\n"+moongate.Default, `"127.0.0.1:0"`, `"0.0.0.0:0"`, 1)})
	_, port, _ := net.SplitHostPort(p.Addr)
	near := client.Dial(t, "127.0.0.1:"+port, "198.51.100.7").Greet("client.example.com")
	if text := near.Send("a@example.org", "v@ext.example", client.Head("near")+"\r\n"); !strings.HasPrefix(text, "250") {
		t.Errorf("a neighbour hears %q", text)
	}
	far := client.Dial(t, "127.0.0.1:"+port, "192.0.2.1").Greet("client.example.com")
	if text := far.Send("a@example.org", "v@ext.example", client.Head("far")+"\r\n"); !strings.HasPrefix(text, "550") {
		t.Errorf("a stranger hears %q", text)
	}
	// The connection to the upstream is the same one, and is trusted there.
	if text := near.Send("a@example.org", "b@example.org", client.Head("near2")+"\r\n"); !strings.HasPrefix(text, "250") {
		t.Errorf("a neighbour hears %q", text)
	}
	mta.Messages(1)
	if out := mta.Outside.Messages(); len(out) != 1 || subject(out[0].Body()) != "near" {
		t.Errorf("outside: %q", out)
	}
}

// TestStrangers offers each relay form from a client with a public address. With the identities that
// leave the upstream in the dark, none may even reach it.
func TestStrangers(t *testing.T) {
	if why := postfix.Missing(); why != "" {
		t.Skip(why)
	}
	moongate.Binary(t, true) // there is no need to build it a second time in there
	if netns.Outside(t, "192.0.2.1/32") {
		return
	}
	// No verdict of a policy is a way past the guard.
	allow := map[string]string{"scripts/10-allow.lua": `
on.connect(function(conn) return bypass() end)
on.rcpt(function(msg, rcpt) return accept() end)`}
	for _, tc := range []struct {
		name, identity string
		files          map[string]string
	}{
		{"none", "none", nil},
		{"xforward", "xforward", nil},
		{"a policy that accepts all", "none", allow},
	} {
		identity := tc.identity
		t.Run(tc.name, func(t *testing.T) {
			mta := postfix.Start(t, postfix.Options{XForward: true})
			wire := relay.Start(t, mta.Addr)
			p := moongate.Start(t, moongate.Options{
				Upstream: wire.Addr, Files: tc.files,
				Config: strings.NewReplacer(`address = "127.0.0.1:0"

[upstream]`, `address = "0.0.0.0:0"

[upstream]`, `address = "{upstream}"`, `address = "{upstream}"
identity = "`+identity+`"`).Replace(moongate.Default),
			})
			addr := strings.Replace(p.Addr, "[::]", "127.0.0.1", 1)
			addr = strings.Replace(addr, "0.0.0.0", "127.0.0.1", 1)
			s := client.Dial(t, addr, "192.0.2.1").Greet("client.example.com")
			s.Must("250", "MAIL FROM:<a@example.com>")
			for i, form := range forms {
				if i > 0 && i%10 == 0 { // a session that is refused too often is shown the door
					s.Close()
					s = client.Dial(t, addr, "192.0.2.1").Greet("client.example.com")
					s.Must("250", "MAIL FROM:<a@example.com>")
				}
				if r := s.Say("RCPT TO:" + form); !strings.HasPrefix(r, "5") {
					t.Errorf("%s: %q", form, r)
				}
			}
			s.Must("250", "RCPT TO:<b@example.org>")
			s.Must("250", "RCPT TO:<postmaster>")
			s.Must("354", "DATA")
			s.Must("250", client.Head("stranger")+"\r\nbody\r\n.")
			s.Must("221", "QUIT")
			for _, sent := range wire.Sent() {
				if strings.Contains(string(sent), "ctim") || strings.Contains(string(sent), "ext.example") {
					t.Errorf("the upstream was told of it:\n%s", sent)
				}
			}
			msgs := mta.Messages(1)
			if out := mta.Outside.Messages(); len(out) != 0 || len(msgs) != 1 {
				t.Errorf("%d messages went outside, %d inside", len(out), len(msgs))
			}
			if !wait(func() bool { return len(p.Log("refuse")) >= len(forms) }) { // the log is a moment behind
				t.Errorf("%d refusals in the log, want %d", len(p.Log("refuse")), len(forms))
			}
		})
	}
}

// TestRelayControl offers the forms to the Postfix itself from an address that it trusts: some must be
// delivered outside, or TestStrangers proves nothing.
func TestRelayControl(t *testing.T) {
	mta := postfix.Start(t, postfix.Options{})
	n := 0
	for _, form := range forms {
		s := client.Dial(t, mta.Addr, "").Greet("client.example.com")
		s.Must("250", "MAIL FROM:<a@example.com>")
		if r := s.Say("RCPT TO:" + form); strings.HasPrefix(r, "250") {
			s.Must("354", "DATA")
			s.Must("250", client.Head("control")+"\r\n.")
			n++
		}
		s.Must("221", "QUIT")
	}
	mta.Settle()
	out := len(mta.Outside.Messages())
	t.Logf("of %d forms Postfix takes %d and sends %d outside", len(forms), n, out)
	if out < 8 {
		t.Errorf("Postfix sends only %d of the forms outside", out)
	}
}

// TestRefusesToStart looks at configurations that must not run: exit code 78, and the reason.
func TestRefusesToStart(t *testing.T) {
	public := strings.Replace(moongate.Default, `address = "127.0.0.1:0"`, `address = "0.0.0.0:0"`, 1)
	for _, tc := range []struct {
		name, config string
		files        map[string]string
		says         []string
	}{
		{"an open relay", strings.Replace(public, `domains = ["example.org"]`, "", 1), nil, []string{"moongate.toml:", "domains"}},
		{"an unknown key", "hostnam = 'x'\n" + moongate.Default, nil, []string{"moongate.toml:1:1", "hostnam", "hostname"}},
		{"no TOML", "hostname = \n", nil, []string{"moongate.toml:1"}},
		{"a wrong value", strings.Replace(moongate.Default, "[upstream]", "[upstream]\nidentity = \"nobody\"", 1), nil, []string{"moongate.toml:", "identity", "nobody"}},
		{"a broken policy", moongate.Default, map[string]string{"scripts/10-a.lua": "on.rctp(function(msg) end)\n"}, []string{"10-a.lua:1:", "rctp", "rcpt"}},
		{"no rules", moongate.Default, map[string]string{"scripts/10-a.lua": "-- nothing\n"}, []string{"allow_empty"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := moongate.Write(t, moongate.Options{Config: tc.config, Files: tc.files, Upstream: "127.0.0.1:1"})
			for _, command := range []string{"serve", "check"} {
				code, out := moongate.Run(t, dir, command, "-c", "moongate.toml")
				if code != 78 {
					t.Errorf("%s: exit code %d, want 78:\n%s", command, code, out)
				}
				for _, s := range tc.says {
					if !strings.Contains(out, s) {
						t.Errorf("%s does not say %q:\n%s", command, s, out)
					}
				}
			}
		})
	}
	if code, out := moongate.Run(t, t.TempDir(), "serve", "-c", "none.toml"); code != 78 || !strings.Contains(out, "none.toml") {
		t.Errorf("no file: exit code %d:\n%s", code, out)
	}
}
