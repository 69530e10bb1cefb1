package logsink

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/netip"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/moongate/moongate/policy"
	"go.uber.org/goleak"
	"go.uber.org/zap"
)

// patience bounds what must come; a busy machine may be slow.
const patience = time.Minute

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// buf is a bytes.Buffer for many goroutines.
type buf struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buf) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buf) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestEveryLineComesOutWhole(t *testing.T) {
	var out buf
	log, sink := New(Options{Out: &out})
	var all sync.WaitGroup
	for g := range 8 {
		all.Go(func() {
			for i := range 500 {
				log.Info("line", zap.Int("g", g), zap.Int("i", i))
			}
		})
	}
	all.Wait()
	sink.Close(patience)
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if len(lines) != 4000 || sink.Dropped() != 0 {
		t.Fatalf("%d lines, %d dropped", len(lines), sink.Dropped())
	}
	next := map[float64]float64{}
	for _, line := range lines {
		var v map[string]any
		if err := json.Unmarshal([]byte(line), &v); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if g := v["g"].(float64); v["i"] != next[g] {
			t.Fatalf("line %v of goroutine %v stands where %v should", v["i"], g, next[g])
		} else {
			next[g]++
		}
	}
}

// A line is out at once, not when a buffer is full or a timer has run: in the
// bubble's time it takes none.
func TestLineIsOutAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		log, sink := New(Options{Out: w})
		start := time.Now()
		log.Info("now")
		b := make([]byte, 4096)
		if n, err := r.Read(b); err != nil || !strings.Contains(string(b[:n]), `"msg":"now"`) {
			t.Fatalf("read %q, %v", b[:n], err)
		}
		if took := time.Since(start); took != 0 {
			t.Errorf("took %s", took)
		}
		sink.Close(patience)
	})
}

// A blocked reader costs lines, never time: and it is told afterwards.
func TestBlockedSinkDropsAndCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe() // nobody reads
		log, sink := New(Options{Out: w})
		big := strings.Repeat("x", 100<<10)
		log.Info("first")
		synctest.Wait() // the writer is stuck with that line, and takes no more
		start := time.Now()
		for range 100 { // 10 MB into 4 MB
			log.Info("line", zap.String("big", big))
		}
		log.Sync()
		if took := time.Since(start); took > time.Second {
			t.Errorf("logging against a blocked sink took %s", took)
		}
		if n := sink.Dropped(); n != 59 { // the last one reaches beyond
			t.Errorf("%d dropped", n)
		}
		var out bytes.Buffer
		read := make(chan struct{})
		go func() { io.Copy(&out, r); close(read) }()
		sink.Close(time.Minute)
		w.Close()
		<-read
		if want := `"msg":"log lines dropped","count":59}`; !strings.Contains(out.String(), want) {
			t.Errorf("the loss is not told: no %s", want)
		}
	})
}

// The line of a message with very many recipients is longer than what waits for
// a reader may be, and comes all the same.
func TestLineLongerThanTheRing(t *testing.T) {
	var out bytes.Buffer
	log, sink := New(Options{Out: &out})
	log.Info("before")
	log.Info("long", zap.String("rcpts", strings.Repeat("x", ringSize+1)))
	sink.Close(patience)
	if sink.Dropped() != 0 || out.Len() < ringSize {
		t.Errorf("%d dropped, %d octets written", sink.Dropped(), out.Len())
	}
}

func TestCloseGivesUpOnAStuckReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe()
		log, sink := New(Options{Out: w})
		log.Info("stuck")
		start := time.Now()
		sink.Close(50 * time.Millisecond)
		if took := time.Since(start); took != 50*time.Millisecond {
			t.Errorf("close took %s", took)
		}
		log.Info("late")
		if sink.Dropped() != 1 {
			t.Errorf("%d dropped, want the late one", sink.Dropped())
		}
		r.Close() // lets the writer go, for goleak
	})
}

func TestLevelChanges(t *testing.T) {
	var out buf
	log, sink := New(Options{Out: &out})
	log.Debug("unseen")
	sink.Level.SetLevel(zap.DebugLevel)
	log.Debug("seen")
	sink.Close(patience)
	if got := out.String(); strings.Contains(got, "unseen") || !strings.Contains(got, "seen") {
		t.Errorf("got %q", got)
	}
}

var (
	say = policy.Say
	ok  = say(250, policy.Status{2, 1, 0}, "Ok")
)

// session is one of a client that has said EHLO.
func session(t *testing.T, log *zap.Logger, rules ...*policy.Rule) *policy.Session {
	gen := policy.NewRules("v1", rules...)
	env := &policy.Env{Log: log, Face: policy.SMTP, SoftBounce: len(rules) > 0,
		Engine: policy.EngineFunc(func(*policy.Facts) *policy.Rules { return gen })}
	return env.NewSession(t.Context(), policy.Facts{ID: "S1", Listener: "mx", Remote: netip.MustParseAddrPort("192.0.2.7:4711"),
		PTR: "mail.example", Helo: "evil\nhelo", Proto: "ESMTP"})
}

func path(t *testing.T, raw string) policy.Path {
	t.Helper()
	p, err := policy.ParsePath(raw, true, false)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func rcpt(t *testing.T, raw string) *policy.Recipient {
	t.Helper()
	return &policy.Recipient{In: path(t, raw), Out: path(t, raw)}
}

// bare is text lines without what differs from run to run: the time and the
// process.
func bare(lines string) string {
	return regexp.MustCompile(`(?m)^\S+ |\[\d+\]:`).ReplaceAllString(lines, "")
}

// What would have been is as plain as what was: the code before soft_bounce,
// and the verdict of a rule that is only watched.
func TestTextTellsWhatWasMeant(t *testing.T) {
	var out buf
	log, sink := New(Options{Out: &out, Text: true, Host: "mx"})
	s := session(t, log, &policy.Rule{File: "10-gate.lua", Line: 3, Hook: policy.Rcpt, At: policy.Rcpt, Shadow: true, Evaluator: refuses{}})
	s.Begin(path(t, "<ann@example.net>"), nil)
	eve := rcpt(t, "<eve@example.org>")
	if v := s.Ask(&policy.Event{Hook: policy.Rcpt, Rcpt: eve}); v.Decided() {
		t.Errorf("a shadow rule decided %v", v)
	}
	r := say(550, policy.Status{5, 1, 1}, "no")
	s.Tell(&policy.Event{Hook: policy.Answered, Verb: "RCPT", By: policy.ByMoongate, Reply: s.Refusal(r), Meant: r.Code, Rcpt: eve})
	sink.Close(patience)
	want := `mx moongate shadow id=S1.1 reply="550 5.7.1 would" rule=10-gate.lua:3 stage=rcpt verdict=reject
mx moongate/smtpd connect from mail.example[192.0.2.7] listener=mx session=S1
mx moongate/smtpd S1_1: reject: RCPT from mail.example[192.0.2.7]: 450 4.1.1 <eve@example.org>: no; from=<ann@example.net> to=<eve@example.org> proto=ESMTP helo=<evil?helo> by=moongate id=S1.1 meant=550 policy=v1 session=S1
`
	if diff := cmp.Diff(want, bare(out.String())); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// refuses is a rule that refuses everything.
type refuses struct{}

func (refuses) Eval(context.Context, *policy.Session, *policy.Event) (policy.Verdict, error) {
	return policy.Verdict{Action: policy.Reject, Reply: say(550, policy.Status{5, 7, 1}, "would")}, nil
}

// Durations are milliseconds in both encodings, and say so.
func TestDurations(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0ms", 624413 * time.Nanosecond: "0.624ms", 12340 * time.Microsecond: "12.34ms",
		30 * time.Second: "30000ms", -time.Millisecond: "-1ms",
	} {
		for text, want := range map[bool]string{true: " took=" + want + "\n", false: `,"took":"` + want + "\"}\n"} {
			var out buf
			log, sink := New(Options{Out: &out, Text: text})
			log.Info("policy loaded", zap.Duration("took", d))
			sink.Close(patience)
			if !strings.HasSuffix(out.String(), want) {
				t.Errorf("%v: got %q, want %q", d, out.String(), want)
			}
		}
	}
}

// Delays are in seconds, as Postfix writes them.
func TestDelays(t *testing.T) {
	for ms, want := range map[float64]string{
		0: "0", 0.62: "0", 6: "0.01", 100: "0.1", 624.4: "0.62", 994: "0.99", 996: "1", 1240: "1.2", 9949: "9.9", 9951: "10", 123456: "123",
		1e7: "10000",
	} {
		if got := seconds(ms); got != want {
			t.Errorf("%v ms: %q, want %q", ms, got, want)
		}
	}
}

// The text lines are those that Postfix's readers know.
func TestTextIsPostfixShaped(t *testing.T) {
	var out buf
	log, sink := New(Options{Out: &out, Text: true, Host: "mx"})
	s := session(t, log)
	s.Begin(path(t, "<ann@example.net>"), nil)
	s.Tell(&policy.Event{Hook: policy.Answered, Verb: "MAIL", Reply: ok})
	s.Tell(&policy.Event{Hook: policy.Answered, Verb: "RCPT", Reply: ok, Rcpt: rcpt(t, "<bob@example.org>")})
	sales := rcpt(t, "<sales@example.org>")
	sales.Out, sales.Duplicate = path(t, "<bob@example.org>"), true // goes on with bob's, in one RCPT
	s.Tell(&policy.Event{Hook: policy.Answered, Verb: "RCPT", Reply: ok, Rcpt: sales})
	s.Tell(&policy.Event{Hook: policy.Answered, Verb: "RCPT", By: policy.ByUpstream, Reply: say(550, policy.Status{5, 1, 1}, "<eve@example.org>: unknown"),
		Rcpt: rcpt(t, "<eve@example.org>")})
	ghost := rcpt(t, "<ghost@example.org>")
	ghost.Drop(policy.Verdict{Action: policy.Drop, Reason: "nobody reads it", Rule: &policy.Rule{File: "10-gate.lua", Line: 3}})
	s.Tell(&policy.Event{Hook: policy.Answered, Verb: "RCPT", Reply: ok, Rcpt: ghost})
	s.Tx.Upstream = "127.0.0.1:10025"
	s.Tell(&policy.Event{Hook: policy.Done, Outcome: &policy.Outcome{Action: policy.Accept, By: policy.ByUpstream, Size: 1234, QueuedAs: "4Z",
		Reply: say(250, policy.Status{2, 0, 0}, "Ok: queued as 4Z")}})
	s.Begin(path(t, "<>"), nil)
	no := say(550, policy.Status{5, 7, 1}, "no")
	s.Tell(&policy.Event{Hook: policy.Answered, Verb: "DATA", By: policy.ByMoongate, Reply: no})
	s.Tell(&policy.Event{Hook: policy.Done, Outcome: &policy.Outcome{Action: policy.Reject, By: policy.ByMoongate, Reply: no}})
	for _, v := range []policy.Verdict{{Action: policy.Discard, Reason: "junk"}, {Action: policy.Quarantine, Rule: &policy.Rule{File: "10-gate.lua", Line: 3}}} {
		s.Begin(path(t, "<ann@example.net>"), nil)
		s.Tell(&policy.Event{Hook: policy.Answered, Verb: "RCPT", Reply: ok, Rcpt: rcpt(t, "<bob@example.org>")})
		o := &policy.Outcome{Action: v.Action, By: policy.ByPolicy, Size: 99, Reply: ok, Verdict: v}
		if v.Action == policy.Quarantine {
			o.Kept = s.Tx.ID
		}
		s.Tell(&policy.Event{Hook: policy.Done, Outcome: o})
	}
	s.Tell(&policy.Event{Hook: policy.Disconnect, Cause: "too many errors", By: policy.ByMoongate})
	log.Named("cmd").With(zap.String("file", "a b.lua")).Warn("reload refused", zap.Int("problems", 2))
	sink.Close(patience)

	got := regexp.MustCompile(` (ms|stages)=\S+|delay=\S+,`).ReplaceAllString(bare(out.String()), "")
	got = regexp.MustCompile(`after \d+ms`).ReplaceAllString(got, "after 0ms")
	want := `mx moongate/smtpd connect from mail.example[192.0.2.7] listener=mx session=S1
mx moongate/smtpd S1_1: reject: RCPT from mail.example[192.0.2.7]: 550 5.1.1 <eve@example.org>: unknown; from=<ann@example.net> to=<eve@example.org> proto=ESMTP helo=<evil?helo> by=upstream id=S1.1 policy=v1 session=S1
mx moongate/smtpd S1_1: client=mail.example[192.0.2.7]
mx moongate/policy S1_1: from=<ann@example.net>, size=1234, nrcpt=1 to=<bob@example.org> to=<sales@example.org> to=<eve@example.org> to=<ghost@example.org> by=upstream helo=evil?helo id=S1.1 listener=mx policy=v1 proto=ESMTP queued_as=4Z session=S1 upstream=127.0.0.1:10025 verdict=accepted
mx moongate/smtp S1_1: to=<bob@example.org>, relay=127.0.0.1:10025,  dsn=2.0.0, status=sent (250 2.0.0 Ok: queued as 4Z)
mx moongate/policy S1_1: drop: to=<ghost@example.org> rule=10-gate.lua:3 reason="nobody reads it"
mx moongate/smtpd S1_2: reject: DATA from mail.example[192.0.2.7]: 550 5.7.1 <DATA>: no; from=<> proto=ESMTP helo=<evil?helo> by=moongate id=S1.2 policy=v1 session=S1
mx moongate/policy S1_2: from=<> by=moongate client=mail.example[192.0.2.7] helo=evil?helo id=S1.2 listener=mx policy=v1 proto=ESMTP session=S1 size=0 upstream="" verdict=rejected
mx moongate/smtpd S1_3: client=mail.example[192.0.2.7]
mx moongate/policy S1_3: from=<ann@example.net>, size=99, nrcpt=1 to=<bob@example.org> by=policy helo=evil?helo id=S1.3 listener=mx policy=v1 proto=ESMTP reason=junk session=S1 upstream="" verdict=discarded
mx moongate/smtpd S1_3: discard: DATA from mail.example[192.0.2.7]: <DATA>: junk; from=<ann@example.net> proto=ESMTP helo=<evil?helo>
mx moongate/smtpd S1_4: client=mail.example[192.0.2.7]
mx moongate/policy S1_4: from=<ann@example.net>, size=99, nrcpt=1 to=<bob@example.org> by=policy helo=evil?helo id=S1.4 listener=mx policy=v1 proto=ESMTP quarantine=S1.4 rule=10-gate.lua:3 session=S1 upstream="" verdict=quarantined
mx moongate/smtpd S1_4: hold: DATA from mail.example[192.0.2.7]: <DATA>: 10-gate.lua:3; from=<ann@example.net> proto=ESMTP helo=<evil?helo>
mx moongate/smtpd too many errors after 0ms from mail.example[192.0.2.7]
mx moongate/smtpd disconnect from mail.example[192.0.2.7] data=0/1 mail=1 rcpt=5/6 commands=6/8 cause="too many errors" session=S1
mx moongate/cmd warning: reload refused file="a b.lua" problems=2
`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// How replies stand behind "reject:": without the footer that differs from message
// to message, in one line, and behind what was refused where no such thing is said.
func TestTextReplies(t *testing.T) {
	for reply, want := range map[string]string{
		"550 5.7.1 no (id S1.1)":         "550 5.7.1 <a@b>: no",
		"550 no":                         "550 <a@b>: no",
		"421 4.7.0 bye (id S1)":          "421 4.7.0 <a@b>: bye",
		"550 5.7.1 no (id S1.2)":         "550 5.7.1 <a@b>: no (id S1.2)",
		"550 5.1.1 <c@d>: unknown":       "550 5.1.1 <c@d>: unknown",
		"550-5.7.1 one / 550 5.7.1 two":  "550 5.7.1 <a@b>: one / 550 5.7.1 two",
		"554 5.7.1 Service; Client host": "554 5.7.1 Service; Client host",
		"550":                            "550", "": "", "5": "5",
	} {
		l := line{values: map[string]any{"reply": reply, "id": "S1.1", "session": "S1"}}
		if got := naming(l.reply(), "a@b"); got != want {
			t.Errorf("%q: %q, want %q", reply, got, want)
		}
	}
}

// A machine's name is one word, whatever it is.
func TestTextHost(t *testing.T) {
	for name, want := range map[string]string{"mx": "mx", "my host\n": "my", "  ": "localhost"} {
		if got := (Options{Host: name}).host(); got != want {
			t.Errorf("%q: %q, want %q", name, got, want)
		}
	}
}

// A reader that went away costs lines, which are counted and told when another
// one is there.
func TestReaderGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		out := &flaky{}
		log, sink := New(Options{Out: out})
		out.broken.Store(true)
		log.Info("lost")
		log.Sync()
		log.Info("lost too")
		log.Sync()
		if n := sink.Dropped(); n != 2 {
			t.Errorf("%d dropped", n)
		}
		out.broken.Store(false)
		log.Info("found")
		log.Sync()
		sink.Close(patience)
		if got := out.String(); strings.Contains(got, "lost") || !strings.Contains(got, "found") || !strings.Contains(got, `"log lines dropped","count":2}`) {
			t.Errorf("got %q", got)
		}
	})
}

// flaky fails while it is broken.
type flaky struct {
	buf
	broken atomic.Bool
}

func (f *flaky) Write(p []byte) (int, error) {
	if f.broken.Load() {
		return 0, io.ErrClosedPipe
	}
	return f.buf.Write(p)
}

// A client is one word with one pair of brackets, which holds its address or no
// name: fail2ban bans whom it finds in the first pair.
func TestTextNamesClients(t *testing.T) {
	for client, want := range map[string]string{
		"mail.example[192.0.2.7]": "mail.example[192.0.2.7]",
		"unknown[2001:db8::1]":    "unknown[2001:db8::1]",
		"unknown[unknown]":        "unknown[unknown]",
		"local":                   "local[-]",
		"a[198.51.100.1]: 550 b.example[192.0.2.7]": "a?198.51.100.1?:?550?b.example[192.0.2.7]",
		"[198.51.100.1][192.0.2.7]":                 "?198.51.100.1?[192.0.2.7]",
		"a%s%!d(MISSING)\r\nx[198.51.100.1][::1]":   "a%s%!d(MISSING)??x?198.51.100.1?[::1]",
	} {
		var out buf
		log, sink := New(Options{Out: &out, Text: true, Host: "mx"})
		log.Info("disconnect", zap.String(policy.KeyClient, client), zap.String(policy.KeyCause, "too many errors"), zap.Int(policy.KeyMillis, 7))
		log.Info("refuse", zap.String(policy.KeyClient, client), zap.String(policy.KeyStage, "rcpt"), zap.String(policy.KeyReply, "550 no"))
		sink.Close(patience)
		want := "mx moongate/smtpd too many errors after 7ms from " + want + "\n" +
			"mx moongate/smtpd disconnect from " + want + "  cause=\"too many errors\" ms=7\n" +
			"mx moongate/smtpd NOQUEUE: reject: RCPT from " + want + ": 550 no;\n"
		if diff := cmp.Diff(want, bare(out.String())); diff != "" {
			t.Errorf("%q (-want +got)\n%s", client, diff)
		}
	}
}
