// Package scripts holds the policies that come with moongate. Each is a policy
// directory of its own: copy it, change it, and name it in [policy] scripts.
//
//	gate/         sender and recipient rules, and how fast one may send
//	compliance/   what leaves the company: the author is who logged in, no trace of the inner network
//	spam/         marks what looks like spam, by DNS lists and by the header
//
// types/ is for editors: what the policy language knows, generated from the
// bindings.
package scripts

import (
	"embed"
	"io/fs"
)

//go:embed gate compliance spam types
var files embed.FS

// Policy is the directory of a policy that comes with moongate: "gate",
// "compliance", "spam"; "types" holds the editor's annotations.
func Policy(name string) (fs.FS, error) {
	if _, err := fs.Stat(files, name); err != nil {
		return nil, err
	}
	return fs.Sub(files, name)
}
