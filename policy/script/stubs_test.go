package script

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/yuin/gopher-lua/parse"
)

var update = flag.Bool("update", false, "write the generated files")

// What is generated from the table is what lies in the repository.
func TestGenerated(t *testing.T) {
	for name, want := range map[string]string{
		"../../scripts/types/moongate.lua": Stubs(),
		"../../docs/lua-reference.md":      Reference(),
	} {
		if *update {
			os.MkdirAll(filepath.Dir(name), 0o755)
			if err := os.WriteFile(name, []byte(want), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(name)
		if err != nil || string(got) != want {
			t.Errorf("%s is not what the bindings say (%v): go generate ./policy/script", name, err)
		}
	}
}

// The stubs are Lua, and nothing in the table lacks its words.
func TestTableIsWhole(t *testing.T) {
	if _, err := parse.Parse(strings.NewReader(Stubs()), "moongate.lua"); err != nil {
		t.Errorf("the stubs are no Lua: %v", err)
	}
	check := func(name, doc, planned string, params, returns []param) {
		if planned != "" {
			return
		}
		if doc == "" || !strings.HasSuffix(doc, ".") && !strings.HasSuffix(doc, ")") {
			t.Errorf("%s: its text is %q", name, doc)
		}
		for _, p := range append(params[:len(params):len(params)], returns...) {
			if p.typ == "" {
				t.Errorf("%s: %q has no type", name, p.name)
			}
		}
	}
	for _, f := range language.functions {
		check(f.name, f.doc, f.planned, f.params, f.returns)
	}
	for _, l := range language.libraries {
		check(l.name, l.doc, "", nil, nil)
		for _, f := range l.functions {
			check(l.name+"."+f.name, f.doc, f.planned, f.params, f.returns)
		}
	}
	for _, c := range language.classes {
		check(c.name, c.doc, "", nil, nil)
		for _, m := range c.members {
			name := c.name + "." + m.name
			if m.get != nil && m.typ == "" || (m.get == nil) == (m.do == nil) && m.planned == "" {
				t.Errorf("%s is neither a field with a type nor a method", name)
			}
			doc := m.doc
			if m.get != nil && doc != "" && !strings.HasSuffix(doc, ".") {
				doc += "." // fields may be a word
			}
			check(name, doc, m.planned, m.params, m.returns)
		}
	}
}
