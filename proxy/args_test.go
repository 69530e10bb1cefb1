package proxy

import (
	"strings"
	"testing"

	"github.com/moongate/moongate/policy"
)

var allCaps = NewCaps("SIZE 1000000", "8BITMIME", "SMTPUTF8", "DSN", "AUTH PLAIN")

func paramString(params []policy.Param) string {
	var all []string
	for _, p := range params {
		s := p.Key
		if p.Value != "" {
			s += ":" + p.Value
		}
		if !strings.EqualFold(p.Raw, strings.Replace(s, ":", "=", 1)) {
			s += "(" + p.Raw + ")"
		}
		all = append(all, s)
	}
	return strings.Join(all, " ")
}

func TestParseMail(t *testing.T) {
	for _, tc := range []struct {
		arg     string
		raw     string // of the path
		address string
		params  string
		code    int
		status  string
	}{
		{"FROM:<a@b.example>", "<a@b.example>", "a@b.example", "", 0, ""},
		{"from:<a@b.example>", "<a@b.example>", "a@b.example", "", 0, ""},
		{"FROM: <a@b.example>", "<a@b.example>", "a@b.example", "", 0, ""},
		{"FROM:<a@b.example>  ", "<a@b.example>", "a@b.example", "", 0, ""},
		{"FROM:<>", "<>", "", "", 0, ""},
		{"FROM:<> SIZE=12 body=8bitmime", "<>", "", "SIZE:12 BODY:8bitmime", 0, ""},
		{`FROM:<"a> b"@c.example> RET=HDRS`, `<"a> b"@c.example>`, `"a> b"@c.example`, "RET:HDRS", 0, ""},
		{`FROM:<"a\"> b"@c.example>`, `<"a\"> b"@c.example>`, `"a\"> b"@c.example`, "", 0, ""},
		{"FROM:<@r.example:a@B.Example>", "<@r.example:a@B.Example>", "a@b.example", "", 0, ""},
		{"FROM:<a@b.example> ENVID=x=y", "<a@b.example>", "a@b.example", "ENVID:x=y", 0, ""},
		{"FROM:<a@b.example> AUTH=<>", "<a@b.example>", "a@b.example", "AUTH:<>", 0, ""},
		{"FROM:<é@b.example> SMTPUTF8", "<é@b.example>", "é@b.example", "SMTPUTF8", 0, ""},

		{"FROM:<é@b.example>", "", "", "", 501, "5.1.7"},
		{"FROM:<a@b.example> ENVID=é", "", "", "", 501, "5.5.4"},
		{"FROM:a@b.example", "", "", "", 501, "5.1.7"},
		{"FROM:<a@b.example", "", "", "", 501, "5.1.7"},
		{"FROM:<a@b.example>SIZE=1", "", "", "", 501, "5.1.7"},
		{"FROM:<a b@c.example>", "", "", "", 501, "5.1.7"},
		{"FROM:< a@c.example>", "", "", "", 501, "5.1.7"},
		{"FROM:<a@b@c.example>", "", "", "", 501, "5.1.7"},
		{"FROM:<a(comment)@c.example>", "", "", "", 501, "5.1.7"},
		{"FROM:", "", "", "", 501, "5.5.4"},
		{"FROM", "", "", "", 501, "5.5.4"},
		{"", "", "", "", 501, "5.5.4"},
		{"TO:<a@b.example>", "", "", "", 501, "5.5.4"},
		{"FROM :<a@b.example>", "", "", "", 501, "5.5.4"},
		{"FROM:<a@b.example> SIZE", "", "", "", 501, "5.5.4"},
		{"FROM:<a@b.example> SIZE=", "", "", "", 501, "5.5.4"},
		{"FROM:<a@b.example> SIZE=-1", "", "", "", 501, "5.5.4"},
		{"FROM:<a@b.example> SIZE=+1", "", "", "", 501, "5.5.4"},
		{"FROM:<a@b.example> SIZE=99999999999999999999", "", "", "", 501, "5.5.4"},
		{"FROM:<a@b.example> SIZE=1 size=2", "", "", "", 501, "5.5.4"},
		{"FROM:<a@b.example> BODY=9BIT", "", "", "", 501, "5.5.4"},
		{"FROM:<a@b.example> SMTPUTF8=yes", "", "", "", 501, "5.5.4"},
		{"FROM:<a@b.example> =x", "", "", "", 501, "5.5.4"},
		{"FROM:<a@b.example> a_b=x", "", "", "", 501, "5.5.4"},
		{"FROM:<a@b.example>\tSIZE=1", "", "", "", 501, "5.1.7"},
		{"FROM:<a@b.example> SIZE=1\tBODY=7BIT", "", "", "", 501, "5.5.4"},
		{"FROM:<a@b.example> X-OTHER=1", "", "", "", 555, "5.5.4"},
		{"FROM:<a@b.example> BODY=BINARYMIME", "", "", "", 555, "5.5.4"},
		{"FROM:<a@b.example> MT-PRIORITY=3", "", "", "", 555, "5.5.4"},
		{"FROM:<a@b.example> NOTIFY=NEVER", "", "", "", 555, "5.5.4"},
	} {
		p, params, refusal := parseMail([]byte(tc.arg), allCaps)
		checkArgs(t, tc.arg, p, params, refusal, tc.raw, tc.address, tc.params, tc.code, tc.status)
	}
	if _, _, r := parseMail([]byte("FROM:<a@b.example> SIZE=1"), nil); r == nil || r.Code != 555 {
		t.Errorf("a parameter behind HELO: %v", r)
	}
	if _, _, r := parseMail([]byte("FROM:<a@b.example>"), nil); r != nil {
		t.Errorf("none behind HELO: %v", r)
	}
}

func TestParseRcpt(t *testing.T) {
	for _, tc := range []struct {
		arg     string
		raw     string
		address string
		params  string
		code    int
		status  string
	}{
		{"TO:<a@b.example>", "<a@b.example>", "a@b.example", "", 0, ""},
		{"TO:<postmaster>", "<postmaster>", "postmaster", "", 0, ""},
		{"to:<PostMaster>", "<PostMaster>", "PostMaster", "", 0, ""},
		{`TO:<"a@b"@c.example>`, `<"a@b"@c.example>`, `"a@b"@c.example`, "", 0, ""},
		{`TO:<"a\"b"@c.example>`, `<"a\"b"@c.example>`, `"a\"b"@c.example`, "", 0, ""},
		{"TO:<a@[127.0.0.1]>", "<a@[127.0.0.1]>", "a@[127.0.0.1]", "", 0, ""},
		{"TO:<a@b.example> NOTIFY=SUCCESS,DELAY ORCPT=rfc822;a@b", "<a@b.example>", "a@b.example", "NOTIFY:SUCCESS,DELAY ORCPT:rfc822;a@b", 0, ""},
		// The parameter hides in a quoted local part: it must stay there.
		{`TO:<"admin@internal.test> NOTIFY=NEVER ORCPT=rfc822;"@victim.example>`,
			`<"admin@internal.test> NOTIFY=NEVER ORCPT=rfc822;"@victim.example>`,
			`"admin@internal.test> NOTIFY=NEVER ORCPT=rfc822;"@victim.example`, "", 0, ""},

		{"TO:<>", "", "", "", 501, "5.1.3"},
		{"TO:a@b.example", "", "", "", 501, "5.1.3"},
		{"TO:<a@b.example>>", "", "", "", 501, "5.1.3"},
		{"TO:<<a@b.example>>", "", "", "", 501, "5.1.3"},
		{`TO:<"a@b.example>`, "", "", "", 501, "5.1.3"},
		{"TO:<é@b.example>", "", "", "", 501, "5.1.3"},
		{"TO:", "", "", "", 501, "5.5.4"},
		{"FROM:<a@b.example>", "", "", "", 501, "5.5.4"},
		{"TO:<a@b.example> NOTIFY=NEVER,DELAY", "", "", "", 501, "5.5.4"},
		{"TO:<a@b.example> NOTIFY=", "", "", "", 501, "5.5.4"},
		{"TO:<a@b.example> SIZE=1", "", "", "", 555, "5.5.4"},
	} {
		p, params, refusal := parseRcpt([]byte(tc.arg), false, allCaps)
		checkArgs(t, tc.arg, p, params, refusal, tc.raw, tc.address, tc.params, tc.code, tc.status)
	}
	if p, _, r := parseRcpt([]byte("TO:<é@b.example>"), true, allCaps); r != nil || p.Local != "é" {
		t.Errorf("with SMTPUTF8: %+v, %v", p, r)
	}
}

func checkArgs(t *testing.T, arg string, p policy.Path, params []policy.Param, refusal *policy.Reply, raw, address, want string, code int, status string) {
	t.Helper()
	if refusal != nil {
		if refusal.Code != code || policy.StatusText(refusal.Status) != status {
			t.Errorf("%q: %s, want %d %s", arg, refusal, code, status)
		}
		return
	}
	if code != 0 || p.Raw != raw || p.Address != address || paramString(params) != want {
		t.Errorf("%q: %q %q %q, want %q %q %q %d", arg, p.Raw, p.Address, paramString(params), raw, address, want, code)
	}
}

func TestDeclaredSize(t *testing.T) {
	_, params, _ := parseMail([]byte("FROM:<> SIZE=4711"), allCaps)
	if n := declaredSize(params); n != 4711 {
		t.Error(n)
	}
	if n := declaredSize(nil); n != 0 {
		t.Error(n)
	}
}

// What passes goes on a wire as it is: it must be one token, and read again it
// must be the same path.
func FuzzParseRcpt(f *testing.F) {
	for _, s := range []string{"TO:<a@b.example> NOTIFY=NEVER", `TO:<"a\" > b"@c> ORCPT=rfc822;x`, "TO:<@a,@b:c@d>", "to: <postmaster>", "TO:<é@b>"} {
		f.Add([]byte(s), true)
		f.Add([]byte(s), false)
	}
	f.Fuzz(func(t *testing.T, arg []byte, eai bool) {
		p, params, refusal := parseRcpt(arg, eai, allCaps)
		if refusal != nil {
			return
		}
		line := "TO:" + p.Raw
		for _, q := range params {
			line += " " + q.Raw
		}
		if strings.ContainsAny(line, "\r\n\x00") {
			t.Fatalf("%q goes on as %q", arg, line)
		}
		if !eai && notASCII([]byte(line)) {
			t.Fatalf("8-bit without SMTPUTF8: %q", line)
		}
		again, params2, refusal := parseRcpt([]byte(line), eai, allCaps)
		if refusal != nil || again != p || paramString(params) != paramString(params2) {
			t.Fatalf("%q is read as %+v, then as %+v (%v)", line, p, again, refusal)
		}
		if q, err := policy.NewPath(p.Address, eai); err != nil || q.Address != p.Address {
			t.Fatalf("%q written again: %q, %v", p.Address, q.Raw, err)
		}
	})
}
