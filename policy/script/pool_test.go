package script

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/policytest"
)

// A pool has a bound; who finds no state waits within his own time, and a dead
// state makes room.
func TestPool(t *testing.T) {
	p := load_(t, `on.mail(function(msg) return accept() end)`, Options{MaxStates: 2})
	deadline := time.Now().Add(time.Minute)
	a, err := p.pool.get(t.Context(), deadline)
	if err != nil {
		t.Fatal(err)
	}
	b, err := p.pool.get(t.Context(), deadline)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.pool.get(t.Context(), time.Now().Add(20*time.Millisecond)); err != errNoState {
		t.Errorf("a third state: %v", err)
	}
	got := make(chan *state)
	for range 2 {
		go func() {
			x, err := p.pool.get(t.Context(), deadline)
			if err != nil {
				t.Error(err)
			}
			got <- x
		}()
	}
	a.uses = maxUses // is dropped when it comes back, and another may be made
	p.pool.put(a)
	x := <-got
	if x == a || x == nil {
		t.Error("an old state was lent")
	}
	p.pool.put(b)
	if y := <-got; y != b {
		t.Error("the state was not handed on")
	}
	if n := p.pool.states(); n != 2 {
		t.Errorf("%d states", n)
	}
	p.pool.put(x)
	p.pool.put(b)
	if z, _ := p.pool.get(t.Context(), deadline); z != b {
		t.Error("not the last one used")
	}
	x.born = time.Now().Add(-time.Hour) // it lies below and nobody asks for it
	b.uses = lookEvery
	p.pool.put(b)
	if n := p.pool.states(); n != 1 {
		t.Errorf("%d states after an idle one was too old", n)
	}
	if z, _ := p.pool.get(t.Context(), deadline); z != b {
		t.Error("not the one that is left")
	}
	b.born = time.Now().Add(-time.Hour)
	p.pool.put(b)
	if n := p.pool.states(); n != 0 {
		t.Errorf("%d states after the last one was too old", n)
	}
}

// Two clients in the same states at the same time never see each other's
// values.
func TestClientsAreApart(t *testing.T) {
	e, _ := engine(t, Options{MaxStates: 3})
	if ps, err := e.Reload(snapshot(`
on.connect(function(conn) conn.data.who = conn.helo conn.data.n = 0 end)
on.mail(function(msg) msg.data.from = msg.from msg.conn.data.n = msg.conn.data.n + 1 end)
on.rcpt(function(msg, rcpt)
  local c = msg.conn
  if c.data.who ~= c.helo or msg.data.from ~= msg.from or rcpt.user ~= c.helo then return reject("mixed") end
  return reject(c.helo .. " " .. c.data.n .. " " .. msg.from)
end)`)); err != nil {
		t.Fatal(problemLines(ps))
	}
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			c := session(t, e, zap.NewNop(), &policytest.World{})
			c.Helo = fmt.Sprint("h", i)
			c.ask(policy.Connect)
			for n := range 100 {
				from := fmt.Sprintf("%d-%d@b.example", i, n)
				c.mail(from)
				if got, want := say(c.rcpt(c.Helo+"@x.example")), fmt.Sprintf("550 5.7.1 h%d %d %s", i, n+1, from); got != want {
					t.Errorf("got %s, want %s", got, want)
				}
				c.done(policy.Accept)
			}
		})
	}
	wg.Wait()
}

// deadWorld is a world whose resolver never answers.
type deadWorld struct {
	policytest.World
	asked atomic.Int64
}

func (w *deadWorld) Lookup(ctx context.Context, _ policy.Query) (policy.Answer, error) {
	w.asked.Add(1)
	<-ctx.Done()
	return policy.Answer{}, ctx.Err()
}

// Five thousand sessions wait for a dead resolver: memory has a bound, and
// whoever asks nobody is served.
func TestDeadResolver(t *testing.T) {
	e, _ := engine(t, Options{})
	if ps, err := e.Reload(snapshot(`
local zen = dnsbl({ "zen.example", "b.example" })
on.connect(function(conn)
  if zen:check(conn.ip) then return reject("listed") end
  local a, err = dns.a("x.example")
  if err ~= "temporary" then return reject("no error") end
end)
on.helo(function(conn) return accept() end)`)); err != nil {
		t.Fatal(problemLines(ps))
	}
	n := 5000
	if testing.Short() {
		n = 1500
	}
	w := &deadWorld{}
	// A lookup ends after 1.5 s of its own; the rule's time is for a machine that has 5000 sessions to start.
	env := &policy.Env{Engine: e, Face: policy.SMTP, World: w, Log: zap.NewNop(), HookTime: time.Hour, StageTime: time.Hour}
	var wg sync.WaitGroup
	var passed, failed atomic.Int64
	var before, during runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for range n {
		s := env.NewSession(t.Context(), policy.Facts{Remote: mustAddrPort("192.0.2.1:1")})
		wg.Go(func() {
			if v := s.Ask(&policy.Event{Hook: policy.Connect}); v.Decided() {
				failed.Add(1)
			} else {
				passed.Add(1)
			}
		})
	}
	for w.asked.Load() < 1000 { // they wait
		runtime.Gosched()
	}
	runtime.ReadMemStats(&during)
	for range 100 {
		s := env.NewSession(t.Context(), policy.Facts{Remote: mustAddrPort("192.0.2.2:1")})
		if v := s.Ask(&policy.Event{Hook: policy.Helo}); v.Action != policy.Accept {
			t.Fatalf("a session beside them: %s", say(v))
		}
	}
	wg.Wait()
	if failed.Load() > 0 || passed.Load() != int64(n) {
		t.Errorf("%d passed, %d failed", passed.Load(), failed.Load())
	}
	if used := (int64(during.HeapInuse+during.StackInuse) - int64(before.HeapInuse+before.StackInuse)) >> 20; used > 150 {
		t.Errorf("%d MB", used)
	} else {
		t.Logf("%d MB, %d states", used, e.Policy().pool.states())
	}
}

// Three hundred honest rules of a third of the budget at the same time: none
// is refused, as nothing but instructions counts.
func TestHonestWork(t *testing.T) {
	if testing.Short() {
		t.Skip("seconds of work")
	}
	e, _ := engine(t, Options{})
	if ps, err := e.Reload(snapshot(`
on.connect(function(conn)
  local n = 0
  for i = 1, 66000 do n = n + i % 7 end
  return reject("" .. n)
end)`)); err != nil {
		t.Fatal(problemLines(ps))
	}
	var wg sync.WaitGroup
	var refused atomic.Int64
	hooks := 300
	if raceEnabled { // an instruction takes twenty times as long
		hooks = 20
	}
	for range hooks {
		c := session(t, e, zap.NewNop(), &policytest.World{})
		c.Env.HookTime, c.Env.StageTime = time.Hour, time.Hour // the budget is the only limit here
		wg.Go(func() {
			if say(c.ask(policy.Connect)) != "554 5.7.1 197998" {
				refused.Add(1)
			}
		})
	}
	wg.Wait()
	if n := refused.Load(); n > 0 {
		t.Errorf("%d refused", n)
	}
}

// TestStateIsSmall bounds what a state of a policy holds on to: a thousand of them wait when a resolver is dead.
func TestStateIsSmall(t *testing.T) {
	p := load_(t, "-- 10-a.lua --"+realistic, Options{})
	states := make([]*state, 200)
	var before, after runtime.MemStats
	for range 3 { // what tests before this one left, pools and cleanups too
		runtime.GC()
	}
	runtime.ReadMemStats(&before)
	for i := range states {
		x, err := p.newState()
		if err != nil {
			t.Fatal(err)
		}
		states[i] = x
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	n := int64(len(states))
	bytes, objects := int64(after.HeapAlloc-before.HeapAlloc)/n, int64(after.HeapObjects-before.HeapObjects)/n
	t.Logf("%d octets, %d objects", bytes, objects)
	if bytes > 20<<10 || objects > 60 {
		t.Errorf("a state retains %d octets in %d objects, at most 20 KiB in 60 are meant", bytes, objects)
	}
	runtime.KeepAlive(states)
}
