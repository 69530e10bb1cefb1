package script

import (
	"net/netip"
	"sort"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"
	"golang.org/x/tools/txtar"

	"github.com/moongate/moongate/internal/watch"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/lua"
	"github.com/moongate/moongate/policy/message"
	"github.com/moongate/moongate/policy/policytest"
	store "github.com/moongate/moongate/policy/state"
)

// snapshot makes a snapshot of files in txtar form; text without a file is
// 10-test.lua.
func snapshot(text string) watch.Snapshot {
	a := txtar.Parse([]byte(text))
	if len(a.Files) == 0 {
		a.Files = []txtar.File{{Name: "10-test.lua", Data: []byte(text)}}
	}
	snap := watch.Snapshot{Dir: "policy", Hash: text}
	for _, f := range a.Files {
		snap.Files = append(snap.Files, watch.File{Name: f.Name, Data: f.Data})
	}
	sort.Slice(snap.Files, func(i, j int) bool { return snap.Files[i].Name < snap.Files[j].Name })
	return snap
}

func problemLines(ps []lua.Problem) string {
	var s []string
	for _, p := range ps {
		s = append(s, p.Error())
	}
	return strings.Join(s, "\n")
}

var noDeadline time.Time

// client is a session that a policy judges, with what a front-end does around
// it.
type client struct {
	*policy.Session
	t     testing.TB
	world *policytest.World
	logs  *observer.ObservedLogs
}

func load_(t testing.TB, text string, opts Options) *Policy {
	t.Helper()
	p, problems := Load(snapshot(text), opts)
	if p == nil {
		t.Fatalf("not loaded:\n%s", problemLines(problems))
	}
	return p
}

// connect loads a policy and begins a session.
func connect(t testing.TB, text string) *client {
	t.Helper()
	core, logs := observer.New(zap.DebugLevel)
	log := zap.New(core)
	p := load_(t, text, Options{Log: log})
	c := connectTo(t, policy.EngineFunc(func(*policy.Facts) *policy.Rules { return p.Rules }), log)
	c.logs = logs
	return c
}

func connectTo(t testing.TB, e policy.Engine, log *zap.Logger) *client {
	w := &policytest.World{Clock: time.Unix(1_700_000_000, 0), Store: store.New(0), Answers: map[string][]string{}, Errors: map[string]error{}}
	return session(t, e, log, w)
}

func session(t testing.TB, e policy.Engine, log *zap.Logger, w *policytest.World) *client {
	env := &policy.Env{Engine: e, Face: policy.SMTP, World: w, Log: log, HookTime: 10 * time.Second}
	s := env.NewSession(t.Context(), policy.Facts{ID: "S", Listener: "test", Proto: "ESMTP", Stranger: true,
		Remote: netip.MustParseAddrPort("192.0.2.1:25000")})
	return &client{Session: s, t: t, world: w}
}

// say renders a verdict as one line.
func say(v policy.Verdict) string {
	s := v.Action.String()
	if v.Refuses() {
		s = v.Reply.String()
	}
	if v.Delay > 0 {
		s += " after " + v.Delay.String()
	}
	if v.Close {
		s += " and close"
	}
	if v.Reason != "" && !v.Failed {
		s += " (" + v.Reason + ")"
	}
	return s
}

func (c *client) ask(h policy.Hook) policy.Verdict { return c.Ask(&policy.Event{Hook: h}) }

func (c *client) mail(from string) policy.Verdict {
	c.t.Helper()
	c.Begin(policytest.Path(c.t, from), nil)
	return c.ask(policy.Mail)
}

// rcpt asks and answers one recipient.
func (c *client) rcpt(to string) policy.Verdict {
	c.t.Helper()
	r := &policy.Recipient{In: policytest.Path(c.t, to)}
	r.Out = r.In
	v := c.Ask(&policy.Event{Hook: policy.Rcpt, Rcpt: r})
	reply := policy.Say(250, policy.Status{2, 1, 5}, "Ok")
	if v.Refuses() {
		reply = v.Reply
	}
	if v.Action == policy.Drop {
		r.State = policy.RcptDropped
	}
	c.Tell(&policy.Event{Hook: policy.Answered, Verb: "RCPT", Rcpt: r, Reply: reply, By: policy.ByPolicy})
	return v
}

// message hands the header over and asks at headers, the body and asks at
// message.
func (c *client) message(text string) policy.Verdict {
	c.t.Helper()
	text = strings.ReplaceAll(text, "\n", "\r\n")
	h, n := message.ParseHeader([]byte(text))
	pool := &message.Pool{MaxMemory: 1 << 20}
	m := &message.Message{Header: h, Blank: true}
	c.Tx.SetMessage(m)
	if v := c.ask(policy.Headers); v.Decided() {
		return v
	}
	m.Body = pool.New()
	m.Body.Write([]byte(strings.TrimPrefix(text[n:], "\r\n")))
	c.Tx.SetMessage(m)
	return c.ask(policy.Message)
}

func (c *client) done(a policy.Action) {
	c.Tell(&policy.Event{Hook: policy.Done, Outcome: &policy.Outcome{Action: a, By: policy.ByUpstream, Reply: policy.Say(250, policy.Status{2, 0, 0}, "queued as X")}})
}

func mustAddrPort(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }

func (c *client) is(v policy.Verdict, want string) {
	c.t.Helper()
	if got := say(v); got != want {
		c.t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestAsk(t *testing.T) {
	c := connect(t, `
local friends = { ["a@b.example"] = true }
local per_sender = ratelimit("per-sender", "2/1m")
on.rcpt("gate", function(msg, rcpt)
  if friends[msg.from] then return accept() end
  if rcpt.domain ~= "example.com" then
    return reject(550, "5.1.2", "No such domain: " .. rcpt.domain)
  end
  local ok, wait = per_sender:take(msg.from)
  if not ok then return tempfail(450, "4.7.1", "again in " .. wait .. " seconds") end
end)
`)
	c.is(c.mail("x@y.example"), "continue")
	c.is(c.rcpt("bob@example.org"), "550 5.1.2 No such domain: example.org")
	c.is(c.rcpt("bob@Example.Com"), "continue")
	c.is(c.rcpt("bob@example.com"), "continue")
	c.is(c.rcpt("bob@example.com"), "450 4.7.1 again in 30 seconds")
	c.done(policy.Accept)
	c.is(c.mail("A@b.example"), "continue")
	c.is(c.rcpt("bob@example.org"), "550 5.1.2 No such domain: example.org")
	c.done(policy.Continue)
	c.is(c.mail("a@b.example"), "continue")
	c.is(c.rcpt("bob@example.org"), "accept")
}
