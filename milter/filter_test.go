package milter

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/moongate/moongate/milter/wire"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/policytest"
)

const aHeader = "From: a@example.net\r\nX-A: 1\r\nSubject: S\r\nX-A: 2\r\nX-A: 3\r\n"

func subject(s string) string { return strings.Replace(aHeader, "Subject: S", "Subject: "+s, 1) }

// What libmilter hears of us, for the first message and the second, of the
// same session.
func TestFilterHears(t *testing.T) {
	f := &Filter{Label: "every", Address: python(t, "every.py"), Hostname: "mx.example.org"}
	d := doorOf(t, t.Context(), []policy.Filter{f})
	defer d.close()
	for _, v := range []policy.Verdict{d.connect(), d.helo("client.example")} {
		if v.Decided() {
			t.Fatal(say(v))
		}
	}
	d.s.TLS = &policy.TLS{Version: "TLSv1.3", Cipher: "X"}
	d.s.User = "joe"
	d.helo("again.example")
	for n := range 2 {
		d.mail("a@example.net", "SIZE=10", "BODY=8BITMIME")
		d.rcpt("b@example.net")
		d.rcpt("reject@example.net")
		body := strings.Repeat("x", 70000*n) + "\r\n"
		if v := d.message("Subject: tell\r\nX-Two:  two blanks\r\n\tand a fold\r\nx-CASE:v\r\n", body); v.Decided() {
			t.Fatal(say(v))
		}
		want := []string{
			"connect client.example 192.0.2.1", "helo client.example tls=None", "helo again.example tls=TLSv1.3",
			"mail <a@example.net> SIZE=10 BODY=8BITMIME", "auth joe addr 192.0.2.1",
			"rcpt <b@example.net>", "rcpt <reject@example.net>", "data i=True",
			"header Subject 'tell'", `header X-Two ' two blanks\n\tand a fold'`, "header x-CASE 'v'", "body 2",
		}
		if n == 1 { // HELO is said again; the filter has kept the old ones
			want = append(want[:3:3], append([]string{"helo again.example tls=TLSv1.3"}, want[3:]...)...)
			want[len(want)-1] = "body 70002"
		}
		var got []string
		for _, f := range d.s.Tx.Header().Fields() {
			if strings.HasPrefix(f.Name(), "X-Seen-") {
				got = append(got, f.Value())
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("message %d: libmilter heard (-want +got):\n%s", n+1, diff)
		}
		d.done(policy.Verdict{Action: policy.Accept})
	}
}

// Every answer and every change of a real filter.
func TestFilterSays(t *testing.T) {
	f := &Filter{Label: "every", Address: python(t, "every.py")}
	session := func(t *testing.T) *door {
		d := doorOf(t, t.Context(), []policy.Filter{f})
		t.Cleanup(d.close)
		d.connect()
		d.helo("client.example")
		d.mail("a@example.net")
		d.rcpt("b@example.net")
		return d
	}
	t.Run("recipients", func(t *testing.T) {
		d := session(t)
		for to, want := range map[string]string{
			"multi@example.net":  "reject 550-5.7.1 first 100% / 550-5.7.1 second / 550 5.7.1 third",
			"reject@example.net": "reject 550 5.7.1 Command rejected",
			"temp@example.net":   "tempfail 451 4.7.1 Service unavailable - try again later",
			"fine@example.net":   "continue",
		} {
			if got := say(d.rcpt(to)); got != want {
				t.Errorf("%s: got %q, want %q", to, got, want)
			}
		}
		if v := d.message(aHeader, "x\r\n"); v.Decided() {
			t.Errorf("the message after refused recipients: %s", say(v))
		}
	})
	t.Run("discard at rcpt means the message", func(t *testing.T) {
		d := session(t)
		if v := d.rcpt("discard@example.net"); v.Decided() {
			t.Errorf("at rcpt: %s", say(v))
		}
		if v := d.message(aHeader, "x\r\n"); v.Action != policy.Discard {
			t.Errorf("then: %s", say(v))
		}
	})
	t.Run("unknown", func(t *testing.T) {
		d := session(t)
		v := d.s.Ask(&policy.Event{Hook: policy.Unknown, Line: []byte("WIZ ard")})
		if got := say(v); got != "reject 500 5.5.2 what is WIZ ard" {
			t.Error(got)
		}
		if v := d.message(aHeader, "x\r\n"); v.Decided() {
			t.Errorf("and after it: %s", say(v))
		}
	})
	for subj, want := range map[string]string{
		"reply":         "reject 554 5.7.1 no thanks",
		"discard":       "discard",
		"accept":        "continue",
		"reject at eoh": "reject 550 5.7.1 Command rejected",
	} {
		t.Run(subj, func(t *testing.T) {
			d := session(t)
			if got := say(d.message(subject(subj), "x\r\n")); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			d.done(policy.Verdict{})
			// The session goes on.
			d.mail("a@example.net")
			d.rcpt("b@example.net")
			if v := d.message(aHeader, "x\r\n"); v.Decided() {
				t.Errorf("the next message: %s", say(v))
			}
		})
	}
	t.Run("edit", func(t *testing.T) {
		d := session(t)
		d.rcpt("c@example.net")
		if v := d.message(subject("edit"), "x\r\n"); v.Decided() {
			t.Fatal(say(v))
		}
		want := "X-Ins: top\r\nFrom: a@example.net\r\nSubject: edit\r\nX-A: changed\r\nX-A: 3\r\nX-Add: 1\r\nX-None: made\r\n"
		if diff := cmp.Diff(want, d.out()); diff != "" {
			t.Errorf("header (-want +got):\n%s", diff)
		}
		var to []string
		for _, r := range d.s.Tx.Recipients() {
			to = append(to, r.Out.Raw)
		}
		if got := d.s.Tx.Out.From.Raw + " " + strings.Join(to, " "); got != "<new@example.org> <c@example.net> <added@example.org>" {
			t.Errorf("envelope: %s", got)
		}
		for _, e := range d.s.Tx.Edits {
			if e.By != "every" || e.Rule != nil {
				t.Errorf("edit %s: by %q", e, e.By)
			}
		}
	})
	t.Run("body", func(t *testing.T) {
		d := session(t)
		if v := d.message(subject("body"), "x\r\n"); v.Decided() {
			t.Fatal(say(v))
		}
		if got := d.outBody(); got != strings.Repeat("A", 70000)+"\r\n" {
			t.Errorf("body of %d octets", len(got))
		}
	})
	t.Run("quarantine without a drawer is a failure", func(t *testing.T) {
		d := session(t)
		if v := d.message(subject("quarantine"), "x\r\n"); v.Action != policy.Tempfail || !v.Failed {
			t.Errorf("%+v", v)
		}
	})
	t.Run("shadow", func(t *testing.T) {
		shadow := &Filter{Label: "shadow", Address: f.Address, Shadow: true}
		d := doorOf(t, t.Context(), []policy.Filter{shadow})
		defer d.close()
		d.connect()
		d.helo("client.example")
		d.mail("a@example.net")
		if v := d.rcpt("reject@example.net"); v.Decided() {
			t.Errorf("a shadow decides: %s", say(v))
		}
		if v := d.message(subject("edit"), "x\r\n"); v.Decided() || len(d.s.Tx.Edits) > 0 {
			t.Errorf("a shadow acts: %s %v", say(v), d.s.Tx.Edits)
		}
		if n := d.logs.FilterMessage("shadow").Len(); n != 2 {
			t.Errorf("%d lines of the shadow, want 2", n)
		}
	})
}

// What is discarded at MAIL goes on at both doors: the recipients are taken, and
// asked about. The filter that said so does not want to hear of them (libmilter
// gives no answer), and one that never heard of the sender cannot.
func TestFilterDiscardedAtMail(t *testing.T) {
	every := &Filter{Label: "every", Address: python(t, "every.py")}
	second := &Filter{Label: "second", Address: every.Address}
	for name, tc := range map[string]struct {
		from string
		want policy.Action
	}{
		"by a filter":      {"discard@example.net", policy.Discard},
		"by a rule":        {"rule@example.net", policy.Discard},
		"by nobody at all": {"a@example.net", policy.Continue},
	} {
		t.Run(name, func(t *testing.T) {
			d := doorOf(t, t.Context(), []policy.Filter{every, second}, policytest.Rule(policy.Mail, func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
				if s.Tx.In.From.Local == "rule" {
					return policy.Verdict{Action: policy.Discard}, nil
				}
				return policy.Verdict{}, nil
			}))
			defer d.close()
			d.connect()
			d.helo("client.example")
			if v := d.mail(tc.from); v.Action != tc.want {
				t.Fatalf("MAIL: %s", say(v))
			}
			for _, to := range []string{"b@example.net", "c@example.net"} {
				if v := d.rcpt(to); v.Decided() {
					t.Errorf("RCPT: %s", say(v))
				}
			}
			if n := d.logs.FilterMessage("filter failed").Len(); n > 0 {
				t.Errorf("%d failures", n)
			}
			d.done(policy.Verdict{Action: tc.want})
			d.mail("a@example.net")
			if v := d.rcpt("reject@example.net"); say(v) != "reject 550 5.7.1 Command rejected" {
				t.Errorf("the next message: %s", say(v))
			}
		})
	}
}

// A shadow that refuses or discards takes the message for ended, and libmilter
// gives no answer to what comes then. We go on without it, and do not wait.
func TestFilterShadowRefuses(t *testing.T) {
	shadow := &Filter{Label: "shadow", Address: python(t, "every.py"), Shadow: true}
	for from, want := range map[string]string{
		"reject@example.net":  "mail reject",
		"discard@example.net": "mail discard",
		"nodata@example.net":  "data tempfail",
	} {
		t.Run(want, func(t *testing.T) {
			d := doorOf(t, t.Context(), []policy.Filter{shadow})
			defer d.close()
			d.connect()
			d.helo("client.example")
			for _, v := range []policy.Verdict{d.mail(from), d.rcpt("b@example.net"), d.message(aHeader, "x\r\n")} {
				if v.Decided() {
					t.Errorf("a shadow decides: %s", say(v))
				}
			}
			if n := d.logs.FilterMessage("filter failed").Len(); n > 0 {
				t.Errorf("%d failures", n)
			}
			var got []string
			for _, e := range d.logs.FilterMessage("shadow").All() {
				m := e.ContextMap()
				got = append(got, m[policy.KeyStage].(string)+" "+m[policy.KeyVerdict].(string))
			}
			if strings.Join(got, ", ") != want {
				t.Errorf("the log tells of %q, want %q", got, want)
			}
		})
	}
}

// One that refused DATA refuses the message: a client that comes again with it
// hears the same, and no filter is asked about what it takes for ended.
func TestFilterRefusesData(t *testing.T) {
	d := doorOf(t, t.Context(), []policy.Filter{&Filter{Label: "every", Address: python(t, "every.py")}})
	defer d.close()
	d.connect()
	d.helo("client.example")
	d.mail("nodata@example.net")
	for range 2 {
		if v := d.rcpt("b@example.net"); v.Decided() {
			t.Errorf("RCPT: %s", say(v))
		}
		if v := d.message(aHeader, "x\r\n"); say(v) != "tempfail 451 4.7.1 Service unavailable - try again later" {
			t.Errorf("DATA: %s", say(v))
		}
	}
}

// A filter of the old kind, with neither helo nor eoh callback.
func TestFilterClassic(t *testing.T) {
	f := &Filter{Label: "classic", Address: python(t, "classic.py")}
	d := doorOf(t, t.Context(), []policy.Filter{f})
	defer d.close()
	d.connect()
	d.helo("client.example")
	for range 2 {
		d.mail("a@example.net")
		d.rcpt("b@example.net")
		v := d.message(aHeader, "x\r\n")
		if v.Decided() || !strings.HasSuffix(d.out(), "\r\nX-Classic: 1\r\n") {
			t.Errorf("%s %q", say(v), d.out())
		}
		d.done(v)
	}
}

// Filters are asked in order, each on what the one before made of the message;
// the rules see what they said, a signing one sees what the rules did.
func TestFilterChain(t *testing.T) {
	addr := python(t, "every.py")
	classic := python(t, "classic.py")
	rule := policytest.Rule(policy.Message, func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
		var names []string
		for _, r := range s.Tx.Filters {
			names = append(names, r.Name+"="+r.Verdict.Action.String())
		}
		return policy.Verdict{}, s.Tx.Do(policy.Edit{Kind: policy.AddHeader, Name: "X-Rule", Value: " saw " + strings.Join(names, " ")})
	})
	d := doorOf(t, t.Context(), []policy.Filter{
		&Filter{Label: "sign", Address: addr, Sign: true},
		&Filter{Label: "one", Address: classic},
		&Filter{Label: "two", Address: addr},
	}, rule)
	defer d.close()
	d.connect()
	d.helo("client.example")
	d.mail("a@example.net")
	d.rcpt("b@example.net")
	if v := d.message("Subject: tell\r\n", "x\r\n"); v.Decided() {
		t.Fatal(say(v))
	}
	var seen []string
	for _, f := range d.s.Tx.Header().Fields() {
		v := f.Value()
		if strings.HasPrefix(v, "header ") && !strings.Contains(v, "X-Seen") {
			seen = append(seen, v)
		}
	}
	want := []string{
		"header Subject 'tell'", "header X-Classic '1'", // two saw what one did
		"header Subject 'tell'", "header X-Classic '1'", "header X-Rule 'saw one=continue two=continue'", // sign saw all
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// What rules and the log are told of filters: nothing of one that was left out,
// and of one that failed why.
func TestFilterResults(t *testing.T) {
	var told []policy.FilterResult
	nobody := "unix:" + t.TempDir() + "/s"
	left := &Filter{Label: "left", Address: nobody, When: func(s *policy.Session) bool { return false }}
	rules := []*policy.Rule{
		policytest.Rule(policy.Mail, func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
			s.Tx.Skip = append(s.Tx.Skip, "left")
			return policy.Verdict{}, nil
		}),
		policytest.Rule(policy.Message, func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
			told = append(told, s.Tx.Filters...)
			return policy.Verdict{Action: policy.Accept}, nil
		}),
	}
	down := &Filter{Label: "down", Address: nobody, OnError: policy.Accept}
	d := doorOf(t, t.Context(), []policy.Filter{down, left}, rules...)
	converse(d)
	d.close()
	if n := d.logs.FilterMessage("filter failed").Len(); n != 3 {
		t.Errorf("%d failures, want one of each when the client came, none at HELO, and one for the message", n)
	}
	if len(told) != 1 || told[0].Name != "down" || told[0].Verdict.Decided() || told[0].Err == nil || !strings.Contains(told[0].Err.Error(), "no such file") {
		t.Errorf("msg.filters: %+v", told)
	}

	// The audit line tells what each said, not what became of it.
	b := newBadFilter(t)
	misdeed(t, "\x00\x00\x00\x01r")
	b.mode.Store(t.Name())
	b.at.Store('E')
	shadow := &Filter{Label: "shadow", Address: b.addr(), Shadow: true}
	d = doorOf(t, t.Context(), []policy.Filter{down, shadow})
	d.done(converse(d))
	d.close()
	if got := fmt.Sprint(d.logs.FilterMessage("message").All()[0].ContextMap()["filters"]); got != "[down=failed shadow=shadow:reject]" {
		t.Errorf("audit line: filters %s", got)
	}

	// A rule that accepts is not who refused: the filter is.
	away := &backFilter{policytest.Reject("no virus here")}
	d = doorOf(t, t.Context(), []policy.Filter{away}, rules...)
	v := converse(d)
	d.s.Tell(&policy.Event{Hook: policy.Done, Outcome: &policy.Outcome{Action: v.Action, Reply: v.Reply, By: source(v), Verdict: v}})
	d.close()
	if line := d.logs.FilterMessage("message").All()[0].ContextMap(); line["verdict"] != "rejected" || line["by"] != "filter" || line["rule"] != nil {
		t.Errorf("audit line: verdict %v by %v, rule %v", line["verdict"], line["by"], line["rule"])
	}
}

// What a filter said at an earlier command counts for the message: rules and the
// log see that it accepted, and the log what a shadow would have decided.
func TestFilterSaidEarlier(t *testing.T) {
	for _, tc := range []struct {
		name, at    string // when it answers so: a letter for the command
		says        string
		shadow      bool
		action      policy.Action // of msg.filters
		audit, next string        // the audit lines of this message, and of one that hears nothing of that kind
	}{
		{"accepts the client", "C", "a", false, policy.Accept, "accept", "accept"},
		{"accepts HELO", "H", "a", false, policy.Accept, "accept", "accept"},
		{"accepts the sender", "M", "a", false, policy.Accept, "accept", "continue"},
		{"accepts a recipient", "R", "a", false, policy.Accept, "accept", "continue"},
		{"accepts the header", "N", "a", false, policy.Accept, "accept", "continue"},
		{"accepts the message", "E", "a", false, policy.Accept, "accept", "continue"},
		{"refuses a recipient", "R", "r", false, policy.Continue, "continue", "continue"},
		{"a shadow has nothing to say", "-", "", true, policy.Continue, "continue", "continue"},
		{"a shadow accepts the client", "C", "a", true, policy.Continue, "shadow:accept", "shadow:accept"},
		{"a shadow refuses the client", "C", "r", true, policy.Continue, "shadow:reject", "continue"},
		{"a shadow refuses HELO", "H", "r", true, policy.Continue, "shadow:reject", "continue"},
		{"a shadow accepts the sender", "M", "a", true, policy.Continue, "shadow:accept", "continue"},
		{"a shadow refuses the sender", "M", "r", true, policy.Continue, "shadow:reject", "continue"},
		{"a shadow discards at a recipient", "R", "d", true, policy.Continue, "shadow:discard", "continue"},
		{"a shadow refuses a recipient", "R", "r", true, policy.Continue, "continue", "continue"},
		{"a shadow defers the data", "T", "t", true, policy.Continue, "shadow:tempfail", "continue"},
		{"a shadow holds the message", "E", "qodd\x00", true, policy.Continue, "shadow:quarantine", "continue"},
		{"a shadow discards the message", "E", "d", true, policy.Continue, "shadow:discard", "continue"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var quiet atomic.Bool
			said := fakeFilter(t, func(_ int, f wire.Frame) string {
				switch {
				case string(rune(f.Code)) != tc.at || quiet.Load():
				case len(tc.says) > 1: // a change, which has a text
					return "\x00\x00\x00" + string(rune(len(tc.says))) + tc.says + goOn
				default:
					return "\x00\x00\x00\x01" + tc.says
				}
				return goOn
			})
			behind := fakeFilter(t, nil) // is asked whatever the first said
			var told []policy.FilterResult
			d := doorOf(t, t.Context(), []policy.Filter{&Filter{Label: "f", Address: said.addr(), Shadow: tc.shadow}, &Filter{Label: "g", Address: behind.addr()}},
				policytest.Rule(policy.Message, func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
					told = append(told, s.Tx.Filters...)
					return policy.Verdict{}, nil
				}))
			defer d.close()
			d.connect()
			d.helo("client.example")
			for i, want := range []string{tc.audit, tc.next} {
				d.mail("a@example.net")
				d.rcpt("b@example.net")
				v := d.message(aHeader, "x\r\n")
				if v.Decided() {
					t.Errorf("it decides: %s", say(v))
				}
				d.done(v)
				line := d.logs.FilterMessage("message").All()[i].ContextMap()
				if got := fmt.Sprint(line["filters"]); got != "[f="+want+" g=continue]" {
					t.Errorf("audit line %d: filters %s, want %s", i, got, want)
				}
				quiet.Store(true)
			}
			if len(told) != 4 || told[0].Verdict.Action != tc.action || told[1].Verdict.Action != policy.Continue {
				t.Errorf("msg.filters: %+v", told)
			}
			if would := told[0].Verdict; would.Shadow != tc.shadow || tc.shadow && "shadow:"+would.Watched.String() != tc.audit && would.Watched.String() != tc.audit {
				t.Errorf("it would %v, shadow %v; want %s", would.Watched, would.Shadow, tc.audit)
			}
		})
	}
}

// What a shadow would have refused of a command that nobody knows is not the message.
func TestFilterShadowUnknown(t *testing.T) {
	shadow := &Filter{Label: "every", Address: python(t, "every.py"), Shadow: true}
	d := doorOf(t, t.Context(), []policy.Filter{shadow})
	defer d.close()
	d.connect()
	d.helo("client.example")
	d.mail("a@example.net")
	d.s.Ask(&policy.Event{Hook: policy.Unknown, Line: []byte("WIZ ard")})
	d.rcpt("b@example.net")
	d.message(aHeader, "x\r\n")
	if n := d.logs.FilterMessage("shadow").Len(); n != 1 {
		t.Errorf("%d lines of the shadow, want one of the command", n)
	}
	if f := d.s.Tx.Filters; len(f) != 1 || f[0].Verdict.Watched == policy.Reject {
		t.Errorf("msg.filters: %+v", f)
	}
}

// What would have become of a message that a shadow could not see: its on_error.
func TestFilterShadowFails(t *testing.T) {
	for onError, want := range map[policy.Action]policy.Action{policy.Accept: policy.Continue, policy.Tempfail: policy.Tempfail, policy.Reject: policy.Reject} {
		var told []policy.FilterResult
		down := &Filter{Label: "down", Address: "unix:" + t.TempDir() + "/s", OnError: onError, Shadow: true}
		d := doorOf(t, t.Context(), []policy.Filter{down}, policytest.Rule(policy.Message, func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
			told = append(told, s.Tx.Filters...)
			return policy.Verdict{}, nil
		}))
		if v := converse(d); v.Decided() || len(d.s.Tx.Edits) > 0 {
			t.Errorf("on_error %v: a shadow decides: %s, %v", onError, say(v), d.s.Tx.Edits)
		}
		d.close()
		if len(told) != 1 || told[0].Verdict.Action != policy.Continue || told[0].Err == nil || !told[0].Verdict.Shadow || told[0].Verdict.Watched != want {
			t.Errorf("on_error %v: msg.filters: %+v", onError, told)
		}
	}
}

// A backFilter answers the end of a message and has no milter behind it.
type backFilter struct{ v policy.Verdict }

func (f *backFilter) Name() string { return "back" }
func (f *backFilter) Signs() bool  { return false }
func (f *backFilter) Open(context.Context, *policy.Session) (policy.Conversation, error) {
	return f, nil
}
func (f *backFilter) Eval(_ context.Context, _ *policy.Session, ev *policy.Event) (policy.Verdict, error) {
	if ev.Hook == policy.Message {
		return f.v, nil
	}
	return policy.Verdict{}, nil
}
func (f *backFilter) Tell(*policy.Event) {}
func (f *backFilter) Close() error       { return nil }

// A client without an address is the machine itself only if it is no stranger:
// opendkim signs what comes from there.
func TestClientWithoutAddress(t *testing.T) {
	for stranger, want := range map[bool]string{true: "unknown 4 0.0.0.0", false: "localhost U "} {
		host, family, _, addr := clientOf(&policy.Facts{Stranger: stranger})
		if got := fmt.Sprintf("%s %c %s", host, family, addr); got != want {
			t.Errorf("stranger %v: %q, want %q", stranger, got, want)
		}
	}
}
