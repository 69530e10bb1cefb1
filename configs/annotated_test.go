package configs

import (
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"net/netip"
)

// commented finds "#key = value": a default that is shown, not set.
var commented = regexp.MustCompile(`(?m)^#([a-z_]+ = .*|\[\[filter\]\] .*)$`)

func uncomment(text string, examples bool) string {
	return commented.ReplaceAllStringFunc(text, func(line string) string {
		if strings.Contains(line, "# example") != examples {
			return line
		}
		return line[1:]
	})
}

func mustParse(t *testing.T, text string) *Config {
	t.Helper()
	cfg, problems := parse("/etc/moongate/moongate.toml", []byte(text))
	for _, p := range problems {
		t.Error(p.Show())
	}
	if cfg == nil {
		t.FailNow()
	}
	return cfg
}

var sameConfig = cmp.Options{
	cmpopts.IgnoreUnexported(Config{}),
	cmpopts.EquateComparable(netip.Prefix{}),
	cmpopts.EquateEmpty(),
}

// The annotated file is the reference that operators read: what it shows as a
// default must be the default.
func TestAnnotatedFileShowsTheDefaults(t *testing.T) {
	asShipped := mustParse(t, string(Annotated))
	allShown := mustParse(t, uncomment(string(Annotated), false))
	if diff := cmp.Diff(asShipped, allShown, sameConfig); diff != "" {
		t.Errorf("a commented line is not the default (-default +shown):\n%s", diff)
	}
	want := Default()
	want.Domains = []string{"example.org"}
	want.Listeners = []Listener{{Address: "127.0.0.1:2525", TLS: "none"}}
	want.Upstream.Address = "127.0.0.1:10025"
	want.Policy.Scripts = "/etc/moongate/scripts"
	want.Hostname = strings.ToLower(want.Hostname)
	if diff := cmp.Diff(want, asShipped, sameConfig); diff != "" {
		t.Errorf("the shipped file sets more than it says (-want +got):\n%s", diff)
	}
}

func TestAnnotatedExamplesLoad(t *testing.T) {
	cfg := mustParse(t, uncomment(uncomment(string(Annotated), false), true))
	want := defaultFilter()
	want.Name, want.Address = "rspamd", "127.0.0.1:11332"
	if diff := cmp.Diff([]Filter{want}, cfg.Filters); diff != "" {
		t.Errorf("the filter shown is not the default (-default +shown):\n%s", diff)
	}
	if cfg.Milter.Address == "" || cfg.Admin.Address == "" || cfg.Hostname != "mx.example.org" {
		t.Errorf("examples are not read: %+v", cfg)
	}
}

// Every key of the struct is in the annotated file, and in docs order: under
// its own table.
func TestAnnotatedFileIsComplete(t *testing.T) {
	cfg := mustParse(t, uncomment(uncomment(string(Annotated), false), true))
	var walk func(reflect.Type, string)
	walk = func(typ reflect.Type, path string) {
		for f := range typ.Fields() {
			key := f.Tag.Get("toml")
			if key == "" {
				if f.IsExported() {
					t.Errorf("field %s of %s has no toml key", f.Name, typ)
				}
				continue
			}
			full := strings.TrimPrefix(path+"."+key, ".")
			switch {
			case f.Type.Kind() == reflect.Struct:
				walk(f.Type, full)
			case f.Type.Kind() == reflect.Slice && isTable(f.Type.Elem()):
				walk(f.Type.Elem(), full+"[0]")
			default:
				if _, ok := cfg.where[full]; !ok {
					t.Errorf("moongate.toml does not name `%s`", full)
				}
			}
		}
	}
	walk(reflect.TypeFor[Config](), "")
}

// A key cannot be built and planned at once.
func TestPlannedKeysAreNotBuilt(t *testing.T) {
	for _, p := range planned {
		typ, value, ok := reflect.TypeFor[Config](), p.value, true
		var field reflect.StructField
		for key := range strings.SplitSeq(p.key, ".") {
			if typ.Kind() == reflect.Slice {
				typ = typ.Elem()
			}
			if field, ok = fieldOf(typ, key); !ok {
				break
			}
			typ = field.Type
		}
		built := ok && value == "" || ok && strings.Contains(" "+field.Tag.Get("enum")+" ", " "+value+" ")
		if built {
			t.Errorf("%s %q is built: delete its row of the table", p.key, p.value)
		}
	}
}

func TestSizes(t *testing.T) {
	for text, want := range map[string]Size{"50MB": 50 << 20, "1 GiB": 1 << 30, "64k": 64 << 10, "4096": 4096, "7B": 7} {
		got, err := ParseSize(text)
		if err != nil || got != want {
			t.Errorf("ParseSize(%q) = %d, %v; want %d", text, got, err, want)
		}
		if again, err := ParseSize(got.String()); err != nil || again != got {
			t.Errorf("ParseSize(%q) = %d, %v; want %d back", got.String(), again, err, got)
		}
	}
	for _, text := range []string{"", "MB", "-1", "1.5MB", "9999999999GB", "1TB", "+3"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("ParseSize(%q) = %d; want an error", text, got)
		}
	}
}

func TestPathsAreRelativeToTheFile(t *testing.T) {
	cfg := mustParse(t, `
		[[listener]]
		address = "unix:run/smtp.sock"
		[upstream]
		address = "unix:/run/up.sock"
		[policy]
		scripts = "policy.d"
		[timeouts]
		idle = "1m30s"`)
	if got := cfg.Listeners[0].Address; got != "unix:/etc/moongate/run/smtp.sock" {
		t.Errorf("listener is %s", got)
	}
	if got := cfg.Upstream.Address; got != "unix:/run/up.sock" {
		t.Errorf("upstream is %s", got)
	}
	if got := cfg.Policy.Scripts; got != "/etc/moongate/policy.d" {
		t.Errorf("scripts are %s", got)
	}
	if got := cfg.Timeouts.Idle; got != 90*time.Second {
		t.Errorf("idle is %s", got)
	}
}

func TestNeedsRestart(t *testing.T) {
	base := string(Annotated)
	running := mustParse(t, base)
	for edit, want := range map[string]string{
		"127.0.0.1:2525>127.0.0.1:2526":      "`listener` has changed: this needs a restart",
		"[admin]>[admin]\naddress=\":9125\"": "`admin` has changed: this needs a restart",
		"[log]>[log]\nlevel = \"debug\"":     "",
		"127.0.0.1:10025>127.0.0.1:10026":    "",
		"[limits]>[limits]\nsize = \"1MB\"":  "",
	} {
		from, to, _ := strings.Cut(edit, ">")
		next := mustParse(t, strings.Replace(base, from, to, 1))
		var got []string
		for _, p := range running.NeedsRestart(next) {
			got = append(got, p.Text)
		}
		if strings.Join(got, "\n") != want {
			t.Errorf("%s: %q, want %q", edit, got, want)
		}
	}
}
