package policy_test

import (
	"slices"
	"testing"

	"github.com/moongate/moongate/policy"
)

// What an edit of the header does thousands of times is counted, and every edit
// of the envelope is told.
func TestEditLines(t *testing.T) {
	var edits []policy.Edit
	for range 150 {
		edits = append(edits, policy.Edit{Kind: policy.RemoveHeader, Name: "X", Index: 1, Last: 3}, policy.Edit{Kind: policy.AddHeader, Name: "Y"}, policy.Edit{Kind: policy.AddRcpt, Path: policy.Path{Raw: "<a@b>"}})
	}
	lines := policy.EditLines(edits)
	count := func(want string) (n int) {
		for _, s := range lines {
			if s == want {
				n++
			}
		}
		return n
	}
	if count("remove_header X[1-3]") != 50 || count("add_header Y") != 50 || count("add_rcpt <a@b>") != 150 {
		t.Errorf("%q", lines)
	}
	if more := lines[250:]; !slices.Equal(more, []string{"add_header: 100 more", "remove_header: 100 more"}) {
		t.Errorf("%q", more)
	}
	if lines := policy.EditLines(edits[:3]); len(lines) != 3 {
		t.Errorf("%q", lines)
	}
}
