// Package deploy tests the deployments that we ship: the pieces of configs/postfix as they are, in a
// real Postfix behind the real program, with clients that have outside addresses.
//
// Of a shipped file only the port is replaced. The Postfix around it is a stock one that trusts
// 127.0.0.0/8, as Debian sets it up.
package deploy

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/moongate"
	"github.com/moongate/moongate/test/netns"
	"github.com/moongate/moongate/test/postfix"
)

func TestMain(m *testing.M) {
	flag.Set("test.parallel", "4") // the tests that say Parallel mostly wait; go test -parallel wins
	moongate.Main(m)
}

// patience bounds each wait. What has a limit of its own is measured.
const patience = time.Minute

// Addresses of clients, in the network that outside makes.
const (
	stranger  = "192.0.2.1"
	another   = "192.0.2.77"
	neighbour = "203.0.113.5" // in networks, where a configuration has any
)

// outside runs the calling test in a network where clients can have these addresses.
func outside(t *testing.T) bool {
	t.Helper()
	if why := postfix.Missing(); why != "" {
		t.Skip(why)
	}
	moongate.Binary(t, true) // there is no need to build it a second time in there
	return netns.Outside(t, stranger+"/32", another+"/32", neighbour+"/32", "2001:db8::1/128")
}

// shipped reads a file of configs/postfix.
func shipped(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("../../configs/postfix", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// piece is a shipped master.cf piece with its port replaced by a free one.
func piece(t testing.TB, name string) (text, addr string) {
	t.Helper()
	text, addr = shipped(t, name), postfix.FreeAddr(t)
	const port = "127.0.0.1:10025 inet"
	if strings.Count(text, port) != 1 {
		t.Fatalf("%s: where is its listener?", name)
	}
	return strings.Replace(text, port, addr+" inet", 1), addr
}

// letter is a message that Postfix has nothing to add to but its Received line.
func letter(subject string) string { return client.Head(subject) + "\r\nHello.\r\n" }

// A deployment is a Postfix with a shipped listener beside its stock one. Listener "" is the stock one.
type deployment struct {
	identity string
	listener string // a file of configs/postfix
}

func (d deployment) String() string {
	if d.listener == "" {
		return d.identity + ", stock listener"
	}
	return d.identity + ", " + d.listener
}

// fronts are the deployments with moongate in front in which mail passes.
var fronts = []deployment{
	{"none", ""},
	{"xforward", "xforward.master.cf"},
	{"proxy", "proxy.master.cf"},
	{"xclient", "xclient.master.cf"},
}

var (
	shippedFronts = fronts[1:] // with a listener of ours, not the stock one
	knowingFronts = fronts[2:] // in which Postfix knows the client
)

// knows says whether Postfix knows the client.
func (d deployment) knows() bool { return d.identity == "proxy" || d.identity == "xclient" }

// startAll starts a Postfix with each shipped listener beside its stock one, and returns their addresses
// by the file of configs/postfix; "" is the stock one. A Postfix takes a while to start and to end: tests
// that need no settings of one listener alone share it.
func startAll(t testing.TB, o postfix.Options) (*postfix.Postfix, map[string]string) {
	t.Helper()
	addrs := map[string]string{}
	for _, d := range shippedFronts {
		text, addr := piece(t, d.listener)
		o.Master = append(o.Master, text)
		addrs[d.listener] = addr
	}
	mta := postfix.Start(t, o)
	addrs[""] = mta.Addr
	return mta, addrs
}

// start starts Postfix and moongate. More is added to the top of the configuration, and keys of
// [upstream] to its end.
func (d deployment) start(t testing.TB, o postfix.Options, s setup) (*postfix.Postfix, *moongate.Process) {
	t.Helper()
	addr := ""
	if d.listener != "" {
		var text string
		text, addr = piece(t, d.listener)
		o.Master = append(o.Master, text)
	}
	mta := postfix.Start(t, o)
	if addr == "" {
		addr = mta.Addr
	}
	return mta, s.start(t, d.identity, addr)
}

// setup is what a test adds to the configuration of moongate.
type setup struct {
	top      string            // keys at the top
	upstream string            // keys of [upstream]
	rest     string            // further tables
	listen   string            // "0.0.0.0:0" if empty
	files    map[string]string // "scripts/10-x.lua"
}

func (s setup) config(identity string) string {
	listen := s.listen
	if listen == "" {
		listen = "0.0.0.0:0"
	}
	top := "hostname = \"mx.example.org\"\n" + s.top
	if identity == "none" || identity == "xforward" {
		top += "\ndomains = [\"example.org\"]"
	}
	return fmt.Sprintf("%s\n[[listener]]\naddress = %q\n[upstream]\naddress = \"{upstream}\"\nidentity = %q\n%s\n[policy]\nscripts = \"scripts\"\n%s\n",
		top, listen, identity, s.upstream, s.rest)
}

// start runs moongate before an upstream. Its first address is made one that can be dialled.
func (s setup) start(t testing.TB, identity, upstream string) *moongate.Process {
	t.Helper()
	p := moongate.Start(t, moongate.Options{Config: s.config(identity), Upstream: upstream, Files: s.files})
	p.Addr = regexp.MustCompile(`^(\[::\]|0\.0\.0\.0):`).ReplaceAllString(p.Addr, "127.0.0.1:")
	return p
}
