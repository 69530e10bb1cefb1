package policy_test

import (
	"strings"
	"testing"

	"github.com/moongate/moongate/policy"
)

func TestNewReply(t *testing.T) {
	long := strings.Repeat("word ", 250)
	tests := []struct {
		name   string
		class  int
		code   int
		status policy.Status
		text   []string
		want   string // wire form, or the error's text if it begins with !
	}{
		{"one line", 5, 550, policy.Status{5, 7, 1}, []string{"no"}, "550 5.7.1 no\r\n"},
		{"several lines carry the status each", 5, 550, policy.Status{5, 7, 1}, []string{"a", "b"}, "550-5.7.1 a\r\n550 5.7.1 b\r\n"},
		{"no status", 4, 450, policy.NoStatus, []string{"later"}, "450 later\r\n"},
		{"no text", 4, 450, policy.Status{4, 2, 0}, nil, "450 4.2.0\r\n"},
		{"8 bit and tab", 5, 550, policy.NoStatus, []string{"ungültig\tx"}, "550 ung?ltig x\r\n"},
		{"line end", 5, 550, policy.NoStatus, []string{"a\r\n250 ok"}, `!control character '\r'`},
		{"bare line feed", 5, 550, policy.NoStatus, []string{"a\nb"}, `!control character '\n'`},
		{"NUL", 5, 550, policy.NoStatus, []string{"a\x00"}, "!control character"},
		{"code of the other class", 5, 450, policy.NoStatus, []string{"x"}, "!not in 500..599"},
		{"2xx", 0, 250, policy.NoStatus, []string{"x"}, "!not in 400..599"},
		{"four digits", 5, 5500, policy.NoStatus, []string{"x"}, "!not in"},
		{"status of the other class", 5, 550, policy.Status{4, 7, 1}, []string{"x"}, "!must begin with 5"},
		{"status part too large", 5, 550, policy.Status{5, 7, 1000}, []string{"x"}, "!0..999"},
		{"too many lines", 5, 550, policy.NoStatus, make([]string, 51), "!51 lines"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r, err := policy.NewReply(tt.class, tt.code, tt.status, tt.text...)
			if strings.HasPrefix(tt.want, "!") {
				if err == nil || !strings.Contains(err.Error(), tt.want[1:]) {
					t.Fatalf("%q, error %v", r.Append(nil), err)
				}
				return
			}
			if err != nil || string(r.Append(nil)) != tt.want {
				t.Fatalf("%q, error %v", r.Append(nil), err)
			}
		})
	}
	r, err := policy.NewReply(5, 550, policy.Status{5, 7, 1}, long, strings.Repeat("x", 1200))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitAfterSeq(strings.TrimSuffix(string(r.WithFooter("(id 4ZK)").Append(nil)), "\r\n"), "\r\n") {
		if len(strings.TrimSuffix(line, "\r\n")) > policy.MaxReplyLine || !strings.HasPrefix(line, "550") {
			t.Errorf("line of %d octets: %.40q", len(line), line)
		}
	}
}

func TestUpstreamReplyIsNotTouched(t *testing.T) {
	raw := "550-5.1.1  odd   spacing\r\n550 5.1.1 \xe9nd\r\n"
	r := policy.Reply{Code: 550, Raw: []byte(raw)}
	if got := string(r.Soft().WithFooter("(id x)").Append(nil)); got != raw {
		t.Errorf("%q", got)
	}
	env := policy.Env{SoftBounce: true, Footer: "(id {id})"}
	s := env.NewSession(t.Context(), policy.Facts{ID: "SID"})
	if got := string(s.Refusal(r).Append(nil)); got != raw {
		t.Errorf("%q", got)
	}
	ours := s.Refusal(policy.Say(554, policy.Status{5, 7, 1}, "no"))
	if got := string(ours.Append(nil)); got != "454 4.7.1 no (id SID)\r\n" {
		t.Errorf("%q", got)
	}
}

func TestParseStatus(t *testing.T) {
	if st, err := policy.ParseStatus("5.7.509"); err != nil || st != (policy.Status{5, 7, 509}) {
		t.Error(st, err)
	}
	for _, bad := range []string{"", "5", "5.7", "5.7.1.2", "3.0.0", "5.a.1", "5.7.1000", "5.+7.1", " 5.7.1", "5..1"} {
		if st, err := policy.ParseStatus(bad); err == nil {
			t.Errorf("%q is taken: %v", bad, st)
		}
	}
}
