package configs

import (
	"os"
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
	want.Listeners = []Listener{{Address: "127.0.0.1:2525", TLS: "none", Mode: "0660"}}
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

// Each key is live after a reload, or asks for a restart; the page on the
// configuration names those that do.
func TestNeedsRestart(t *testing.T) {
	const base = `
hostname = "mx.example.org"
domains = ["example.org"]
[[listener]]
address = "127.0.0.1:2525"
[upstream]
address = "127.0.0.1:10025"
[policy]
scripts = "scripts"
`
	page, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, said, ok := strings.Cut(string(page), "## Reload\n")
	if !ok {
		t.Fatal("the page does not speak of reloads")
	}
	running := mustParse(t, base)
	for _, test := range []struct{ old, new, restart string }{
		{"127.0.0.1:2525", "127.0.0.1:2526", "listener"},
		{"[upstream]", "xforward = [\"192.0.2.1\"]\n[upstream]", "listener"},
		{"\"127.0.0.1:2525\"", "\"unix:smtp.sock\"\nmode = \"0600\"", "listener"},
		{"[upstream]", "[milter]\naddress = \"127.0.0.1:7357\"\n[upstream]", "milter"},
		{"[upstream]", "[admin]\naddress = \"127.0.0.1:9125\"\n[upstream]", "admin"},
		{"[upstream]", "[dns]\nservers = [\"127.0.0.1:53\"]\n[upstream]", ""},
		{"[upstream]", "[log]\nformat = \"text\"\n[upstream]", "log.format"},
		{"[upstream]", "[limits]\nmemory = \"1MB\"\n[upstream]", "limits.memory"},
		{"[upstream]", "[limits]\nspool = \"2GB\"\n[upstream]", "limits.spool"},

		{"mx.example.org", "mx2.example.org", ""},
		{"[\"example.org\"]", "[\"example.com\"]", ""},
		{"127.0.0.1:10025", "127.0.0.1:10026", ""},
		{"= \"scripts\"", "= \"other\"", ""},
		{"scripts =", "allow_empty = true\nscripts =", ""},
		{"scripts =", "allow_shrink = true\nscripts =", ""},
		{"scripts =", "delay_reject = true\nscripts =", ""},
		{"scripts =", "max_states = 10\nscripts =", ""},
		{"scripts =", "instructions = 5000\nscripts =", ""},
		{"scripts =", "memory = \"1MB\"\nscripts =", ""},
		{"scripts =", "soft_bounce = true\nscripts =", ""},
		{"[upstream]", "[quarantine]\npath = \"drawer\"\n[upstream]", ""},
		{"[upstream]", "[log]\nlevel = \"debug\"\n[upstream]", ""},
		{"[upstream]", "[limits]\nsize = \"1MB\"\nheader = \"2MB\"\n[upstream]", ""},
		{"[upstream]", "[timeouts]\nhook = \"1s\"\n[upstream]", ""},
		{"[upstream]", "[[filter]]\naddress = \"127.0.0.1:11332\"\n[upstream]", ""},
	} {
		if !strings.Contains(base, test.old) {
			t.Fatalf("there is no %q to change", test.old)
		}
		next := mustParse(t, strings.Replace(base, test.old, test.new, 1))
		var got []string
		for _, p := range running.NeedsRestart(next) {
			got = append(got, p.Text)
		}
		want := ""
		if test.restart != "" {
			want = "`" + test.restart + "` has changed: this needs a restart"
			if !strings.Contains(said, "`"+test.restart+"`") && !strings.Contains(said, "["+test.restart+"]") {
				t.Errorf("docs/configuration.md does not say that `%s` needs a restart", test.restart)
			}
		}
		if strings.Join(got, "\n") != want {
			t.Errorf("%q instead of %q: %q, want %q", test.new, test.old, got, want)
		}
	}
}

// What the milter reads of a header, and how many recipients it takes, is
// settled when it starts.
func TestNeedsRestartForTheMilter(t *testing.T) {
	const base = "[milter]\naddress = \"127.0.0.1:7357\"\n[policy]\nallow_empty = true\n"
	problems := mustParse(t, base).NeedsRestart(mustParse(t, base+"[limits]\nheader = \"2MB\"\n"))
	if len(problems) != 1 || problems[0].Text != "`limits.header` has changed: this needs a restart" || problems[0].Line != 6 {
		t.Errorf("got %v", problems)
	}
	problems = mustParse(t, base).NeedsRestart(mustParse(t, base+"[limits]\nrecipients = 10\n"))
	if len(problems) != 1 || problems[0].Text != "`limits.recipients` has changed: this needs a restart" {
		t.Errorf("got %v", problems)
	}
	if problems := mustParse(t, base).NeedsRestart(mustParse(t, strings.Replace(base, "7357\"", "7357\"\nconnections = 10", 1))); len(problems) > 0 {
		t.Errorf("milter.connections counts for the next connection, but: %v", problems)
	}
}
