package main

import (
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
			ok, err := report(strings.NewReader(tc.in), &out)
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
