package script

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/lua"
)

// Whatever lies in the directory: loading tells problems or gives a policy,
// and a policy answers; neither ends the process.
func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob("../../scripts/*/*.lua")
	if err != nil || len(files) < 3 {
		f.Fatal(files, err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(text))
	}
	f.Add("on.rcpt({name='x', at=1, mode=true, on_error={}, timeout='-1s', [1]=2}, function(a, b) return b.x.y(a:z()) end)")
	f.Add("local l = ratelimit('a', {'1/s', '2/s'}, {burst=1e99}) on.mail(function(m) l:take(m.from, -1) end)")
	f.Add("for i = 1, 10 do on.connect('r' .. i, function(conn) conn.data[i] = {i} return delay(i) end) end")
	f.Fuzz(func(t *testing.T, text string) {
		snap := snapshot("-- 10-a.lua --\n")
		snap.Files[0].Data = []byte(text)
		p, ps := Load(snap, Options{Budget: lua.Budget{Instructions: 20_000, Bytes: 1 << 20}})
		if (p == nil) != lua.Refuses(ps) {
			t.Fatalf("policy %v, problems %s", p, problemLines(ps))
		}
		if p == nil {
			return
		}
		c := connectTo(t, policy.EngineFunc(func(*policy.Facts) *policy.Rules { return p.Rules }), p.opts.Log)
		c.Env.Metrics = nil
		c.ask(policy.Connect)
		c.ask(policy.Helo)
		c.mail("a@b.example")
		c.rcpt("c@d.example")
		c.message(mailText)
		c.done(policy.Accept)
	})
}

// A table source of any content is read or refused, and answers any key.
func FuzzTable(f *testing.F) {
	f.Add("/^(a+)(b)?$/i x$1${2}$(3)$$\nif !/x/\n/y/ z\nendif\n", "aab")
	f.Add("if 10.0.0.0/8\n!10.1.0.0/16 v\nendif\n::/0 all\n", "10.2.3.4")
	f.Add("key value\n  more\n#c\n", "KEY")
	f.Fuzz(func(t *testing.T, data, key string) {
		for kind := range numKinds {
			e, err := parseList(kind, []byte(data))
			if err != nil {
				continue
			}
			found := e.has(key)
			if m, ok := e.(table); ok {
				if _, ok := m.get(key); ok != found {
					t.Fatalf("%s: has %v, get %v", kind, found, ok)
				}
			}
		}
	})
}
