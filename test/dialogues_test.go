package test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/moongate/moongate/test/dialogue"
	"github.com/moongate/moongate/test/moongate"
)

func TestMain(m *testing.M) { moongate.Main(m) }

// TestDialogues performs each conversation in testdata/dialogues with the program.
func TestDialogues(t *testing.T) {
	files, err := filepath.Glob("testdata/dialogues/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dialogues: %v", err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			t.Parallel()
			dialogue.Run(t, path, dialogue.Program)
		})
	}
}
