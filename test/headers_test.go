package test

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/moongate"
	"github.com/moongate/moongate/test/postfix"
	"github.com/moongate/moongate/test/upstream"
)

// blocks are messages whose header ends in doubtful places, each without the fields that Postfix would
// add for us. Where the header ends decides what a rule sees and where a field of ours lands.
var blocks = []struct{ name, text string }{
	{"plain", "X-A: 1\r\nX-B: 2\r\n\r\nbody: no field\r\n"},
	{"no empty line", "X-A: 1\r\nthis is no field\r\nX-B: 2\r\n\r\nbody\r\n"},
	{"blank before the colon", "X-A : 1\r\nX-B\t: 2\r\n\r\nbody\r\n"},
	{"two words before the colon", "X-A: 1\r\nX B: 2\r\n\r\nbody\r\n"},
	{"no name", "X-A: 1\r\n: 2\r\n\r\nbody\r\n"},
	{"no colon", "X-A: 1\r\nX-B\r\n\r\nbody\r\n"},
	{"fold first", " X-A: 1\r\nX-B: 2\r\n\r\nbody\r\n"},
	{"fold of blanks", "X-A: 1\r\n \r\nX-B: 2\r\n\r\nbody\r\n"},
	{"mbox line first", "From a@example.com Sat Nov 21 10:00:00 2026\r\nX-A: 1\r\n\r\nbody\r\n"},
	{"mbox line escaped", ">From a@example.com Sat Nov 21 10:00:00 2026\r\nX-A: 1\r\n\r\nbody\r\n"},
	{"mbox line later", "X-A: 1\r\nFrom a@example.com Sat Nov 21 10:00:00 2026\r\nX-B: 2\r\n\r\nbody\r\n"},
	{"8-bit in the name", "X-A: 1\r\nX-\xe4: 2\r\nX-B: 3\r\n\r\nbody\r\n"},
	{"8-bit in the value", "X-A: \xe4\r\nX-B: 3\r\n\r\nbody\r\n"},
	{"control in the name", "X-A: 1\r\nX-\x01: 2\r\nX-B: 3\r\n\r\nbody\r\n"},
	{"odd name", "X-A: 1\r\nX;(,)\"<>[]: 2\r\nX-B: 3\r\n\r\nbody\r\n"},
	{"colon only", "X-A: 1\r\n:\r\n\r\nbody\r\n"},
	{"empty value", "X-A:\r\nX-B:\r\n\r\nbody\r\n"},
	{"empty message", ""},
	{"body only", "\r\nbody\r\n"},
	{"header only", "X-A: 1\r\n"},
	{"no end of line but the dot's", "X-A: 1\r\nX-B: 2\r\n\r\n"},
	{"boundary without header", "--boundary\r\nX-A: 1\r\n\r\nbody\r\n"},
	{"long field", "X-A: " + strings.Repeat("x", 3000) + "\r\nX-B: 2\r\n\r\nbody\r\n"},
	{"long name", strings.Repeat("X", 3000) + ": 1\r\nX-B: 2\r\n\r\nbody\r\n"},
	{"dot in front", ".X-A: 1\r\nX-B: 2\r\n\r\nbody\r\n"},
}

var wrote = regexp.MustCompile(`(?m)(header|body) ([^\n]*?) from unknown\[127\.0\.0\.1\]`)

// TestHeaderEnds asks a real Postfix, which logs each line as header or body, and a rule of ours, which
// puts a field at the end of the header: the lines before ours are what Postfix calls header.
func TestHeaderEnds(t *testing.T) {
	mta := postfix.Start(t, postfix.Options{Main: map[string]string{
		"header_checks":                "regexp:{ {/^/ WARN} }",
		"body_checks":                  "regexp:{ {/^/ WARN} }",
		"local_header_rewrite_clients": "",
		"nested_header_checks":         "",
		"mime_header_checks":           "",
	}})
	up := upstream.Start(t, "")
	p := moongate.Start(t, moongate.Options{Upstream: up.Addr, Files: map[string]string{"scripts/10-end.lua": `
on.headers(function(msg) msg:add_header("X-End", "here") end)`}})
	for _, tc := range blocks {
		from := len(mta.Log())
		for _, addr := range []string{mta.Addr, p.Addr} {
			s := client.Dial(t, addr, "").Greet("client.example.com")
			if text := s.Send("a@example.com", "b@example.org", tc.text); !strings.HasPrefix(text, "250") {
				t.Fatalf("%s: %q", tc.name, text)
			}
			s.Must("221", "QUIT")
		}
		mta.Settle()
		// Its log is written by a process of its own: when it has the end of the session, it has the lines before.
		if !wait(func() bool { return strings.Contains(mta.Log()[from:], "disconnect from unknown[127.0.0.1] ehlo=1") }) {
			t.Fatalf("%s: the log does not show the end of the session:\n%s", tc.name, mta.Log()[from:])
		}
		// What Postfix calls a header line, one entry a field; what comes next is body.
		theirs := 0
		for _, m := range wrote.FindAllStringSubmatch(mta.Log()[from:], -1) {
			// A first mbox line becomes a field only there; for both of us it is no end of the header.
			if m[1] == "header" && !strings.HasPrefix(m[2], "Received:") && !strings.HasPrefix(m[2], "X-Mailbox-Line:") {
				theirs++
			}
		}
		all := up.Messages()
		header, _, found := strings.Cut("\r\n"+string(all[len(all)-1].Body()), "\r\nX-End: here\r\n")
		if !found {
			t.Errorf("%s: the field was not added: %q", tc.name, all[len(all)-1].Body())
			continue
		}
		ours := 0
		for _, line := range strings.Split(strings.TrimPrefix(header, "\r\n"), "\r\n") {
			if line != "" && line[0] != ' ' && line[0] != '\t' && !strings.HasPrefix(line, "From ") && !strings.HasPrefix(line, ">From ") {
				ours++
			}
		}
		if ours != theirs {
			t.Errorf("%s: we see %d fields, Postfix %d\n%q\n%s", tc.name, ours, theirs, all[len(all)-1].Body(), fmt.Sprint(wrote.FindAllString(mta.Log()[from:], -1)))
		}
	}
}
