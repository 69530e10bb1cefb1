package script

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"

	"github.com/moongate/moongate/internal/watch"
)

// SnapshotFS takes a snapshot of a policy that is no directory of this machine:
// one that comes with moongate, or a test's. dir is what messages call it.
func SnapshotFS(fsys fs.FS, dir string) watch.Snapshot {
	snap := watch.Snapshot{Dir: dir}
	sel := Select()
	h := sha256.New()
	snap.Err = fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name == ".":
			return nil
		case d.IsDir() && !sel.Dir(name):
			return fs.SkipDir
		case d.IsDir() || !sel.File(name):
			return nil
		}
		data, err := fs.ReadFile(fsys, name)
		snap.Files = append(snap.Files, watch.File{Name: name, Data: data, Err: err})
		fmt.Fprintf(h, "%d:%s%d:%s%v", len(name), name, len(data), data, err)
		return nil
	})
	snap.Hash = hex.EncodeToString(h.Sum(nil))
	return snap
}
