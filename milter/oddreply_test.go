package milter

import (
	"strings"
	"testing"

	"github.com/emersion/go-milter"

	"github.com/moongate/moongate/milter/wire"
	"github.com/moongate/moongate/policy"
)

// saying is a filter that gives one command this answer, and continue to all else.
func saying(t *testing.T, at milter.Code, answer string) *Filter {
	f := fakeFilter(t, func(_ int, f wire.Frame) string {
		if milter.Code(f.Code) == at {
			return answer
		}
		return goOn
	})
	return &Filter{Label: "f", Address: f.addr(), OnError: policy.Accept}
}

// A filter that refuses in words that no reply may have has refused: its words
// give way, also with on_error = "accept". What has no code of a refusal is a
// failure, as with an MTA.
func TestFilterOddReplies(t *testing.T) {
	var most []string // libmilter has room for 32 lines of 980 octets
	for range 31 {
		most = append(most, "550-5.7.1 "+strings.Repeat("word ", 190))
	}
	for text, want := range map[string]string{
		"550 5.7.1 esc\x1b[31m\x7f red":           "reject 550 5.7.1 esc?[31m? red",
		"550 5.7.1 a\ttab":                        "reject 550 5.7.1 a tab",
		"550 5.7.1 a\rb":                          "reject 550 5.7.1 a?b",
		"550 5.7.1 caf\xe9 \xc3\xa9":              "reject 550 5.7.1 caf? ?",
		"550 5.7.1 100%% %s%%n":                   "reject 550 5.7.1 100% %s%n",
		"550 4.7.1 mismatch":                      "reject 550 5.7.1 mismatch",
		"451 5.7.20 mismatch":                     "tempfail 451 4.7.20 mismatch",
		"550 2.0.0 mismatch":                      "reject 550 5.0.0 mismatch",
		"550-5.7.1 a\r\n550-5.7.2 b":              "reject 550-5.7.1 a / 550 5.7.1 b",
		"550 5.7.1":                               "reject 550 5.7.1",
		"550 ":                                    "reject 550",
		"421 4.7.0 bye":                           "tempfail 421 4.7.0 bye",
		strings.Join(most, "\r\n"):                "reject 550-5.7.1 word word ",
		"550 5.7.1 " + strings.Repeat("x", 20000): "reject 550-5.7.1 xxx",
		"250 2.0.0 ok":                            "continue", "354 x": "continue", "600 x": "continue", "no code": "continue", "+50 x": "continue", "": "continue",
		"550-5.7.1 a\r\n451 4.7.1 b": "continue", "550-a\n\n550 b": "continue",
	} {
		for _, at := range []milter.Code{milter.CodeRcpt, milter.CodeData, milter.CodeEOB} {
			d := greeted(t, saying(t, at, frame(t, 'y', text+"\x00")))
			v := oneMessage(d)
			long := len(text) > 1000
			if got := say(v); got != want && !(long && strings.HasPrefix(got, want)) {
				t.Errorf("%c: %.50q: %.100s, want %s", at, text, got, want)
			}
			if marked := strings.Contains(out(d), unchecked); marked != (want == "continue") {
				t.Errorf("%c: %.50q: marked as unchecked: %v", at, text, marked)
			}
			d.done(v)
		}
	}
}

// The end of the packet is the end of a reply, too, and what is behind a NUL is
// none of it, at whichever command it comes: MTAs take it so.
func TestFilterReplyEnds(t *testing.T) {
	for data, want := range map[string]string{
		"550 5.7.1 no": "reject 550 5.7.1 no", "550 5.7.1 no\x00": "reject 550 5.7.1 no", "550 5.7.1 no\x00more": "reject 550 5.7.1 no",
		"550 5.7.1 no\x00\x00": "reject 550 5.7.1 no", "55\x00 5.7.1 no": "continue", "550": "continue", "": "continue",
	} {
		for _, at := range []milter.Code{milter.CodeRcpt, milter.CodeData, milter.CodeEOB} {
			d := greeted(t, saying(t, at, frame(t, 'y', data)))
			v := oneMessage(d)
			if got := say(v); got != want {
				t.Errorf("%c: %q: %s, want %s", at, data, got, want)
			}
			d.done(v)
		}
	}
}

// out is the header as it goes on, "" where there is none yet.
func out(d *door) string {
	if d.s.Tx == nil || d.s.Tx.Header() == nil {
		return ""
	}
	return d.out()
}
