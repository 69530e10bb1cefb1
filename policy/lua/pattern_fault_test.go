package lua

import (
	"testing"
	"time"
)

// A pattern is called faulty if and only if the matcher can meet the fault.
func TestPatternFault(t *testing.T) {
	for pattern, fault := range map[string]string{
		"": "", "^": "", "a": "", "%a+@(.-)%.x$": "", "[]]": "", "[^]]": "", "[a%]]": "", "()": "", "(a)(b)%1%2": "", "((a)%2)": "",
		"%b()": "", "%f[%w]%w": "", "a)": "invalid pattern capture", "(a": "unfinished capture", "(()": "unfinished capture", "[": "malformed pattern (missing ']')",
		"[]": "malformed pattern (missing ']')", "[^]": "malformed pattern (missing ']')", "[a%": "malformed pattern (missing ']')", "%": "malformed pattern (ends with '%')",
		"x%": "malformed pattern (ends with '%')", "%b(": "malformed pattern (missing arguments to '%b')", "%fa": "missing '[' after '%f' in pattern",
		"%1": "invalid capture index in pattern", "(a%1)": "invalid capture index in pattern", "(a)%2": "invalid capture index in pattern", "%0": "invalid capture index in pattern",
	} {
		if got := PatternFault(pattern); got != fault {
			t.Errorf("%q: %q, want %q", pattern, got, fault)
		}
	}
}

func FuzzPatternFault(f *testing.F) {
	for _, seed := range []string{"", "(a", "[^]a]", "%b()", "(a)%1", "%f[a]", "^(.-)@%d+$", "a-)", "[a%]"} {
		f.Add(seed, "a@b.c")
	}
	f.Fuzz(func(t *testing.T, pattern, text string) {
		if len(pattern) > 200 || len(text) > 200 {
			return
		}
		m := matcher{src: text, pat: pattern, steps: 100_000}
		m.find(0, true)
		if PatternFault(pattern) != "" || m.err == nil || m.err == errComplex {
			return
		}
		t.Errorf("%q on %q: %v", pattern, text, m.err)
	})
}

// A text has methods and no fields: msg.from.domain is a mistake, not nil.
func TestTextHasNoFields(t *testing.T) {
	for src, want := range map[string]string{
		`local s = "a" return s.domain == "x"`:             "t.lua:1: text has no field 'domain'",
		`local s = "abc" return s[1]`:                      "t.lua:1: text has no field '1'",
		`local s = "abc" return s:trim()`:                  "t.lua:1: text has no field 'trim'",
		`local s = "abc" s.x = 1`:                          "t.lua:1: attempt to set field 'x' of a string value",
		`local s = "abc" assert(s.len == string.len)`:      "",
		`assert(("abc"):upper():rep(2, "-") == "ABC-ABC")`: "",
	} {
		chunk, ps := Compile("t.lua", []byte(src), nil)
		if Refuses(ps) {
			t.Fatal(ps)
		}
		s := NewState()
		err := s.Run(chunk, Budget{}, time.Time{}, nil)
		if want == "" && err != nil || want != "" && (err == nil || err.Error() != want) {
			t.Errorf("%s: %v", src, err)
		}
		s.Close()
	}
}
