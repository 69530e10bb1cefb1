package policy_test

import (
	"strings"
	"testing"

	"github.com/moongate/moongate/policy"
)

func TestParsePath(t *testing.T) {
	tests := []struct {
		raw, address, local, domain string
	}{
		{`<a@b.example>`, `a@b.example`, "a", "b.example"},
		{`<A@B.Example.>`, `A@b.example`, "A", "b.example"},
		{`<"a"@b.example>`, `a@b.example`, "a", "b.example"},
		{`<"a b"@x>`, `"a b"@x`, "a b", "x"},
		{`<"a@b"@x>`, `"a@b"@x`, "a@b", "x"},
		{`<"a\"b"@x>`, `"a\"b"@x`, `a"b`, "x"},
		{`<"a\b"@x>`, `ab@x`, "ab", "x"},
		{`<@r.example,@s.example:a@b.example>`, `a@b.example`, "a", "b.example"},
		{`<postmaster>`, `postmaster`, "postmaster", ""},
		{`<v%ext>`, `v%ext`, "v%ext", ""},
		{`<ext!v@local>`, `ext!v@local`, "ext!v", "local"},
		{`<a@[192.0.2.1]>`, `a@[192.0.2.1]`, "a", "[192.0.2.1]"},
		{`<a@[IPv6:2001:DB8::1]>`, `a@[ipv6:2001:db8::1]`, "a", "[ipv6:2001:db8::1]"},
		{`<a..b.@x_y.example>`, `a..b.@x_y.example`, "a..b.", "x_y.example"},
		{`<>`, "", "", ""},
	}
	for _, tt := range tests {
		p, err := policy.ParsePath(tt.raw, true, false)
		if err != nil {
			t.Errorf("%s: %v", tt.raw, err)
			continue
		}
		if p.Raw != tt.raw || p.Address != tt.address || p.Local != tt.local || p.Domain != tt.domain {
			t.Errorf("%s: %+v", tt.raw, p)
		}
		if u, err := policy.ParsePath(p.Unrouted(), true, false); err != nil || u.Routed || u.Address != p.Address || !strings.HasSuffix(p.Raw, u.Raw[1:]) {
			t.Errorf("%s: without its route it is %q, %v", tt.raw, u.Raw, err)
		}
		again, err := policy.NewPath(p.Address, false)
		if err != nil || again.Address != p.Address || again.Local != p.Local {
			t.Errorf("%s: written again as %+v, %v", tt.raw, again, err)
		}
	}
}

func TestParsePathRefuses(t *testing.T) {
	for _, raw := range []string{
		``, `a@b`, `<a@b`, `a@b>`, `< a@b>`, `<a@b >`, `<a b@x>`, `<a@>`, `<@b>`, `<"a@b>`, `<"a"b@x>`, `<""@x>`,
		`<v@ext@local>`, `<"v@ext"@local@x>`, `<a@b..c>`, `<a@-b>`, `<a@b->`, `<a@.b>`, `<a(x)@b>`, `<a@b(x)>`, `<a,b@c>`,
		"<a\x00@b>", "<a\r@b>", "<\"a\n\"@b>", "<\xe9@b>", "<a@\xe9>", `<a@[1.2.3]>`, `<a@[IPv6:1.2.3.4]>`, `<a@[2001:db8::1]>`, `<a@[x>`,
		`<@a:>`, `<@a,b:c@d>`, `<a@b><c@d>`, `<a@b>>`, `<<a@b>>`, `<a\@b>`, `<a;b@c>`,
	} {
		if p, err := policy.ParsePath(raw, false, false); err == nil {
			t.Errorf("%q is taken: %+v", raw, p)
		}
	}
	if _, err := policy.ParsePath("<>", false, false); err == nil {
		t.Error("<> is taken as a recipient")
	}
}

func TestParsePathUTF8(t *testing.T) {
	p, err := policy.ParsePath("<jürgen@bücher.example>", false, true)
	if err != nil || p.Domain != "xn--bcher-kva.example" || p.Local != "jürgen" || p.Address != "jürgen@xn--bcher-kva.example" {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := policy.ParsePath("<\xff@b.example>", false, true); err == nil {
		t.Error("broken UTF-8 is taken")
	}
}

// What is written again is read as the same mailbox: nothing in a local part
// can become a parameter or another recipient.
func FuzzPathRoundTrip(f *testing.F) {
	f.Add(`<"admin@internal.test> NOTIFY=NEVER ORCPT=rfc822;"@victim>`)
	f.Add(`<"a\\\"b"@x>`)
	f.Fuzz(func(t *testing.T, raw string) {
		for _, utf8ok := range []bool{false, true} {
			p, err := policy.ParsePath(raw, true, utf8ok)
			if err != nil {
				continue
			}
			q, err := policy.NewPath(p.Address, utf8ok)
			if err != nil || q.Address != p.Address || q.Local != p.Local || q.Domain != p.Domain {
				t.Fatalf("%q: %+v is written as %+v (%v)", raw, p, q, err)
			}
			r, err := policy.ParsePath(q.Raw, true, utf8ok)
			if err != nil || r.Local != p.Local || r.Domain != p.Domain {
				t.Fatalf("%q: rewritten %q is read as %+v (%v)", raw, q.Raw, r, err)
			}
		}
	})
}
