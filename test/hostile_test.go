package test

import (
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/moongate"
	"github.com/moongate/moongate/test/upstream"
)

// runaway has a rule that never ends or wants all memory, for each sender that asks for it.
const runaway = `
local function forever() while true do end end
local bad = {
  loop = forever,
  pcall = function() while true do pcall(forever) end end,
  bomb = function() return string.rep("x", 1e13) end,
  rep = function() local s = "x"; while true do s = s .. s end end,
  table = function() local t = {}; for i = 1, 1e12 do t[i] = i end end,
  pattern = function() return string.find(string.rep("a", 3000), string.rep("a?", 3000) .. string.rep("a", 3000)) end,
  deep = function() local function f(n) return 1 + f(n + 1) end return f(1) end,
  tail = function() local function f(n) return f(n + 1) end return f(1) end,
  sort = function() table.sort({3, 1, 2, 5, 4, 9, 8, 7}, function(a, b) while true do end end) end,
  meta = function() local t = setmetatable({}, {}); getmetatable(t).__index = function(_, k) while true do end end; return t.x end,
}
on.mail("runaway", function(msg)
  local f = bad[string.match(msg.from, "^(%a+)@bad")]
  if f then f() end
end)
`

// TestRunaway runs each of these rules in sessions of their own beside one that sends honest mail. The
// bad ones hear 451 within the budget of a hook, which is 2 s; the honest one notices nothing; the
// process lives and its memory comes back.
func TestRunaway(t *testing.T) {
	up := upstream.Start(t, "")
	p := moongate.Start(t, moongate.Options{Upstream: up.Addr, Plain: true,
		Files: map[string]string{"scripts/10-runaway.lua": runaway}})
	before := peak(t, p.Pid())

	stop := make(chan struct{})
	var honest sync.WaitGroup
	var slowest time.Duration
	var sent int
	honest.Go(func() {
		s := client.Dial(t, p.Addr, "").Greet("client.example.com")
		defer s.Close()
		for {
			select {
			case <-stop:
				return
			default:
			}
			start := time.Now()
			if text := s.Send("good@example.com", "b@example.org", "Subject: x\r\n\r\n"); !strings.HasPrefix(text, "250") {
				t.Errorf("the honest session heard %q", text)
				return
			}
			sent++
			slowest = max(slowest, time.Since(start))
		}
	})
	var bad sync.WaitGroup
	for _, name := range strings.Fields("loop pcall bomb rep table pattern deep tail sort meta") {
		bad.Go(func() {
			s := client.Dial(t, p.Addr, "").Greet("client.example.com")
			defer s.Close()
			start := time.Now()
			text := s.Say("MAIL FROM:<" + name + "@bad.example>")
			took := time.Since(start)
			if !strings.HasPrefix(text, "451 4.3.0 ") {
				t.Errorf("%s: %q", name, text)
			}
			if took > 20*time.Second { // ten on two cores, and whoever else is at work here
				t.Errorf("%s: answered after %v", name, took)
			}
			if text = s.Say("MAIL FROM:<good@example.com>"); !strings.HasPrefix(text, "250") {
				t.Errorf("%s: afterwards an honest MAIL hears %q", name, text)
			}
		})
	}
	bad.Wait()
	close(stop)
	honest.Wait()
	if sent == 0 || slowest > 10*time.Second {
		t.Errorf("beside them %d honest messages, the slowest in %v", sent, slowest)
	}
	if !wait(func() bool { return len(p.Log("rule failed")) >= 10 }) { // the log is a moment behind
		t.Errorf("%d rules failed, want 10", len(p.Log("rule failed")))
	}
	for _, l := range p.Log("rule failed") {
		if rule, _ := l["rule"].(string); !strings.Contains(rule, "10-runaway.lua:") {
			t.Errorf("the log does not name the place: %s", l)
		}
	}
	if grown := peak(t, p.Pid()) - before; grown > 300<<20 {
		t.Errorf("the peak grew by %d MiB", grown>>20)
	}
	t.Logf("%d honest messages, the slowest in %v", sent, slowest)
}
