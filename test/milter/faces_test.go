package milter_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/moongate"
	"github.com/moongate/moongate/test/postfix"
)

var update = flag.Bool("update", false, "write the golden results of testdata/faces anew from the SMTP door")

const facesConfig = `hostname = "mx.example.org"
domains = ["example.org", "example.net"]
received = "never"   # so that octets can be compared

[[listener]]
address = "127.0.0.1:0"

[upstream]
address = "{upstream}"

[milter]
address = "127.0.0.1:0"

[policy]
scripts = "scripts"
`

// The same policy on both faces: the program serves one policy as the SMTP
// door in front of a Postfix, and as a milter behind another one. A client
// says the same to both. What it hears, what is delivered and what the audit
// lines say is one golden result; "golden.milter" is there where an MTA cannot
// but do otherwise, and the file's comment says why. A case may have more of
// the configuration, from within [policy] on.
func TestFaces(t *testing.T) {
	files, err := filepath.Glob("testdata/faces/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			arc, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			part := map[string]string{}
			for _, f := range arc.Files {
				part[f.Name] = string(f.Data)
			}
			behind := postfix.Start(t, postfix.Options{})
			gate := moongate.Start(t, moongate.Options{Config: facesConfig + part["config"], Upstream: behind.Addr,
				Files: map[string]string{"scripts/10-policy.lua": part["policy.lua"]}})
			front := postfix.Start(t, postfix.Options{Milters: []string{"inet:" + gate.Addrs[1]}})

			door := talk(t, gate, gate.Addr, behind, gate.Dir+"/drawer/*.eml", part, atDoor)
			asked := talk(t, gate, front.Addr, front, front.Dir+"/queue/hold/*", part, asMilter)
			compare(t, path, arc, part, door, asked)
		})
	}
}

// Whose a line of the log is.
func asMilter(l moongate.Line) bool { return l["listener"] == "milter" }
func atDoor(l moongate.Line) bool   { return !asMilter(l) }

// compare holds the results of a case against its golden ones, or writes them.
func compare(t *testing.T, path string, arc *txtar.Archive, part map[string]string, door, asked string) {
	t.Helper()
	if *update {
		golden(t, path, arc, door, asked)
		return
	}
	if d := cmp.Diff(part["golden"], door); d != "" {
		t.Errorf("the SMTP door (-golden +got):\n%s", d)
	}
	want := part["golden"]
	if w, ok := part["golden.milter"]; ok {
		want = w
	}
	if d := cmp.Diff(want, asked); d != "" {
		t.Errorf("the milter (-golden +got):\n%s", d)
	}
}

// golden writes the results into the file. A difference between the faces is
// kept only where there was one: a new one is to be explained first.
func golden(t *testing.T, path string, arc *txtar.Archive, door, asked string) {
	t.Helper()
	differs := false
	arc.Files = slices.DeleteFunc(arc.Files, func(f txtar.File) bool {
		differs = differs || f.Name == "golden.milter"
		return strings.HasPrefix(f.Name, "golden")
	})
	arc.Files = append(arc.Files, txtar.File{Name: "golden", Data: []byte(door)})
	if differs {
		arc.Files = append(arc.Files, txtar.File{Name: "golden.milter", Data: []byte(asked)})
	} else if d := cmp.Diff(door, asked); d != "" {
		t.Errorf("the faces differ (-door +milter):\n%s", d)
	}
	if err := os.WriteFile(path, txtar.Format(arc), 0o644); err != nil {
		t.Fatal(err)
	}
}

// talk says a client's lines, what is behind a DATA that gets its 354 up to the
// dot as a message, and returns what came of them. A line "again" is a new
// connection, "again 127.0.1.9" one from that address; "slow LINE" is one whose
// answer is to take a second; "try DATA" one that one face may refuse, and the
// message with it; "list FILE" gives the policy that list anew.
func talk(t *testing.T, gate *moongate.Process, addr string, mta *postfix.Postfix, drawer string, part map[string]string, mine func(moongate.Line) bool) string {
	t.Helper()
	var out strings.Builder
	c := client.Dial(t, addr, "")
	fmt.Fprintf(&out, "S: %s\n", normal(c.Reply()))
	var body strings.Builder
	inBody, unsaid, sessions := false, false, 0
	heard := false // in this session, an answer to a command
	hangUp := func() {
		c.Close()
		if heard {
			sessions++
			await(gate, sessions, mine)
		}
		heard = false
	}
	for _, line := range strings.Split(strings.TrimSuffix(part["client"], "\n"), "\n") {
		word, arg, _ := strings.Cut(line, " ")
		switch {
		case inBody:
			fmt.Fprintf(&body, "%s\r\n", line)
			if line != "." {
				continue
			}
			inBody = false
			if unsaid {
				body.Reset()
				continue
			}
			fmt.Fprint(c, body.String())
			body.Reset()
			fmt.Fprintf(&out, "S: %s\n", normal(c.Reply()))
			mta.Settle() // two messages in the queue are delivered in any order
		case word == "again":
			hangUp()
			c = client.Dial(t, addr, arg)
			fmt.Fprintf(&out, "%s\nS: %s\n", line, normal(c.Reply()))
		case word == "list":
			fmt.Fprintln(&out, line)
			replaceList(t, gate, arg, part[arg])
		default:
			said, slow := strings.CutPrefix(line, "slow ")
			said, try := strings.CutPrefix(said, "try ")
			start := time.Now()
			r := normal(c.Say(said))
			heard = heard || r != theEnd
			fmt.Fprintf(&out, "C: %s\nS: %s\n", said, r)
			if slow && time.Since(start) < time.Second {
				fmt.Fprintf(&out, "and at once\n")
			}
			// A case in which DATA is refused has no message behind it.
			unsaid = try && r != "354"
			inBody = said == "DATA" && r == "354" || unsaid
		}
	}
	hangUp()
	mta.Settle()
	for _, m := range mta.Inside.Messages() {
		from, _, _ := strings.Cut(m.From, " ")
		var to []string
		for _, r := range m.Rcpts {
			r, _, _ = strings.Cut(r, "> ")
			to = append(to, strings.TrimSuffix(r, ">")+">")
		}
		slices.Sort(to)
		fmt.Fprintf(&out, "delivered: %s to %s\n", from, strings.Join(to, " "))
		for _, l := range strings.Split(strings.TrimSuffix(string(m.Body()), "\r\n"), "\r\n") {
			fmt.Fprintf(&out, "| %s\n", l)
		}
	}
	if kept, _ := filepath.Glob(drawer); len(kept) > 0 { // the drawer or the MTA's hold: only of the one there are names
		fmt.Fprintf(&out, "kept: %d\n", len(kept))
	}
	for _, l := range gate.Log("message") {
		if mine(l) {
			fmt.Fprintf(&out, "audit: %s\n", audit(l))
		}
	}
	return out.String()
}

// replaceList saves a list as most editors do, a new file that is renamed over
// the old one, and waits until it counts.
func replaceList(t *testing.T, gate *moongate.Process, name, text string) {
	t.Helper()
	path := filepath.Join(gate.Dir, "scripts", name)
	tmp := filepath.Join(gate.Dir, "scripts", ".new~")
	if err := os.WriteFile(tmp, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(tmp, path); err != nil {
		t.Fatal(err)
	}
	gate.WaitLog("list loaded", func(l moongate.Line) bool { return l["list"] == name })
}

// await waits for the ends of so many sessions of a face: the end is the last
// that is logged, behind the audit lines. The harness's own look at the door is
// a session, too, one that says nothing.
func await(gate *moongate.Process, n int, mine func(moongate.Line) bool) {
	ended := map[any]bool{}
	gate.WaitLog("disconnect", func(l moongate.Line) bool {
		if l["commands"] != "commands=0" && sessionOf(gate, l, mine) {
			ended[l["session"]] = true
		}
		return len(ended) >= n
	})
}

// sessionOf says whether a disconnect line is of a session of this face.
func sessionOf(gate *moongate.Process, l moongate.Line, mine func(moongate.Line) bool) bool {
	for _, c := range gate.Log("connect") {
		if c["session"] == l["session"] {
			return mine(c)
		}
	}
	return false
}

var idText = regexp.MustCompile(`\(id [0-9A-Z.]+\)`)

// theEnd is what a client hears that was disconnected.
const theEnd = "the end"

// normal is a reply without what differs from run to run: the id, and the
// texts of positive replies, which are the MTA's.
func normal(r string) string {
	if r == "" {
		return theEnd
	}
	if strings.HasPrefix(r, "2") || strings.HasPrefix(r, "3") {
		return r[:3]
	}
	return idText.ReplaceAllString(strings.ReplaceAll(r, "\n", "|"), "(id ID)")
}

// audit is what an audit line says of the policy's decision.
func audit(l moongate.Line) string {
	var b strings.Builder
	for _, k := range []string{"from", "verdict", "by", "rule", "reason", "size", "msgid", "edits"} {
		if k == "size" && (l["verdict"] == "rejected" || l["verdict"] == "tempfailed") {
			continue // an MTA does not send what was refused at the header
		}
		if v, ok := l[k]; ok && v != "" {
			j, _ := json.Marshal(v)
			fmt.Fprintf(&b, "%s=%s ", k, j)
		}
	}
	rcpts, _ := l["rcpts"].([]any)
	for _, r := range rcpts {
		m, _ := r.(map[string]any)
		delete(m, "reply") // the MTA's own words where it is positive
		j, _ := json.Marshal(m)
		fmt.Fprintf(&b, "rcpt=%s ", j)
	}
	return strings.NewReplacer(`\u003c`, "<", `\u003e`, ">").Replace(strings.TrimSpace(b.String()))
}
