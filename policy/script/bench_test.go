package script

import (
	"fmt"
	"strings"
	"testing"

	"go.uber.org/zap"

	"github.com/moongate/moongate/internal/watch"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/message"
	"github.com/moongate/moongate/policy/policytest"
)

// realistic is a rcpt rule with six checks, one match and two field reads that
// decides nothing.
const realistic = `
local blocked = list("blocked.txt")
local ours = domains("example.com", "example.org")
on.rcpt("realistic", function(msg, rcpt)
  local from, user = msg.from, rcpt.user
  if user == "postmaster" or user == "abuse" then return accept() end
  if blocked:has(from) then return reject("blocked") end
  if ours:has(from) then return reject("forged") end
  local tag = user:match("%+(%w+)$")
  if tag == "spam" then return reject("tag") end
  if #from > 200 then return reject("long") end
end)
-- blocked.txt --
spammer@example.net
`

func benchSession(b *testing.B, text string) (*client, *policy.Event) {
	p := load_(b, "-- 10-a.lua --"+text, Options{})
	c := session(b, policy.EngineFunc(func(*policy.Facts) *policy.Rules { return p.Rules }), zap.NewNop(), &policytest.World{})
	c.mail("sender@example.net")
	r := &policy.Recipient{In: policytest.Path(b, "bob+list@example.com")}
	r.Out = r.In
	return c, &policy.Event{Hook: policy.Rcpt, Rcpt: r}
}

// evalOnce is one rule, asked past policy.Session.
func evalOnce(b *testing.B, c *client, ev *policy.Event) {
	r := c.Tx.Rules.At(policy.Rcpt)[0]
	v, err := r.Eval(c.Ctx, c.Session, ev)
	if err != nil || v.Decided() {
		b.Fatal(v, err)
	}
}

func BenchmarkRcptRule(b *testing.B) {
	c, ev := benchSession(b, realistic)
	b.ReportAllocs()
	for b.Loop() {
		evalOnce(b, c, ev)
	}
}

func BenchmarkEmptyRule(b *testing.B) {
	c, ev := benchSession(b, "\non.rcpt(function(msg, rcpt) end)\n")
	b.ReportAllocs()
	for b.Loop() {
		evalOnce(b, c, ev)
	}
}

// BenchmarkEmptyCall is the language's own protected call of nothing.
func BenchmarkEmptyCall(b *testing.B) {
	p := load_(b, "on.rcpt(function(msg, rcpt) end)", Options{})
	x, err := p.pool.get(b.Context(), noDeadline)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := x.Call(x.hooks[0], p.opts.Budget, noDeadline, nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkAsk(b *testing.B) {
	c, ev := benchSession(b, realistic)
	b.ReportAllocs()
	for b.Loop() {
		if v := c.Ask(ev); v.Decided() {
			b.Fatal(v)
		}
	}
}

// The rule's allocations have a bound that a test holds.
func TestRuleAllocations(t *testing.T) {
	res := testing.Benchmark(BenchmarkRcptRule)
	if n := res.AllocsPerOp(); n > 10 {
		t.Errorf("%d allocations", n)
	}
}

// fiftyFiles is a policy of 50 files of 300 lines.
func fiftyFiles() watch.Snapshot {
	var text strings.Builder
	for f := range 50 {
		fmt.Fprintf(&text, "-- %02d.lua --\n", f)
		for i := range 30 {
			fmt.Fprintf(&text, `on.rcpt("rule %d %d", function(msg, rcpt)
  local conn = msg.conn
  if conn.user == "u%d" then
    return accept()
  elseif rcpt.user == "x" and rcpt.domain ~= "example.com" then
    return reject(550, "5.7.1", "no " .. rcpt.address)
  end
  local t = { 1, 2, n = { a = "b" } }
  for i, v in ipairs(t) do if v == 3 then return tempfail("later") end end
end)
`, f, i, i)
		}
	}
	return snapshot(text.String())
}

func BenchmarkLoadFiftyFiles(b *testing.B) {
	snap := fiftyFiles()
	for b.Loop() {
		if p, ps := Load(snap, Options{}); p == nil {
			b.Fatal(problemLines(ps))
		}
	}
}

// BenchmarkHeaderRule is what a rule at headers usually does with an ordinary
// header.
func BenchmarkHeaderRule(b *testing.B) {
	p := load_(b, `-- 10-a.lua --
on.headers(function(msg)
  if msg:header("X-Spam-Flag") then msg:remove_header("X-Spam-Flag") end
  msg:set_header("Subject", "[list] " .. (msg.subject or ""))
  msg:remove_header("Received", function(v) return v:find("10.0.0.1", 1, true) ~= nil end)
  for h in msg:headers() do if h.name == "X-Mailer" then h:remove() end end
end)
`, Options{})
	c := session(b, policy.EngineFunc(func(*policy.Facts) *policy.Rules { return p.Rules }), zap.NewNop(), &policytest.World{})
	var block strings.Builder
	for i := range 30 {
		name := []string{"Received", "Subject", "X-Mailer", "X-Spam-Flag"}[min(i%9, 3)]
		if i > 12 {
			name = fmt.Sprintf("X-Field-%d", i)
		}
		fmt.Fprintf(&block, "%s: value %d of 10.0.0.%d\r\n", name, i, i%4)
	}
	b.ReportAllocs()
	for b.Loop() {
		c.mail("sender@example.net")
		h, _ := message.ParseHeader([]byte(block.String()))
		c.Tx.SetMessage(&message.Message{Header: h, Blank: true})
		if v := c.ask(policy.Headers); v.Decided() {
			b.Fatal(say(v), v.Reason)
		}
	}
}
