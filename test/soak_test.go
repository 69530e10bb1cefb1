package test

import (
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/moongate"
	"github.com/moongate/moongate/test/upstream"
)

// TestHonestHooks puts 300 sessions at once into a hook that needs a third of the instruction budget.
// The budget is instructions, not time: a busy machine is no reason to refuse one. After 20 s it is, so a
// machine that would take too long for 300 is given fewer.
func TestHonestHooks(t *testing.T) {
	up := upstream.Start(t, "")
	p := moongate.Start(t, moongate.Options{Upstream: up.Addr, Plain: true, Config: strings.Replace(moongate.Default, "[policy]", "max_connections = 400\n\n[policy]", 1) + "\n[limits]\nper_network = 0\n",
		Files: map[string]string{"scripts/10-work.lua": `
on.rcpt("work", function(msg, rcpt)
  local n = 0
  for i = 1, 80000 do n = n + i % 7 end
  if n == 0 then return reject("never") end
end)`}})
	first := client.Dial(t, p.Addr, "").Greet("client.example.com")
	first.Must("250", "MAIL FROM:<a@example.com>")
	start := time.Now()
	for range 10 {
		first.Must("250", "RCPT TO:<b@example.org>")
	}
	one := time.Since(start) / 10
	sessions := min(300, max(30, int(3*time.Second/one))) // one after the other in 3 s
	all := make([]*client.Client, sessions)
	for i := range all {
		all[i] = client.Dial(t, p.Addr, "").Greet("client.example.com")
		all[i].Must("250", "MAIL FROM:<a@example.com>")
	}
	var wg sync.WaitGroup
	start = time.Now()
	for _, s := range all {
		wg.Go(func() {
			if text := s.Say("RCPT TO:<b@example.org>"); !strings.HasPrefix(text, "250") {
				t.Errorf("an honest hook: %q", text)
			}
		})
	}
	wg.Wait()
	t.Logf("%d sessions in %v, one alone in %v", sessions, time.Since(start), one)
	if n := len(p.Log("rule failed")); n > 0 {
		t.Errorf("%d rules failed, the first: %s", n, p.Log("rule failed")[0])
	}
}

// TestDeadResolver lets 5,000 sessions wait in a hook for a resolver that never answers. They take about
// 150 MB, and a session that asks nothing is served beside them.
func TestDeadResolver(t *testing.T) {
	const sessions = 5000
	var files syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); files.Cur < 2*sessions+1000 {
		t.Skipf("the limit of open files is %d, 5000 sessions need %d here", files.Cur, 2*sessions+1000)
	}
	dead, err := net.ListenPacket("udp", "127.0.0.1:0") // takes questions, answers none
	if err != nil {
		t.Fatal(err)
	}
	defer dead.Close()
	up := upstream.Start(t, "")
	p := moongate.Start(t, moongate.Options{Upstream: up.Addr, Plain: true,
		Config: moongate.Default + fmt.Sprintf("\n[dns]\nservers = [%q]\n\n[limits]\nper_network = 0\nconnections = 6000\n", dead.LocalAddr()),
		Files: map[string]string{"scripts/10-wait.lua": `
on.mail("wait", function(msg)
  if msg.from_domain == "slow.example" then
    local a, err = dns.a(msg.from:gsub("@.*", "") .. ".example.net")
    if not a then return tempfail(451, "4.4.3", "no answer") end
  end
end)`}})
	var wg sync.WaitGroup
	slots := make(chan struct{}, 64)
	all := make([]*client.Client, sessions)
	for i := range all {
		slots <- struct{}{}
		wg.Go(func() {
			all[i] = client.Dial(t, p.Addr, "").Greet("client.example.com")
			<-slots
		})
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	idle := resident(t, p.Pid())
	start := time.Now()
	for i, s := range all {
		fmt.Fprintf(s, "MAIL FROM:<u%d@slow.example>\r\n", i)
	}
	told := time.Since(start)
	most := resident(t, p.Pid())
	beside := client.Dial(t, p.Addr, "").Greet("client.example.com")
	var slowest time.Duration
	for range 10 {
		at := time.Now()
		if text := beside.Send("a@example.com", "b@example.org", "x: y\r\n\r\n"); !strings.HasPrefix(text, "250") {
			t.Errorf("beside them: %q", text)
		}
		slowest = max(slowest, time.Since(at))
		most = max(most, resident(t, p.Pid()))
	}
	codes := map[string]int{}
	for _, s := range all {
		text := s.Reply()
		codes[text[:min(9, len(text))]]++
		if len(codes) == 1 && most < resident(t, p.Pid()) {
			most = resident(t, p.Pid())
		}
	}
	highest := peak(t, p.Pid())
	t.Logf("idle %d MiB, waiting at most %d MiB, ever %d MiB; told in %v, beside them the slowest message took %v, answers %v",
		idle>>20, most>>20, highest>>20, told, slowest, codes)
	if most > 170<<20 { // 140 here; how much garbage lies about when one looks is up to the machine
		t.Errorf("it took %d MiB", most>>20)
	}
	if highest > 200<<20 { // with what the collector had not come to when all were answered at once
		t.Errorf("it took %d MiB for a moment", highest>>20)
	}
	if slowest > 10*time.Second {
		t.Errorf("beside them a message took %v", slowest)
	}
	for text := range codes {
		if !strings.HasPrefix(text, "451 4.") {
			t.Errorf("the answers are %v", codes)
		}
	}
}

// resident is the memory that a process has now, in octets.
func resident(t testing.TB, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		t.Skipf("no /proc: %v", err)
	}
	var size, pages int
	fmt.Sscan(string(b), &size, &pages)
	return pages * os.Getpagesize()
}
