package bench

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"
)

var (
	table  = flag.Bool("table", false, "run the comparison and print the table")
	rounds = flag.Int("rounds", 7, "rounds of the comparison")
	slice  = flag.Duration("slice", 1500*time.Millisecond, "length of one measurement")
	only   = flag.String("only", "", "measure only those ways through moongate whose name contains this")
)

// peer is a way from the load to the sink.
type peer struct {
	name string
	addr string
	rate map[string][]float64 // by load: messages a second, one for each round
}

const (
	reference = "postfix smtpd_proxy_filter"
	conns     = 8
)

var loads = []struct {
	name string
	load Load
}{
	{"new 4 KB", Load{Conns: conns, Size: 4 << 10}},
	{"kept 4 KB", Load{Conns: conns, Size: 4 << 10, Keep: true}},
	{"kept 1 MB", Load{Conns: conns, Size: 1 << 20, Keep: true}},
}

func TestTable(t *testing.T) {
	if !*table {
		t.Skip("a comparison, not a test: make bench")
	}
	peers := start(t)
	for round := range *rounds {
		for _, l := range loads {
			order := slices.Clone(peers)
			if round%2 == 1 {
				slices.Reverse(order)
			}
			for _, p := range order {
				load := l.load
				load.Addr, load.For = p.addr, *slice
				n, took, err := load.Run(t.Context())
				if err != nil {
					t.Fatalf("%s, %s: %v", p.name, l.name, err)
				}
				p.rate[l.name] = append(p.rate[l.name], float64(n)/took.Seconds())
			}
		}
	}
	var out bytes.Buffer
	w := tabwriter.NewWriter(&out, 0, 4, 2, ' ', 0)
	fmt.Fprintf(w, "median of %d rounds\t", *rounds)
	for _, l := range loads {
		fmt.Fprintf(w, "%s\tmsg/s\tratio\t", l.name)
	}
	fmt.Fprintln(w)
	ref := peers[slices.IndexFunc(peers, func(p *peer) bool { return p.name == reference })]
	for _, p := range peers {
		fmt.Fprintf(w, "%s\t", p.name)
		for _, l := range loads {
			ratios := make([]float64, len(p.rate[l.name]))
			for i, r := range p.rate[l.name] {
				ratios[i] = r / ref.rate[l.name][i]
			}
			fmt.Fprintf(w, "\t%.0f\t%.2f\t", median(p.rate[l.name]), median(ratios))
		}
		fmt.Fprintln(w)
	}
	w.Flush()
	t.Logf("\nratio: to %s, paired by round\n\n%s", reference, out.String())
}

func median(v []float64) float64 {
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// start starts the sinks and every peer.
func start(t *testing.T) []*peer {
	plain, proxied := sink(t, false), sink(t, true)
	var peers []*peer
	add := func(name, addr string) {
		if addr == "" {
			return
		}
		peers = append(peers, &peer{name: name, addr: addr, rate: map[string][]float64{}})
	}
	add("nothing", plain.Addr())
	add("haproxy tcp", haproxy(t, plain.Addr()))
	binary := build(t)
	add(reference, mta(t, plain.Addr(), ""))
	for _, f := range milters(t, binary) {
		add(reference+", asks "+f.name, mta(t, plain.Addr(), f.addr))
	}
	for _, path := range []string{"stream", "hold"} {
		for _, identity := range []string{"none", "xforward", "proxy", "xclient"} {
			name := "moongate " + identity + ", " + path
			if *only != "" && !strings.Contains(name, *only) {
				continue
			}
			upstream := plain.Addr()
			if identity == "proxy" {
				upstream = proxied.Addr()
			}
			add(name, moongate(t, binary, identity, path, upstream))
		}
	}
	return peers
}

func sink(t *testing.T, proxy bool) *Sink {
	s, err := NewSink(proxy)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func free(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func haproxy(t *testing.T, upstream string) string {
	path, err := exec.LookPath("haproxy")
	if err != nil {
		path = "/usr/sbin/haproxy"
	}
	if _, err := os.Stat(path); err != nil {
		t.Log("no haproxy here: left out")
		return ""
	}
	addr := free(t)
	config := filepath.Join(t.TempDir(), "haproxy.cfg")
	os.WriteFile(config, []byte("defaults\n mode tcp\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n"+
		"listen smtp\n bind "+addr+"\n server sink "+upstream+"\n"), 0o644)
	run(t, addr, path, "-db", "-f", config)
	return addr
}

func build(t *testing.T) string {
	binary := filepath.Join(t.TempDir(), "moongate")
	if out, err := exec.Command("go", "build", "-trimpath", "-o", binary, "github.com/moongate/moongate/cmd/moongate").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return binary
}

// Seven stages, a rule at each; message makes it the hold path.
const stages = `
local ours = domains("example.org")
local limit = ratelimit("bench", "1000000/1s")
on.connect(function(conn) if conn.ip == "192.0.2.66" then return reject("no") end end)
on.helo(function(conn) if conn.helo == "localhost" then return reject("no") end end)
on.mail(function(msg) if msg.from_domain == "spam.example" then return reject("no") end end)
on.rcpt(function(msg, rcpt)
  if not ours:has(rcpt.domain) then return reject("not here") end
  local ok = limit:take(msg.sender_key)
  if not ok then return tempfail("slow down") end
end)
on.data(function(msg) if #msg.rcpts > 100 then return tempfail("too many") end end)
on.headers(function(msg) if msg:header("X-Bad") then return reject("no") end end)
on.log(function(msg, outcome) end)
`

const hold = `on.message(function(msg) if msg.size > 100000000 then return reject("too large") end end)
`

func moongate(t *testing.T, binary, identity, path, upstream string) string {
	addr, policy := free(t), stages
	if path == "hold" {
		policy += hold
	}
	serve(t, binary, addr, policy, fmt.Sprintf("[[listener]]\naddress = %q\n\n[upstream]\naddress = %q\nidentity = %q\n", addr, upstream, identity))
	return addr
}

// serve starts moongate with the doors that are given.
func serve(t *testing.T, binary, addr, policy, doors string) {
	dir := t.TempDir()
	os.Mkdir(filepath.Join(dir, "scripts"), 0o755)
	os.WriteFile(filepath.Join(dir, "scripts", "10-bench.lua"), []byte(policy), 0o644)
	config := filepath.Join(dir, "moongate.toml")
	os.WriteFile(config, fmt.Appendf(nil, `hostname = "bench.example.org"
domains = ["example.org"]

%s
[policy]
scripts = "scripts"

[limits]
connections = 10000
size = "100MB"
`, doors), 0o644)
	run(t, addr, binary, "serve", "-c", config)
}

// run starts a server and waits until it takes connections.
func run(t *testing.T, addr, name string, args ...string) {
	cmd := exec.Command(name, args...)
	log, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr, cmd.Stdout = log, log
	// A session of its own, as a daemon has: Linux shares the processor out between sessions (sched_autogroup), and what runs
	// in that of the load is waited for by all of it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		log.Close()
		if t.Failed() {
			b, _ := os.ReadFile(log.Name())
			t.Logf("%s %v:\n%s", name, args, b[max(0, len(b)-3000):])
		}
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	network := "tcp"
	if path, ok := strings.CutPrefix(addr, "unix:"); ok {
		network, addr = "unix", path
	}
	var d net.Dialer
	for {
		c, err := d.DialContext(ctx, network, addr)
		if err == nil {
			c.Close()
			return
		}
		if ctx.Err() != nil {
			b, _ := os.ReadFile(log.Name())
			t.Fatalf("%s does not listen: %v\n%s", name, err, b)
		}
		time.Sleep(10 * time.Millisecond) // between two looks at whether the port is open
	}
}

// The load and the sink understand each other.
func TestLoadAndSink(t *testing.T) {
	s := sink(t, false)
	for _, keep := range []bool{false, true} {
		for _, size := range []int{1, 4 << 10, 200 << 10} {
			n, _, err := Load{Addr: s.Addr(), Conns: 2, Size: size, Keep: keep, For: 50 * time.Millisecond}.Run(t.Context())
			if err != nil || n == 0 {
				t.Errorf("keep %v, size %d: %d messages, %v", keep, size, n, err)
			}
		}
	}
}

func BenchmarkSink(b *testing.B) {
	s, err := NewSink(false)
	if err != nil {
		b.Fatal(err)
	}
	defer s.Close()
	n, took, err := Load{Addr: s.Addr(), Conns: 2, Size: 4 << 10, Keep: true, For: time.Second}.Run(b.Context())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(n)/took.Seconds(), "msg/s")
}
