// Package scripts holds the policies that come with moongate. Each is a policy
// directory of its own: copy it, change it, and name it in [policy] scripts.
//
//	gate/   sender and recipient rules, and how fast one may send
package scripts

import (
	"embed"
	"io/fs"
)

//go:embed gate
var files embed.FS

// Policy is the directory of a policy that comes with moongate: "gate".
func Policy(name string) (fs.FS, error) {
	if _, err := fs.Stat(files, name); err != nil {
		return nil, err
	}
	return fs.Sub(files, name)
}
