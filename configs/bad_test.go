package configs

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the expected messages anew")

// Bad configurations are files; beside each lies what an operator is told.
func TestBadConfigurations(t *testing.T) {
	files, err := filepath.Glob("testdata/bad/*.toml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no fixtures: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			_, problems := Load(file)
			if len(problems) == 0 {
				t.Fatal("loads without a word")
			}
			var shown strings.Builder
			for _, p := range problems {
				shown.WriteString(strings.ReplaceAll(p.Show(), "testdata/bad/", "") + "\n")
			}
			golden := strings.TrimSuffix(file, ".toml") + ".expected"
			if *update {
				if err := os.WriteFile(golden, []byte(shown.String()), 0o666); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if shown.String() != string(want) {
				t.Errorf("told:\n%s\nexpected:\n%s", shown.String(), want)
			}
		})
	}
}

func TestUnreadableFile(t *testing.T) {
	cfg, problems := Load(filepath.Join(t.TempDir(), "none.toml"))
	if cfg != nil || len(problems) != 1 || !strings.Contains(problems[0].Error(), "no such file") {
		t.Errorf("got %v, %v", cfg, problems)
	}
}

// Whatever stands in the file, Load answers and every problem has a line of it.
func FuzzParse(f *testing.F) {
	f.Add(Annotated)
	files, _ := filepath.Glob("testdata/bad/*.toml")
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		cfg, problems := parse("fuzz.toml", text)
		if cfg == nil && len(problems) == 0 {
			t.Error("neither a Config nor a problem")
		}
		for _, p := range problems {
			if p.Line > strings.Count(string(text), "\n")+1 || p.Col < 0 {
				t.Errorf("problem outside the file: %s", p.Error())
			}
			p.Show()
		}
	})
}
