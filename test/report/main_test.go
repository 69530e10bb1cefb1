package main

import (
	"errors"
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	const pass = `{"Action":"output","Package":"p","Output":"ok  \tp\t0.1s\n"}
{"Action":"pass","Package":"p"}
`
	for _, tc := range []struct {
		name, in string
		ok       bool
		has      []string
		hasNot   []string
	}{
		{
			name: "pass",
			in: `{"Action":"output","Package":"p","Test":"A","Output":"noise\n"}
{"Action":"pass","Package":"p","Test":"A"}
` + pass,
			ok: true, has: []string{"ok  \tp\t0.1s\n"}, hasNot: []string{"noise", "skipped"},
		}, {
			name: "skip tells why",
			in: `{"Action":"output","Package":"github.com/moongate/moongate/x","Test":"A","Output":"    a_test.go:9: no Postfix: not installed\n"}
{"Action":"skip","Package":"github.com/moongate/moongate/x","Test":"A"}
` + pass,
			ok: true, has: []string{"skipped 1:\n  x A: no Postfix: not installed\n"},
		}, {
			name: "failure shows the output",
			in: `{"Action":"output","Package":"p","Test":"A","Output":"got 1\n"}
{"Action":"fail","Package":"p","Test":"A"}
{"Action":"output","Package":"p","Output":"FAIL\n"}
{"Action":"output","Package":"p","Output":"FAIL\tp\t0.1s\n"}
{"Action":"fail","Package":"p"}
`,
			has: []string{"got 1\n", "FAIL\tp\t0.1s\n"},
		}, {
			name: "a panic leaves tests open",
			in: `{"Action":"output","Package":"p","Test":"A","Output":"panic: boom\n"}
{"Action":"output","Package":"p","Output":"FAIL\tp\t0.1s\n"}
{"Action":"fail","Package":"p"}
`,
			has: []string{"panic: boom\n"},
		}, {
			name: "build failure",
			in: `{"Action":"build-output","ImportPath":"p","Output":"p.go:1: broken\n"}
{"Action":"build-fail","ImportPath":"p"}
` + pass,
			has: []string{"p.go:1: broken\n"},
		},
		{name: "nothing ran", in: ""},
		{name: "only packages without tests", in: pass},
		{name: "the go command speaks", in: "go: no such module\n", has: []string{"go: no such module"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out strings.Builder
			ok, err := report(strings.NewReader(tc.in), &out, nil)
			if err != nil {
				t.Fatal(err)
			}
			if ok != tc.ok {
				t.Errorf("ok = %v, want %v", ok, tc.ok)
			}
			for _, s := range tc.has {
				if !strings.Contains(out.String(), s) {
					t.Errorf("report lacks %q:\n%s", s, out.String())
				}
			}
			for _, s := range tc.hasNot {
				if strings.Contains(out.String(), s) {
					t.Errorf("report should not hold %q:\n%s", s, out.String())
				}
			}
		})
	}
}

// A test that failed may pass by itself; what is no matter of luck may not.
func TestAgain(t *testing.T) {
	fail := func(test, out string) string {
		return `{"Action":"output","Package":"p","Test":"` + test + `","Output":"` + out + `\n"}
{"Action":"fail","Package":"p","Test":"` + test + `"}
`
	}
	const end = `{"Action":"output","Package":"p","Output":"FAIL\n"}
{"Action":"output","Package":"p","Output":"FAIL\tp\t0.1s\n"}
{"Action":"fail","Package":"p"}
`
	passes := func(string, string) error { return nil }
	fails := func(string, string) error { return errors.New("exit status 1") }
	for _, tc := range []struct {
		name, in string
		again    func(pkg, test string) error
		ok       bool
		says     string
	}{
		{"passes", fail("A", "late") + end, passes, true, "\nunsteady 1:\n  p A: failed, and passed by itself\n"},
		{"fails", fail("A", "late") + end, fails, false, "  p A: failed, and failed by itself: exit status 1\n"},
		{"a subtest is run with its test", fail("A/x", "late") + fail("A", "") + end, passes, true, "unsteady 1:\n  p A: "},
		{"two", fail("A", "") + fail("B", "") + end, passes, true, "unsteady 2:"},
		{"three", fail("A", "") + fail("B", "") + fail("C", "") + end, passes, false, ""},
		{"a data race", fail("A", "WARNING: DATA RACE") + end, passes, false, ""},
		{"a panic", fail("A", "panic: boom") + end, passes, false, ""},
		{"a panic leaves a test open", fail("A", "late") + `{"Action":"output","Package":"p","Test":"B","Output":"panic: boom\n"}` + "\n" + end, passes, false, ""},
		{"the package says more", fail("A", "late") + `{"Action":"output","Package":"p","Output":"goleak: Errors\n"}` + "\n" + end, passes, false, ""},
		{"no test failed, but the package", end, passes, false, ""},
		{"a build", fail("A", "late") + end + `{"Action":"build-fail","ImportPath":"q"}` + "\n", passes, false, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			var out strings.Builder
			ok, err := report(strings.NewReader(tc.in), &out, tc.again)
			if ok != tc.ok || err != nil {
				t.Errorf("%v, %v", ok, err)
			}
			if !strings.Contains(out.String(), tc.says) || tc.says == "" && strings.Contains(out.String(), "unsteady") {
				t.Errorf("it says\n%s", out.String())
			}
		})
	}
}
