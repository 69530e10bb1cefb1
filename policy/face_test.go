package policy_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/moongate/moongate/policy"
)

// The table of docs/policy.md: which action is an answer at which hook on
// which face. s: the SMTP door, m: the milter, b: both, .: neither.
const faceTable = `
           continue accept bypass reject tempfail discard drop quarantine
connect    b        b      b      b      b        .       .    .
helo       b        b      b      b      b        .       .    .
auth       s        s      .      s      s        .       .    .
mail       b        b      b      b      b        b       .    b
rcpt       b        b      b      b      b        .       b    .
data       b        b      b      b      b        b       .    b
headers    b        b      b      b      b        b       .    b
message    b        b      b      b      b        b       .    b
unknown    b        b      .      b      b        .       .    .
vrfy       s        s      .      s      s        .       .    .
`

const editTable = `
           add_header insert_header change_header remove_header set_from add_rcpt remove_rcpt replace_rcpt replace_body
connect    .          .             .             .             .        .        .           .            .
helo       .          .             .             .             .        .        .           .            .
auth       .          .             .             .             .        .        .           .            .
mail       b          b             .             .             b        b        .           .            .
rcpt       b          b             .             .             b        b        b           b            .
data       b          b             .             .             b        b        b           b            .
headers    b          b             b             b             b        b        b           b            .
message    b          b             b             b             b        b        b           b            b
unknown    .          .             .             .             .        .        .           .            .
vrfy       .          .             .             .             .        .        .           .            .
`

func TestFaceTables(t *testing.T) {
	check := func(table string, can func(f *policy.Face, h policy.Hook, column int) bool) {
		rows := strings.Split(strings.TrimSpace(table), "\n")
		if len(rows)-1 != policy.NumAsked {
			t.Fatalf("%d rows for %d hooks", len(rows)-1, policy.NumAsked)
		}
		columns := strings.Fields(rows[0])
		for i, row := range rows[1:] {
			f := strings.Fields(row)
			h := policy.Hook(i)
			if f[0] != h.String() {
				t.Fatalf("row %d is %s, want %s", i, f[0], h)
			}
			for c, want := range f[1:] {
				got := "."
				switch s, m := can(policy.SMTP, h, c), can(policy.Milter, h, c); {
				case s && m:
					got = "b"
				case s:
					got = "s"
				case m:
					got = "m"
				}
				if got != want {
					t.Errorf("%s at %s: %s, want %s", columns[c], h, got, want)
				}
			}
		}
	}
	check(faceTable, func(f *policy.Face, h policy.Hook, c int) bool { return f.Can(h, policy.Action(c)) })
	check(editTable, func(f *policy.Face, h policy.Hook, c int) bool { return f.CanEdit(h, policy.EditKind(c)) })
}

func TestNames(t *testing.T) {
	for h := range policy.Hook(policy.NumAsked) {
		if got, ok := policy.HookNamed(h.String()); !ok || got != h {
			t.Errorf("HookNamed(%s) = %v, %v", h, got, ok)
		}
	}
	for _, unknown := range []string{"rctp", "done", "answered", ""} {
		if h, ok := policy.HookNamed(unknown); ok {
			t.Errorf("HookNamed(%q) = %v", unknown, h)
		}
	}
	if s := fmt.Sprint(policy.Hook(200), policy.Action(200), policy.EditKind(200)); s != "hook(200) action(200) edit(200)" {
		t.Error(s)
	}
}
