package main

import (
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/moongate/moongate/policy"
	"go.uber.org/goleak"
	"golang.org/x/net/dns/dnsmessage"
)

// resolver is a DNS server with one answer to whatever it is asked for an A
// record; what it was asked comes out of the channel.
func resolver(t *testing.T, answer string) (addr string, asked <-chan string) {
	t.Helper()
	c, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	names, ended := make(chan string, 100), make(chan struct{})
	t.Cleanup(func() { c.Close(); <-ended })
	go func() {
		defer close(ended)
		buf := make([]byte, 1500)
		for {
			n, from, err := c.ReadFrom(buf)
			if err != nil {
				return
			}
			var p dnsmessage.Parser
			h, err := p.Start(buf[:n])
			if err != nil {
				continue
			}
			q, err := p.Question()
			if err != nil {
				continue
			}
			names <- q.Name.String()
			b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: h.ID, Response: true, RecursionAvailable: true})
			b.StartQuestions()
			b.Question(q)
			b.StartAnswers()
			if q.Type == dnsmessage.TypeA {
				b.AResource(dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 60},
					dnsmessage.AResource{A: netip.MustParseAddr(answer).As4()})
			}
			reply, _ := b.Finish()
			c.WriteTo(reply, from)
		}
	}()
	return c.LocalAddr().String(), names
}

// A reload that names another DNS server asks that one: for what was known
// already, and for the test points of the lists that the policy declares.
func TestReloadOfDNS(t *testing.T) {
	defer nothingLeft(t, goleak.IgnoreCurrent())
	t.Run("house", func(t *testing.T) { // ends with its resolvers
		one, _ := resolver(t, "192.0.2.1")
		two, asked := resolver(t, "192.0.2.2")
		with := func(server string) string { return houseConfig + fmt.Sprintf("[dns]\nservers = [%q]\n", server) }
		h, dir, end := startHouse(t, with(one), `local zen = dnsbl("zen.example.org")
on.mail(function(msg) if zen:check("192.0.2.9") then return reject("listed") end end)`)
		defer end()
		ask := func() string { // anew, if this machine was too busy for a question's 1.5 s
			var a policy.Answer
			var err error
			for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
				a, err = h.world.Lookup(t.Context(), policy.Query{Service: "dns", Type: "A", Name: "x.example.org"})
				if err == nil {
					break
				}
			}
			return fmt.Sprint(a.Values, err)
		}
		for _, test := range []struct{ server, want string }{{one, "[192.0.2.1] <nil>"}, {two, "[192.0.2.2] <nil>"}} {
			save(t, dir, "moongate.toml", with(test.server))
			if o := h.reload(filepath.Join(dir, "moongate.toml"), false); !o.Taken {
				t.Fatalf("refused: %q", o.Lines)
			}
			if got := ask(); got != test.want {
				t.Errorf("answer %s, want %s", got, test.want)
			}
		}
		limit := time.After(patience)
		for seen := ""; !strings.HasPrefix(seen, "2.0.0.127.zen."); {
			select {
			case seen = <-asked:
			case <-limit:
				t.Fatal("the list is not looked after any more")
			}
		}
		all, err := h.registry.Gather()
		if err != nil {
			t.Fatal(err)
		}
		found := false
		for _, f := range all {
			found = found || f.GetName() == "moongate_lookups_total"
		}
		if !found {
			t.Error("lookups are not counted any more")
		}
	})
}
