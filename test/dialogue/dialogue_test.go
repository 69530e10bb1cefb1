package dialogue

import (
	"strings"
	"testing"
	"time"

	"github.com/moongate/moongate/test/upstream"
)

// direct is a stage without a proxy: the client talks to the scripted server itself.
type direct struct{ s *upstream.Server }

func (d direct) Addr() string       { return d.s.Addr }
func (d direct) Upstream() Upstream { return Scripted{d.s} }
func (d direct) Log() []map[string]any {
	return []map[string]any{
		{"msg": "message", "size": 12.0, "rule": "a b", "rcpts": []any{"x", "y"}},
		{"msg": "message", "size": 13.0},
	}
}
func (d direct) Policy(string, bool) error { return nil }

func setDirect(t testing.TB, f *File) Stage { return direct{upstream.Start(t, f.Files["upstream"])} }

// perform runs a conversation and returns what was wrong. limit is for its last line, whose coming true
// may be waited for in vain.
func perform(t *testing.T, limit time.Duration, script, talk string) error {
	t.Helper()
	f, err := Parse([]byte("-- upstream --\n" + script + "\n-- dialogue --\n" + talk + "\n"))
	if err != nil {
		t.Fatal(err)
	}
	p := &performance{stage: setDirect(t, f), file: f, clients: map[string]*client{}, limit: patience}
	defer p.end()
	last := len(f.steps) - 1
	all := f.steps
	f.steps = all[:last]
	if err := p.run(); err != nil {
		return err
	}
	f.steps, p.limit = all[last:], limit
	for _, c := range p.clients {
		c.limit = limit
	}
	return p.run()
}

// TestTrue performs dialogues that are as they say.
func TestTrue(t *testing.T) {
	for name, tc := range map[string][2]string{
		"a message": {"", `
S: 220 upstream.example ESMTP
C: EHLO c
S* 250
C+ MAIL FROM:<a@b>
C+ RCPT TO:<c@d>
C: DATA
S: 250 2.1.0 Ok
S: 250 ...
S: 354 ...data...<CR><LF>
U: MAIL FROM:<a@b>
C: Subject: x
C> \r\n..y\r\n.\r\n
S: 250 2.0.0 Ok: queued as ...
N: 1
M: Subject: x
M= Subject: x\r\n\r\n.y\r\n
U! RSET
U: DATA
C: QUIT
S: 221 ...
S!`},
		"closes":       {"connect 421 no !close", "S: 421 no\nS!"},
		"reset":        {"NOOP !reset", "S* 220\nC: NOOP\nS!"},
		"two clients":  {"connect 220 {conn}", "S: 220 1\n!client b\nS: 220 2\nC: QUIT\nS* 221\n!client b\nS!"},
		"half close":   {"", "S* 220\nC: NOOP\n!half-close\nS* 250\nS!"},
		"upstream":     {"", "S* 220\n!upstream stop\nS!\n!upstream start\n!client b\nS* 220"},
		"log":          {"", "L: message size=12 rule=\"a b\" rcpts=x,y\nL: message size=1...\nL! message size=14\nL! refuse"},
		"repeat":       {"NOOP 250 {arg}", "S* 220\nC: NOOP {3*ab}\nS: 250 ababab"},
		"comments":     {"", "# nothing\n\nS* 220"},
		"empty line":   {"", "S* 220\nC: \nS* 502"},
		"escapes":      {`NOOP 250 {arg}`, "S* 220\nC: NOOP \\x41\\\\\nS: 250 A\\\\"},
		"dots in line": {"connect 220 a...b", "S: 220 a...b"},
	} {
		t.Run(name, func(t *testing.T) {
			if err := perform(t, patience, tc[0], tc[1]); err != nil {
				t.Error(err)
			}
		})
	}
}

// TestFalse performs dialogues that are not as they say: each has to fail, and to say why.
func TestFalse(t *testing.T) {
	// What does not come is waited for so long; what comes, and is wrong, may take its time.
	inVain := map[string]bool{"silence": true, "does not close": true, "not told": true, "told once": true, "too few": true,
		"refused counts not": true, "log field": true, "log key": true, "log once": true}
	for name, tc := range map[string][3]string{
		"wrong line":     {"", "S: 220 me", `got "220 upstream.example ESMTP"`},
		"wrong code":     {"", "S* 554", `got "220 `},
		"code within":    {"EHLO 250-a|550 b", "S* 220\nC: EHLO c\nS* 250", `got "550 b"`},
		"silence":        {"connect !hang", "S* 220", "i/o timeout"},
		"closes":         {"connect !close", "S* 220", "EOF"},
		"does not close": {"", "S* 220\nS!", "neither speaks nor closes"},
		"says more":      {"connect 220 a|250 b !close", "S* 220\nS!", `the server says "250 b"`},
		"stray LF":       {`connect raw:220 a\n`, "S* 220", "stray CR or LF"},
		"stray CR":       {`connect raw:220 a\rb\r\n`, "S* 220", "stray CR or LF"},
		"not told":       {"", "S* 220\nC: NOOP\nS* 250\nU: RSET", `all it was told is ["NOOP"]`},
		"told once":      {"", "S* 220\nC: NOOP\nS* 250\nU: NOOP\nU: NOOP", "1 of these lines were matched"},
		"told":           {"", "S* 220\nC: NOOP\nS* 250\nU! NO...", "the upstream was told that"},
		"too few":        {"", "N: 1", "accepted 0 messages"},
		"too many": {"", "S* 220\nC: MAIL FROM:<a>\nS* 250\nC: RCPT TO:<b>\nS* 250\nC: DATA\nS* 354\nC: .\nS* 250\nN: 0",
			"accepted 1 messages"},
		"refused counts not": {". 550 no", "S* 220\nC: MAIL FROM:<a>\nS* 250\nC: RCPT TO:<b>\nS* 250\nC: DATA\nS* 354\nC: .\nS* 550\nN: 1",
			"accepted 0 messages"},
		"no message":   {"", "M: x", "accepted no message"},
		"other octets": {"", "S* 220\nC: MAIL FROM:<a>\nS* 250\nC: RCPT TO:<b>\nS* 250\nC: DATA\nS* 354\nC: x\nC: .\nS* 250\nM= x\\n", `the message is "x\r\n"`},
		"log field":    {"", "L: message size=14", "the log has no such line"},
		"log key":      {"", "L: message other=14", "the log has no such line"},
		"log once":     {"", "L: message size=12\nL: message size=12", "the log has no such line"},
		"log has it":   {"", "L! message size=13", "the log has map["},
		"no file":      {"", "!policy nowhere.lua", "there is no file nowhere.lua"},
		"no control":   {"", "!upstream dance", "not dance"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			limit := patience
			if inVain[name] {
				limit = time.Second
			}
			err := perform(t, limit, tc[0], tc[1])
			if err == nil {
				t.Fatal("it passes")
			}
			if !strings.Contains(err.Error(), tc[2]) {
				t.Errorf("it says %v\nnot %s", err, tc[2])
			}
		})
	}
}

func TestParseErrors(t *testing.T) {
	for talk, want := range map[string]string{
		"X: what":    `4: unknown "X: what"`,
		"\nS:":       "5: S:: the argument is missing",
		"!close now": "4: !close: the argument is missing or too much",
		`C: \q`:      `unknown escape \q`,
		"C: ok\nC":   "5: unknown",
	} {
		_, err := Parse([]byte("about\n-- upstream --\n-- dialogue --\n" + talk))
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", talk, err, want)
		}
	}
	if _, err := Parse([]byte("C: QUIT\n")); err == nil {
		t.Error("a file without a dialogue is no dialogue")
	}
}

func TestMatch(t *testing.T) {
	for _, tc := range []struct {
		pattern, text string
		want          bool
	}{
		{"", "", true}, {"a", "a", true}, {"a", "ab", false}, {"a...", "ab", true}, {"...b", "ab", true},
		{"a...b", "ab", true}, {"a...b", "axxb", true}, {"a...b", "a", false}, {"aa...aa", "aaa", false},
		{"a...c...e", "abcde", true}, {"a...c...e", "abde", false}, {"...", "", true},
	} {
		if got := match(tc.pattern, tc.text); got != tc.want {
			t.Errorf("match(%q, %q) = %v", tc.pattern, tc.text, got)
		}
	}
}
