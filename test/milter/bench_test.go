package milter_test

import (
	"net"
	"os/exec"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/policytest"
	"github.com/moongate/moongate/test/postfix"
)

// BenchmarkPostfix is what a milter costs a Postfix: four clients at once,
// messages of 4 kB, a connection for each. "alone" has no milter, "moongate"
// asks a rule at each of seven stages, "no rules" a policy without any, and
// "python" an empty filter of python3-milter.
func BenchmarkPostfix(b *testing.B) {
	source, err := exec.LookPath("/usr/sbin/smtp-source")
	if err != nil {
		b.Skip("smtp-source is not installed (Debian package postfix)")
	}
	run := func(name string, milters func(b *testing.B) []string) {
		b.Run(name, func(b *testing.B) {
			mta := postfix.Start(b, postfix.Options{Milters: milters(b), Main: map[string]string{"local_transport": "discard:"}})
			b.ResetTimer()
			cmd := exec.Command(source, "-s", "4", "-m", strconv.Itoa(b.N), "-l", "4000", "-f", "a@example.net", "-t", "b@example.org", mta.Addr)
			if out, err := cmd.CombinedOutput(); err != nil {
				b.Fatalf("smtp-source: %v\n%s", err, out)
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "msg/s")
		})
	}
	var rules []*policy.Rule
	for _, h := range []policy.Hook{policy.Connect, policy.Helo, policy.Mail, policy.Rcpt, policy.Data, policy.Headers, policy.Message} {
		rules = append(rules, policytest.Always(h, policy.Verdict{}))
	}
	run("alone", func(*testing.B) []string { return nil })
	run("moongate", func(b *testing.B) []string { p := serve(b); p.use(rules...); return []string{"inet:" + p.addr} })
	run("no rules", func(b *testing.B) []string { return []string{"inet:" + serve(b).addr} })
	run("python", func(b *testing.B) []string { return []string{"inet:" + emptyFilter(b)} })
}

// emptyFilter runs a python3-milter filter that has an opinion on nothing.
func emptyFilter(b *testing.B) string {
	const bin = "/usr/bin/python3"
	if exec.Command(bin, "-c", "import Milter").Run() != nil {
		b.Skip("python3-milter is not installed (Debian package python3-milter)")
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	addr := l.Addr().String()
	_, port, _ := net.SplitHostPort(addr)
	l.Close()
	cmd := exec.Command(bin, "-c", "import Milter\nMilter.factory = Milter.Base\nMilter.set_flags(0)\nMilter.runmilter('empty', 'inet:"+port+"@127.0.0.1', 30)")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(20 * time.Millisecond) { // there is no event to wait for
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			return addr
		}
		if time.Now().After(deadline) {
			b.Fatal(err)
		}
	}
}
