package policy_test

import (
	"strings"
	"testing"

	"github.com/moongate/moongate/policy"
)

func TestXtext(t *testing.T) {
	letters := func(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' || c == '+' || c == ' ' }
	for _, tc := range []struct{ in, want, strict string }{
		{"", "", ""},
		{"ab", "ab", "ab"},
		{"a+b=c d\xe4", "a+2Bb+3Dc+20d+E4", "a+2Bb+3Dc+20d+E4"}, // plain lets nothing pass that the RFC does not
		{"a@b.example", "a@b.example", "a+40b+2Eexample"},
		{"!~", "!~", "+21+7E"}, // the ends of what stands as it is
		{" \x7f", "+20+7F", "+20+7F"},
		{"\x00\t\r\n", "+00+09+0D+0A", "+00+09+0D+0A"},
		{"é", "+C3+A9", "+C3+A9"},
		{`"a b"@c`, `"a+20b"@c`, "+22a+20b+22+40c"},
		{"+41", "+2B41", "+2B+34+31"},
	} {
		if got := string(policy.AppendXtext([]byte("x="), tc.in, nil)); got != "x="+tc.want {
			t.Errorf("%q: %q, want %q", tc.in, got, tc.want)
		}
		if got := string(policy.AppendXtext(nil, tc.in, letters)); got != tc.strict {
			t.Errorf("%q, letters alone: %q, want %q", tc.in, got, tc.strict)
		}
		for _, x := range []string{tc.want, tc.strict} {
			if back, err := policy.DecodeXtext(x); err != nil || back != tc.in {
				t.Errorf("%q decodes to %q, %v, want %q", x, back, err, tc.in)
			}
		}
	}
}

func TestDecodeXtext(t *testing.T) {
	for in, want := range map[string]string{
		"":          "",
		"+c3+A9":    "é",
		"a=b c":     "a=b c", // no xtext, and no other meaning
		"+2B41":     "+41",
		"+00+0d+0A": "\x00\r\n",
		"é":         "é",
	} {
		if got, err := policy.DecodeXtext(in); err != nil || got != want {
			t.Errorf("%q: %q, %v, want %q", in, got, err, want)
		}
	}
	for _, in := range []string{"+", "+4", "a+", "a+4", "+4G", "++41", "+ 1", "+-1", "+_1", "+0x", "+\xff\xff"} {
		if got, err := policy.DecodeXtext(in); err == nil {
			t.Errorf("%q decodes to %q", in, got)
		}
	}
}

func FuzzXtext(f *testing.F) {
	f.Add("a b=c+d\r\n", "abc")
	f.Add("+41", "+=")
	f.Fuzz(func(t *testing.T, s, plain string) {
		some := func(c byte) bool { return strings.IndexByte(plain, c) >= 0 }
		for _, allow := range []func(byte) bool{nil, some} {
			x := policy.AppendXtext(nil, s, allow)
			if back, err := policy.DecodeXtext(string(x)); err != nil || back != s {
				t.Errorf("%q, as %q, decodes to %q, %v", s, x, back, err)
			}
			for i, c := range x {
				digit := c == '+' || i > 0 && x[i-1] == '+' || i > 1 && x[i-2] == '+'
				if c < '!' || c > '~' || c == '=' || allow != nil && !digit && !allow(c) {
					t.Errorf("%q: %q has %q", s, x, c)
				}
			}
		}
	})
}
