package script

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"
	"strings"

	"github.com/moongate/moongate/internal/watch"
)

// IsPolicy reports whether a file of the directory is policy: *.lua there (not
// below), unless its name begins with . or # or ends in ~, or it is a test.
func IsPolicy(name string) bool {
	return !strings.Contains(name, "/") && strings.HasSuffix(name, ".lua") && !hidden(name) && !IsTest(name)
}

// IsTest reports whether a file is a test: *_test.lua.
func IsTest(name string) bool {
	return !strings.Contains(name, "/") && strings.HasSuffix(name, "_test.lua") && !hidden(name)
}

func isModule(name string) bool {
	dir, file := path.Split(name)
	return dir == "lib/" && strings.HasSuffix(file, ".lua") && !hidden(file)
}

func hidden(name string) bool {
	name = path.Base(name)
	return strings.HasPrefix(name, ".") || strings.HasPrefix(name, "#") || strings.HasSuffix(name, "~")
}

// Select says what of a policy directory belongs to its snapshot: everything
// but hidden files and types/. Besides the scripts these are the lists, which
// may lie in directories below.
func Select() watch.Select {
	return watch.Select{
		File:    func(name string) bool { return !hidden(name) },
		Dir:     func(name string) bool { return !hidden(name) && name != "types" && !strings.HasSuffix(name, ".lua") },
		MaxSize: 64 << 20,
	}
}

// Version is the hash of the scripts of a snapshot. Lists and tests are not
// part of it: they change without a reload.
func Version(snap watch.Snapshot) string {
	h := sha256.New()
	for _, f := range snap.Files {
		if IsPolicy(f.Name) || isModule(f.Name) {
			fmt.Fprintf(h, "%d:%s%d:%s", len(f.Name), f.Name, len(f.Data), f.Data)
			if f.Err != nil {
				fmt.Fprintf(h, "!%s", f.Err)
			}
		}
	}
	return hex.EncodeToString(h.Sum(nil))[:12]
}
