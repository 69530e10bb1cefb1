package milter_test

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/moongate/moongate/internal/watch"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/policytest"
	"github.com/moongate/moongate/policy/script"
	"github.com/moongate/moongate/policy/state"
	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/moongate"
	"github.com/moongate/moongate/test/postfix"
	"github.com/moongate/moongate/test/upstream"
)

var recipeBlock = regexp.MustCompile("(?s)```lua\n(-- (\\S+)\\.lua\n.*?)```(?:\n\n```text\n(# (\\S+)\n.*?)```)?")

// recipes are the policies of docs/recipes.md by name, each the files of its
// policy directory: the Lua, and the list behind it if there is one.
func recipes(t *testing.T) map[string]map[string]string {
	t.Helper()
	page, err := os.ReadFile("../../docs/recipes.md")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]map[string]string{}
	for _, m := range recipeBlock.FindAllStringSubmatch(string(page), -1) {
		all[m[2]] = map[string]string{"scripts/" + m[2] + ".lua": m[1]}
		if m[4] != "" {
			all[m[2]]["scripts/"+m[4]] = m[3]
		}
	}
	if blocks := strings.Count(string(page), "\n```lua\n"); len(all) != blocks || blocks == 0 {
		t.Fatalf("docs/recipes.md has %d recipes, and %d of them begin with their name", blocks, len(all))
	}
	return all
}

// Each recipe on both faces, as in TestFaces: the Lua and the lists are those of
// the page, and testdata/recipes has what a client says and what comes of it, in
// NAME.txtar and maybe NAME.MORE.txtar. What one face has counted the other does
// not know: each has a program of its own. "{rspamd}" in the configuration is a
// filter that the MTA has, too; "postfix" has parameters of both MTAs.
func TestRecipes(t *testing.T) {
	all, run := recipes(t), map[string]bool{}
	paths, err := filepath.Glob("testdata/recipes/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), ".txtar")
		recipe, _, _ := strings.Cut(name, ".")
		files := all[recipe]
		if files == nil {
			t.Errorf("%s is of no recipe of the page", path)
			continue
		}
		run[recipe] = true
		t.Run(name, func(t *testing.T) {
			arc, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			part := map[string]string{}
			for _, f := range arc.Files {
				part[f.Name] = string(f.Data)
			}
			var milters []string
			if strings.Contains(part["config"], "{rspamd}") {
				milters = []string{"inet:" + likeRspamd(t)}
				part["config"] = strings.ReplaceAll(part["config"], "{rspamd}", strings.TrimPrefix(milters[0], "inet:"))
			}
			checkRecipe(t, part["config"], files)

			behind := postfix.Start(t, postfix.Options{Main: settings(part["postfix"])})
			start := func() *moongate.Process {
				return moongate.Start(t, moongate.Options{Config: facesConfig + part["config"], Upstream: behind.Addr, Files: files})
			}
			gate := start()
			door := talk(t, gate, gate.Addr, behind, gate.Dir+"/drawer/*.eml", part, atDoor)
			gate = start()
			front := postfix.Start(t, postfix.Options{Main: settings(part["postfix"]), Milters: append(milters, "inet:"+gate.Addrs[1])})
			asked := talk(t, gate, front.Addr, front, front.Dir+"/queue/hold/*", part, asMilter)
			compare(t, path, arc, part, steady(door), steady(asked))
		})
	}
	for recipe := range all {
		if !run[recipe] {
			t.Errorf("testdata/recipes has nothing of %s", recipe)
		}
	}
}

var waits, sizes = regexp.MustCompile(`in \d+ seconds`), regexp.MustCompile(`size=\d+ `)

// steady is a result without what differs for a reason that has its own test: a
// wait by the time that has gone, and the size where an MTA sends no body.
func steady(result string) string {
	return sizes.ReplaceAllString(waits.ReplaceAllString(result, "in N seconds"), "")
}

// settings are the lines "key = value" of a case.
func settings(text string) map[string]string {
	all := map[string]string{}
	for line := range strings.Lines(text) {
		key, value, _ := strings.Cut(strings.TrimSpace(line), " = ")
		all[key] = value
	}
	return all
}

// likeRspamd is a filter that marks and refuses as rspamd does.
func likeRspamd(t *testing.T) (addr string) {
	f := serve(t)
	f.use(policytest.Rule(policy.Message, func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
		switch subject, _ := s.Tx.Header().Get("Subject", 1); subject.Value() {
		case "cheap pills": // its action "add header"
			return policy.Verdict{}, s.Tx.Do(policy.Edit{Kind: policy.AddHeader, Name: "X-Spam", Value: " Yes"})
		case "a virus":
			return policytest.Reject("Gtube pattern"), nil
		}
		return policy.Verdict{}, nil
	}))
	return f.addr
}

// checkRecipe has moongate check look at a recipe in each configuration that
// may have it: the door, the milter, both. There is nothing to tell.
func checkRecipe(t *testing.T, config string, files map[string]string) {
	t.Helper()
	const milter = "[milter]\naddress = \"127.0.0.1:0\"\n\n"
	head, _, _ := strings.Cut(facesConfig, "[[listener]]")
	for face, config := range map[string]string{
		"both":   facesConfig + config,
		"door":   strings.Replace(facesConfig, milter, "", 1) + config,
		"milter": head + milter + "[policy]\nscripts = \"scripts\"\n",
	} {
		dir := moongate.Write(t, moongate.Options{Config: config, Upstream: "127.0.0.1:1", Files: files})
		code, said := moongate.Run(t, dir, "check", "-c", "moongate.toml")
		if code != 0 || strings.Contains(said, "warning:") || !strings.Contains(said, "on_error=") {
			t.Errorf("moongate check, %s: exit code %d\n%s", face, code, said)
		}
	}
}

// All of them lie in one directory without getting in each other's way.
func TestRecipesTogether(t *testing.T) {
	files := map[string]string{}
	for _, r := range recipes(t) {
		maps.Copy(files, r)
	}
	checkRecipe(t, "", files)
}

// A message larger than what the rule reads passes, and one that has the name
// where it reads does not.
func TestRecipeAttachmentsLarge(t *testing.T) {
	up := upstream.Start(t, "")
	gate := moongate.Start(t, moongate.Options{Upstream: up.Addr, Files: recipes(t)["attachments"]})
	c := client.Dial(t, gate.Addr, "").Greet("client.example")
	large := strings.Repeat(strings.Repeat("QUJD", 19)+"\r\n", 25_000)
	for head, want := range map[string]string{"": "250 ", "Content-Disposition: attachment; filename=x.exe\r\n\r\n": "554 5.7.1 Files that end in .exe "} {
		if r := c.Send("a@example.com", "b@example.org", client.Head("large")+"\r\n"+head+large); !strings.HasPrefix(r, want) {
			t.Errorf("%q: %q", head, r)
		}
	}
}

// Who was greylisted passes when the five minutes are over, and not before.
func TestRecipeGreylistComesBack(t *testing.T) {
	snap := watch.Snapshot{Dir: "recipes", Files: []watch.File{{Name: "greylist.lua", Data: []byte(recipes(t)["greylist"]["scripts/greylist.lua"])}}}
	p, problems := script.Load(snap, script.Options{Faces: []*policy.Face{policy.SMTP, policy.Milter}})
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	for _, face := range []*policy.Face{policy.SMTP, policy.Milter} {
		env, _ := policytest.Env(face)
		world := &policytest.World{Clock: time.Unix(1_700_000_000, 0), Store: state.New(0)}
		env.World = world
		env.Engine = policy.EngineFunc(func(*policy.Facts) *policy.Rules { return p.Rules })
		var heard []string
		for _, wait := range []time.Duration{0, 4 * time.Minute, time.Minute} {
			world.Clock = world.Clock.Add(wait)
			s := env.NewSession(context.Background(), policy.Facts{Remote: netip.MustParseAddrPort("192.0.2.9:4711")})
			s.Begin(policytest.Path(t, "a@example.net"), nil)
			r := &policy.Recipient{In: policytest.Path(t, "b@example.org")}
			r.Out = r.In
			v := s.Ask(&policy.Event{Hook: policy.Rcpt, Rcpt: r})
			heard = append(heard, fmt.Sprint(v.Action, v.Reply))
		}
		const early = "tempfail 450 4.2.0 You are new here, come back in %d seconds"
		want := []string{fmt.Sprintf(early, 300), fmt.Sprintf(early, 60), "continue "}
		if !slices.Equal(heard, want) {
			t.Errorf("%s heard %q", face.Name, heard)
		}
	}
}
