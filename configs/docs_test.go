package configs

import (
	"os"
	"reflect"
	"strings"
	"testing"
)

// docs/configuration.md has a row for every key, in the section of its table,
// and no row for a key that is none; its complete example loads.
func TestConfigurationPageIsComplete(t *testing.T) {
	page, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	section := ""
	for line := range strings.Lines(string(page)) {
		if title, ok := strings.CutPrefix(line, "## "); ok {
			section = strings.Trim(strings.TrimSpace(title), "`[]")
			if section == "At the top" {
				section = ""
			}
		}
		if rest, ok := strings.CutPrefix(line, "| `"); ok {
			key, _, _ := strings.Cut(rest, "`")
			documented[strings.TrimPrefix(section+"."+key, ".")] = true
		}
	}
	var walk func(reflect.Type, string)
	walk = func(typ reflect.Type, table string) {
		for f := range typ.Fields() {
			key := f.Tag.Get("toml")
			if key == "" {
				continue
			}
			full := strings.TrimPrefix(table+"."+key, ".")
			switch {
			case isTable(f.Type):
				walk(f.Type, full)
			case f.Type.Kind() == reflect.Slice && isTable(f.Type.Elem()):
				walk(f.Type.Elem(), full)
			case !documented[full]:
				t.Errorf("docs/configuration.md has no row for `%s`", full)
			default:
				delete(documented, full)
			}
		}
	}
	walk(reflect.TypeFor[Config](), "")
	for key := range documented {
		t.Errorf("docs/configuration.md has a row for `%s`, which is no key", key)
	}

	_, example, ok := strings.Cut(string(page), "```toml\n")
	example, _, _ = strings.Cut(example, "```")
	if !ok {
		t.Fatal("no example")
	}
	mustParse(t, example)
}
