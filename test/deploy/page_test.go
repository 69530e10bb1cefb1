package deploy

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/moongate"
	"github.com/moongate/moongate/test/postfix"
)

// page reads docs/postfix.md and returns, of the section that begins with a title, the code blocks of
// a language.
func page(t *testing.T, title, language string) []string {
	t.Helper()
	text, err := os.ReadFile("../../docs/postfix.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "\n## "+title)
	if !ok {
		t.Fatalf("the page has no section %q", title)
	}
	section, _, _ = strings.Cut(section, "\n## ")
	var blocks []string
	for _, m := range regexp.MustCompile("(?ms)^ *```"+language+"\n(.*?)^ *```$").FindAllStringSubmatch(section, -1) {
		blocks = append(blocks, m[1])
	}
	if len(blocks) == 0 {
		t.Fatalf("section %q has no %s", title, language)
	}
	return blocks
}

// pieceOf is the file of configs/postfix that a section names.
func pieceOf(t *testing.T, title string) string {
	t.Helper()
	text, _ := os.ReadFile("../../docs/postfix.md")
	_, section, _ := strings.Cut(string(text), "\n## "+title)
	m := regexp.MustCompile(`\(\.\./configs/postfix/([a-z.-]+)\)`).FindStringSubmatch(section)
	if m == nil {
		t.Fatalf("section %q names no piece", title)
	}
	return m[1]
}

// indented returns the lines of a section that are indented by four blanks: what is typed, and what
// is seen.
func indented(t *testing.T, title string) []string {
	t.Helper()
	text, _ := os.ReadFile("../../docs/postfix.md")
	_, section, _ := strings.Cut(string(text), title)
	section, _, _ = strings.Cut(section, "\n#")
	var lines []string
	for line := range strings.Lines(section) {
		if strings.HasPrefix(line, "    ") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// firstRule is the script of the page; all its sections use the same.
func firstRule(t *testing.T) map[string]string {
	t.Helper()
	return map[string]string{"scripts/10-first.lua": page(t, "In front", "lua")[0]}
}

// swap replaces each address that a page or a piece names by one that is free here. Each must be there.
func swap(t *testing.T, text string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("no %q in:\n%s", pairs[i], text)
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return text
}

// rejects says what the page says, through a door where its rule is in force, and that all else passes.
func rejects(t *testing.T, mta *postfix.Postfix, addr string) {
	t.Helper()
	seen := indented(t, "## In front") // RCPT TO, and the reply to it
	for len(seen) > 0 && !strings.HasPrefix(seen[0], "RCPT TO:") {
		seen = seen[1:]
	}
	if len(seen) < 2 {
		t.Fatalf("what does a client see? %q", seen)
	}
	reply := regexp.MustCompile("^" + regexp.MustCompile(`\\\(id [0-9A-Z]+\\\.1\\\)`).ReplaceAllString(regexp.QuoteMeta(seen[1]), `\(id [0-9A-Z.]+\)`) + "$")
	c := client.Dial(t, addr, stranger).Greet("client.example.com")
	c.Must("250", "MAIL FROM:<a@spam.example>")
	if r := c.Say(seen[0]); !reply.MatchString(r) {
		t.Errorf("%s: %q, the page shows %q", seen[0], r, seen[1])
	}
	c.Must("250", "RSET")
	if r := c.Send("a@example.com", "bob@example.org", letter("honest")); !strings.HasPrefix(r, "250") {
		t.Errorf("an honest message: %q", r)
	}
	c.Must("221", "QUIT")
	if got := len(mta.Messages(1)); got != 1 {
		t.Errorf("%d messages", got)
	}
	mta.WaitLog(`client=unknown\[192\.0\.2\.1\]`) // Postfix's log names the client
}

// TestPageInFront follows "In front" with each identity of its table.
func TestPageInFront(t *testing.T) {
	if outside(t) {
		return
	}
	for _, d := range shippedFronts {
		t.Run(d.identity, func(t *testing.T) {
			text, addr := piece(t, d.listener)
			mta := postfix.Start(t, postfix.Options{Master: []string{text}})
			config := swap(t, page(t, "In front", "toml")[0], "0.0.0.0:25", "0.0.0.0:0", "127.0.0.1:10025", addr, `"proxy"`, `"`+d.identity+`"`)
			if d.identity == "xforward" {
				config = "domains = [\"example.org\"]\n" + config
			}
			o := moongate.Options{Config: config, Files: firstRule(t)}
			dir := moongate.Write(t, o)
			for _, args := range [][]string{{"check"}, {"check", "--relay"}} {
				if code, out := moongate.Run(t, dir, append(args, "-c", "moongate.toml")...); code != 0 || !strings.Contains(out, "first rule") {
					t.Errorf("%v: exit %d\n%s", args, code, out)
				}
			}
			p := moongate.Start(t, o)
			rejects(t, mta, "127.0.0.1"+p.Addr[strings.LastIndex(p.Addr, ":"):])
		})
	}
}

// TestPageMilter follows "As a milter". The Postfix in front is a stock one.
func TestPageMilter(t *testing.T) {
	if outside(t) {
		return
	}
	addr := postfix.FreeAddr(t)
	config := swap(t, page(t, "As a milter", "toml")[0], "127.0.0.1:7357", addr)
	moongate.Start(t, moongate.Options{Config: config, Files: firstRule(t)})
	mta := postfix.Start(t, postfix.Options{Main: parameters(swap(t, shipped(t, "milter.main.cf"), "127.0.0.1:7357", addr))})
	rejects(t, mta, mta.Addr)
	for form, r := range offer(t, mta.Addr, stranger) {
		if strings.HasPrefix(r, "250") && !strings.HasPrefix(form, "<b@example.org>") {
			t.Logf("%s: %q", form, r)
		}
	}
	mta.Settle()
	if out := mta.Outside.Messages(); len(out) > 0 {
		t.Errorf("%d messages went outside", len(out))
	}
}

// TestMilterAway: with the shipped main.cf a Postfix whose milter is away keeps the mail with its
// sender.
func TestMilterAway(t *testing.T) {
	mta := postfix.Start(t, postfix.Options{Main: parameters(swap(t, shipped(t, "milter.main.cf"), "127.0.0.1:7357", postfix.FreeAddr(t)))})
	c := client.Dial(t, mta.Addr, "").Greet("client.example.com")
	if r := c.Send("a@example.com", "b@example.org", letter("away")); !strings.HasPrefix(r, "451 4.7.1") {
		t.Errorf("%q", r)
	}
	c.Close()
	if got := len(mta.Messages(0)); got != 0 {
		t.Errorf("%d messages", got)
	}
}

// parameters reads a main.cf.
func parameters(text string) map[string]string {
	p := map[string]string{}
	for line := range strings.Lines(text) {
		if key, value, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			p[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	return p
}

// TestPageFilter follows "As a before-queue filter", with the relay forms, too.
func TestPageFilter(t *testing.T) {
	if outside(t) {
		return
	}
	front, door, behind := postfix.FreeAddr(t), postfix.FreeAddr(t), postfix.FreeAddr(t)
	master := swap(t, shipped(t, pieceOf(t, "As a before-queue filter")), "\nsmtp inet", "\n"+front+" inet", "127.0.0.1:10024", door, "127.0.0.1:10025", behind)
	mta := postfix.Start(t, postfix.Options{Master: []string{master}, Main: map[string]string{"smtputf8_enable": "yes"}})
	config := swap(t, page(t, "As a before-queue filter", "toml")[0], "127.0.0.1:10024", door, "127.0.0.1:10025", behind)
	p := moongate.Start(t, moongate.Options{Config: config, Files: firstRule(t)})
	c := client.Dial(t, front, stranger).Greet("client.example.com")
	c.Must("250", "MAIL FROM:<a@example.com>")
	c.Must("250", "RCPT TO:<bob@example.org>")
	c.Must("354", "DATA")
	c.Must("250", letter("honest")+".")
	mta.Messages(1)
	mta.WaitLog(`behind-moongate/smtpd\[\d+\]: [0-9A-F]+: .*orig_client=unknown\[192\.0\.2\.1\]`)
	p.WaitLog("message", func(l moongate.Line) bool {
		return l["client"] == "unknown[192.0.2.1]" && l["helo"] == "client.example.com" && l["verdict"] == "accepted"
	})
	c.Must("250", "MAIL FROM:<a@spam.example>")
	if r := c.Say("RCPT TO:<bob@example.org>"); !strings.HasPrefix(r, "550 5.7.1 Not from there") {
		t.Errorf("%q", r)
	}
	c.Must("221", "QUIT")

	offer(t, front, stranger)
	// Whoever reaches moongate's port, past Postfix, is a stranger, too.
	for _, from := range []string{stranger, ""} {
		offer(t, door, from)
	}
	mta.Settle()
	if out := mta.Outside.Messages(); len(out) > 0 {
		t.Errorf("%d messages went outside, the first to %s", len(out), out[0].Rcpts)
	}
}

// TestPieces: Postfix finds nothing strange in the shipped pieces.
func TestPieces(t *testing.T) {
	files, _ := filepath.Glob("../../configs/postfix/*")
	if len(files) < 5 {
		t.Fatalf("only %q", files)
	}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			o := postfix.Options{}
			if strings.HasSuffix(name, ".master.cf") {
				o.Master = []string{regexp.MustCompile(`127\.0\.0\.1:1002[45] inet|(?m)^smtp inet`).ReplaceAllStringFunc(shipped(t, name), func(string) string { return postfix.FreeAddr(t) + " inet" })}
			} else {
				o.Main = parameters(shipped(t, name))
			}
			mta := postfix.Start(t, o)
			for _, flag := range []string{"-n", "-P", "-M"} {
				cmd := exec.Command("postconf", "-c", mta.Dir+"/etc", flag)
				var said strings.Builder
				cmd.Stderr = &said
				if err := cmd.Run(); err != nil || said.Len() > 0 {
					t.Errorf("postconf %s: %v %s", flag, err, &said)
				}
			}
			if host, _, _ := net.SplitHostPort(mta.Addr); host != "127.0.0.1" {
				t.Error(mta.Addr)
			}
		})
	}
	// Every file is told of in the page.
	text, _ := os.ReadFile("../../docs/postfix.md")
	for _, file := range files {
		if !strings.Contains(string(text), "configs/postfix/"+filepath.Base(file)) {
			t.Errorf("docs/postfix.md does not name %s", filepath.Base(file))
		}
	}
}
