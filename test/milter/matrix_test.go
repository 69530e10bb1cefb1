package milter_test

import (
	"context"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/policytest"
	"github.com/moongate/moongate/proxy"
	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/postfix"
)

// A door is one face of the policy with a real Postfix: the SMTP door before
// one, or the milter server behind one.
type door struct {
	face *policy.Face
	addr string // where a client speaks to it
	mta  *postfix.Postfix
	use  func(...*policy.Rule)
	seen *recorder
}

// recorder knows how messages ended, by their sender, and which were kept.
type recorder struct {
	mu    sync.Mutex
	more  chan struct{} // closed and replaced with every message
	words map[string]string
	kept  map[string]bool
}

func newRecorder() *recorder {
	return &recorder{words: map[string]string{}, kept: map[string]bool{}, more: make(chan struct{})}
}

// Record implements policy.Recorder.
func (r *recorder) Record(tx *policy.Transaction, o *policy.Outcome) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.words[tx.In.From.Local] = o.Word()
	close(r.more)
	r.more = make(chan struct{})
}

// Keep implements policy.Keeper.
func (r *recorder) Keep(_ context.Context, tx *policy.Transaction, _ policy.Verdict) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.kept[tx.In.From.Local] = true
	return tx.ID, nil
}

// word waits for the end of a message and says how it was.
func (r *recorder) word(sender string) string {
	for late := time.After(time.Minute); ; {
		r.mu.Lock()
		word, more := r.words[sender], r.more
		r.mu.Unlock()
		if word != "" {
			return word
		}
		select {
		case <-more:
		case <-late:
			return "never ended"
		}
	}
}

// smtpDoor is the SMTP door before a Postfix.
func smtpDoor(t *testing.T) *door {
	t.Helper()
	d := &door{face: policy.SMTP, mta: postfix.Start(t, postfix.Options{}), seen: newRecorder()}
	env, _ := policytest.Env(policy.SMTP)
	var mu sync.Mutex
	rules := policy.NewRules("test")
	env.Engine = policy.EngineFunc(func(*policy.Facts) *policy.Rules { mu.Lock(); defer mu.Unlock(); return rules })
	d.use = func(rs ...*policy.Rule) { mu.Lock(); defer mu.Unlock(); rules = policy.NewRules("test", rs...) }
	env.Recorder, env.Keeper = d.seen, d.seen
	hop := &proxy.Hop{Address: d.mta.Addr, Hostname: "mx.example.org"}
	srv := &proxy.Server{Log: env.Log, Settings: proxy.Settings{Hostname: "mx.example.org", Env: env, Hop: hop, Received: "never"}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	d.addr = l.Addr().String()
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() { srv.Close(); <-done; hop.Close() })
	return d
}

// milterDoor is a Postfix that asks the milter server.
func milterDoor(t *testing.T) *door {
	t.Helper()
	seen := newRecorder()
	p := serve(t, func(e *policy.Env) { e.Recorder = seen })
	mta := postfix.Start(t, postfix.Options{Milters: []string{"inet:" + p.addr}})
	return &door{face: policy.Milter, addr: mta.Addr, mta: mta, use: p.use, seen: seen}
}

// The texts of the rules under test.
const (
	refused = "550 5.7.1 refused by rule"
	putOff  = "451 4.7.1 try later"
)

// command is what the client says when a hook is asked.
var command = map[policy.Hook]string{
	policy.Connect: "banner", policy.Helo: "EHLO", policy.Mail: "MAIL", policy.Rcpt: "RCPT", policy.Data: "DATA",
	policy.Headers: ".", policy.Message: ".", policy.Unknown: "WIZ", policy.Vrfy: "VRFY",
}

// An outcome is what comes of a verdict.
type outcome struct {
	heard     map[string]string // by command, what the reply begins with; the rest is positive
	word      string            // of the audit line; "" if there is none
	delivered bool
	kept      bool
}

// expected is the outcome of an action at a hook, on either face.
func expected(t *testing.T, h policy.Hook, a policy.Action) outcome {
	t.Helper()
	at, ok := command[h]
	if !ok {
		t.Errorf("no client knows how to reach %s", h)
	}
	pass := outcome{word: "accepted", delivered: true}
	refuse := func(reply, word string) outcome {
		o := outcome{heard: map[string]string{at: reply}}
		switch h {
		case policy.Unknown, policy.Vrfy: // no message depends on them
			o.word, o.delivered = "accepted", true
		case policy.Rcpt: // it was the only one, and the client gives up
			o.word = "aborted"
		case policy.Data, policy.Headers, policy.Message:
			o.word = word
		}
		return o
	}
	switch a {
	case policy.Continue, policy.Accept, policy.Bypass:
		return pass
	case policy.Reject:
		return refuse(refused, "rejected")
	case policy.Tempfail:
		return refuse(putOff, "tempfailed")
	case policy.Discard, policy.Drop:
		return outcome{word: "discarded"}
	case policy.Quarantine:
		return outcome{word: "quarantined", kept: true}
	}
	t.Errorf("nobody says what %s comes to", a)
	return pass
}

// unlike is what a client hears where that is not the rule's reply to the
// command itself: Postfix has its own idea of when a refusal is told
// (docs/faces.md), and a greeting that is no refusal for good is 421.
var unlike = map[string]map[string]string{
	"smtp connect tempfail":   {"banner": "421 4.7.1 try later"},
	"milter connect reject":   {"banner": "554 ", "WIZ": refused, "VRFY": refused, "MAIL": refused},
	"milter connect tempfail": {"WIZ": putOff, "VRFY": putOff, "MAIL": putOff},
	"milter helo reject":      {"WIZ": refused, "VRFY": refused, "MAIL": refused},
	"milter helo tempfail":    {"WIZ": putOff, "VRFY": putOff, "MAIL": putOff},
}

// elsewhere are the hooks that this client cannot reach, and why.
var elsewhere = map[string]string{
	"smtp auth": "the door offers no AUTH yet: the rules are checked, and not asked",
}

// Each action at each hook where a face has it, through that face with a real
// Postfix: what the client hears, what the audit line says, what is delivered.
func TestMatrix(t *testing.T) {
	for _, start := range []func(*testing.T) *door{smtpDoor, milterDoor} {
		d := start(t)
		t.Run(d.face.Name, func(t *testing.T) {
			want := map[string]outcome{} // by sender
			for h := range policy.Hook(policy.NumAsked) {
				for a := policy.Action(0); !strings.HasPrefix(a.String(), "action("); a++ {
					if !d.face.Can(h, a) || elsewhere[d.face.Name+" "+h.String()] != "" {
						continue
					}
					name := d.face.Name + " " + h.String() + " " + a.String()
					o := expected(t, h, a)
					if other := unlike[name]; other != nil {
						o.heard = other
					}
					v := policy.Verdict{Action: a}
					switch a {
					case policy.Reject:
						v = policytest.Reject("refused by rule")
					case policy.Tempfail:
						v = policytest.Tempfail("try later")
					}
					d.use(policytest.Always(h, v))
					sender := h.String() + "-" + a.String()
					want[sender] = o
					d.converse(t, name, sender, o.heard)
					if o.word != "" {
						if got := d.seen.word(sender); got != o.word {
							t.Errorf("%s: the message was %s, want %s", name, got, o.word)
						}
					}
				}
			}
			d.check(t, want)
		})
	}
}

// converse says all that a client can say, up to a refusal.
func (d *door) converse(t *testing.T, name, sender string, want map[string]string) {
	t.Helper()
	c := client.Dial(t, d.addr, "")
	defer c.Close()
	heard := func(command, got string) (goOn bool) {
		w := want[command]
		switch {
		case w != "":
		case command == "WIZ":
			w = "500 "
		case command == "VRFY":
			w = "252 "
		}
		good := strings.HasPrefix(got, w)
		if w == "" {
			good = strings.HasPrefix(got, "2") || strings.HasPrefix(got, "3")
		}
		if !good {
			t.Errorf("%s: the client hears %q to %s, want %q", name, got, command, w)
		}
		return strings.HasPrefix(got, "2") || strings.HasPrefix(got, "3")
	}
	if !heard("banner", c.Reply()) && d.face == policy.SMTP {
		return // the door answers nothing more to such a client
	}
	if !heard("EHLO", c.Say("EHLO one.example")) {
		return
	}
	heard("WIZ", c.Say("WIZ"))
	heard("VRFY", c.Say("VRFY b@example.org"))
	if heard("MAIL", c.Say("MAIL FROM:<"+sender+"@example.net>")) && heard("RCPT", c.Say("RCPT TO:<b@example.org>")) && heard("DATA", c.Say("DATA")) {
		heard(".", c.Say("X-Case: "+sender+"\r\n"+mail+"."))
	}
	c.Say("QUIT")
}

// check compares what was delivered and kept with what is wanted.
func (d *door) check(t *testing.T, want map[string]outcome) {
	t.Helper()
	d.mta.Settle()
	got := map[string]bool{}
	for _, m := range d.mta.Inside.Messages() {
		got[caseOf(m)] = true
	}
	held, err := os.ReadDir(d.mta.Dir + "/queue/hold")
	if err != nil {
		t.Fatal(err)
	}
	kept := 0
	d.seen.mu.Lock()
	defer d.seen.mu.Unlock()
	for sender, o := range want {
		if got[sender] != o.delivered {
			t.Errorf("%s %s: delivered %v, want %v", d.face.Name, sender, got[sender], o.delivered)
		}
		if o.word == "" && d.seen.words[sender] != "" {
			t.Errorf("%s %s: an audit line says %s, want none", d.face.Name, sender, d.seen.words[sender])
		}
		if d.face == policy.SMTP && d.seen.kept[sender] != o.kept {
			t.Errorf("%s %s: kept %v, want %v", d.face.Name, sender, d.seen.kept[sender], o.kept)
		}
		if d.face == policy.Milter && o.kept {
			kept++
		}
	}
	if len(held) != kept {
		t.Errorf("%s: %d messages on hold, want %d", d.face.Name, len(held), kept)
	}
}

// caseOf is the X-Case of a message.
func caseOf(m postfix.Message) string {
	_, rest, _ := strings.Cut(string(m.Body()), "X-Case: ")
	name, _, _ := strings.Cut(rest, "\r\n")
	return name
}
