package deploy

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/moongate"
	"github.com/moongate/moongate/test/postfix"
	"github.com/moongate/moongate/test/upstream"
)

const beforeQueuePiece = "before-queue.master.cf"

// beforeQueue starts the shipped before-queue deployment. The addresses are those of the Postfix in
// front, of moongate's door and of the Postfix behind it.
type beforeQueue struct {
	mta                 *postfix.Postfix
	p                   *moongate.Process
	front, door, behind string
}

// filterSetup is what a test changes of it.
type filterSetup struct {
	main     map[string]string // main.cf
	front    string            // -o lines of the service in front
	upstream string            // takes the place of the Postfix behind
	listener string            // keys of [[listener]]
	top      string            // keys at the top
	script   string
}

func startBeforeQueue(t *testing.T, s filterSetup) *beforeQueue {
	t.Helper()
	b := &beforeQueue{front: postfix.FreeAddr(t), door: postfix.FreeAddr(t), behind: postfix.FreeAddr(t)}
	master := swap(t, shipped(t, beforeQueuePiece), "\nsmtp inet", "\n"+b.front+" inet", "127.0.0.1:10024", b.door, "127.0.0.1:10025", b.behind)
	if s.front != "" {
		const option = "\n  -o smtpd_client_connection_count_limit=10\n"
		master = swap(t, master, option, option+s.front+"\n")
	}
	b.mta = postfix.Start(t, postfix.Options{Master: []string{master}, Main: s.main})
	up := b.behind
	if s.upstream != "" {
		up = s.upstream
	}
	config := swap(t, page(t, "As a before-queue filter", "toml")[0], "127.0.0.1:10024", b.door, "127.0.0.1:10025", up,
		"xforward = ", s.listener+"\nxforward = ")
	o := moongate.Options{Config: s.top + "\n" + config}
	if s.script != "" {
		o.Files = map[string]string{"scripts/10-test.lua": s.script}
	}
	b.p = moongate.Start(t, o)
	return b
}

// TestBeforeQueueRulesSeeTheClient: each stage sees the client of the Postfix in front, and its refusal
// reaches that client word for word.
func TestBeforeQueueRulesSeeTheClient(t *testing.T) {
	if outside(t) {
		return
	}
	b := startBeforeQueue(t, filterSetup{script: `
on.connect("where", function(conn)
  if conn.ip == "192.0.2.77" then return reject(554, "5.7.1", "connect knows " .. conn.ip) end
end)
on.helo("who", function(conn)
  if conn.helo == "evil.example" then return reject(550, "5.7.1", "helo knows " .. conn.helo .. " at " .. conn.ip) end
end)
on.mail("from", function(msg)
  if msg.from_domain == "spam.example" then return tempfail(450, "4.7.1", "mail knows " .. msg.from) end
end)
on.rcpt("to", function(msg, rcpt)
  if rcpt.user == "refused" then return reject(550, "5.1.1", "rcpt knows " .. rcpt.user) end
end)
on.message("what", function(msg)
  if msg.subject == "refuse me" then return reject(550, "5.7.1", "message knows " .. msg.subject .. " of " .. msg.conn.ip .. " " .. msg.conn.helo) end
end)
`})
	for _, tc := range []struct{ from, helo, mail, rcpt, subject, want string }{
		{another, "c.example", "a@example.com", "b@example.org", "s", `554 5\.7\.1 connect knows 192\.0\.2\.77`},
		{stranger, "evil.example", "a@example.com", "b@example.org", "s", `550 5\.7\.1 helo knows evil\.example at 192\.0\.2\.1`},
		{stranger, "c.example", "a@spam.example", "b@example.org", "s", `450 4\.7\.1 mail knows a@spam\.example`},
		{stranger, "c.example", "a@example.com", "refused@example.org", "s", `550 5\.1\.1 rcpt knows refused`},
		{stranger, "c.example", "a@example.com", "b@example.org", "refuse me", `550 5\.7\.1 message knows refuse me of 192\.0\.2\.1 c\.example`},
		{stranger, "honest.example", "a@example.com", "b@example.org", "s", `250 2\.0\.0 Ok: queued as [0-9A-Za-z]+$`},
	} {
		c := client.Dial(t, b.front, tc.from).Greet(tc.helo)
		want := tc.want
		if want[0] != '2' {
			want += ` \(id [0-9A-Z]+(\.\d+)?\)$`
		}
		if r := c.Send(tc.mail, tc.rcpt, letter(tc.subject)); !regexp.MustCompile("^" + want).MatchString(r) {
			t.Errorf("%s, %s, %s, %s, %s: %q, want %s", tc.from, tc.helo, tc.mail, tc.rcpt, tc.subject, r, want)
		}
		c.Must("221", "QUIT")
	}
	// Postfix asks anew for each recipient while MAIL is refused, and each hears why.
	r := client.Dial(t, b.front, another).Greet("c.example")
	r.Must("250", "MAIL FROM:<a@example.com>")
	for range 2 {
		r.Must("554 5.7.1 connect knows 192.0.2.77", "RCPT TO:<b@example.org>")
	}
	r.Must("221", "QUIT")
	// One recipient of two, and the next message of the session.
	c := client.Dial(t, b.front, stranger).Greet("both.example")
	c.Must("250", "MAIL FROM:<a@example.com>")
	c.Must("250", "RCPT TO:<b@example.org>")
	c.Must("550 5.1.1 rcpt knows refused", "RCPT TO:<refused@example.org>")
	c.Must("354", "DATA")
	c.Must("250 2.0.0 Ok: queued as ", letter("both")+".")
	if r := c.Send("a@example.com", "c@example.org", letter("next")); !strings.HasPrefix(r, "250") {
		t.Errorf("the next message: %q", r)
	}
	c.Must("221", "QUIT")
	if got := len(b.mta.Messages(3)); got != 3 {
		t.Errorf("%d messages", got)
	}
	for _, helo := range []string{"honest.example", "both.example"} {
		l := b.p.WaitLog("message", func(l moongate.Line) bool { return l["verdict"] == "accepted" && l["helo"] == helo })
		if l["client"] != "unknown[192.0.2.1]" {
			t.Errorf("the log: %v", l)
		}
		// Postfix's log has the client, and the id under which moongate's has the message.
		id, _ := l["id"].(string)
		b.mta.WaitLog(`behind-moongate/smtpd\[\d+\]: [0-9A-Za-z]+: .*orig_queue_id=` + regexp.QuoteMeta(id) + `, orig_client=unknown\[192\.0\.2\.1\]`)
	}
}

// TestBeforeQueueNoRelay: strangers send nothing outside, even if the Postfix in front is an open relay
// or is gone round; clients that Postfix lets relay can.
func TestBeforeQueueNoRelay(t *testing.T) {
	if outside(t) {
		return
	}
	main := map[string]string{"smtputf8_enable": "yes", "mynetworks": "127.0.0.0/8 203.0.113.0/24"}
	for name, front := range map[string]string{
		"as shipped": "",
		"open front": "  -o mynetworks=0.0.0.0/0\n  -o allow_untrusted_routing=yes",
	} {
		t.Run(name, func(t *testing.T) {
			b := startBeforeQueue(t, filterSetup{main: main, front: front, top: `networks = ["203.0.113.0/24"]`})
			for _, addr := range []string{b.front, b.door} {
				replies := offer(t, addr, stranger)
				if refused := count(replies, "5") + count(replies, "454 4.7.1"); refused < 30 {
					t.Errorf("only %d of %d forms were refused:\n%q", refused, len(forms), replies)
				}
			}
			offer(t, b.door, "") // a neighbour on the machine that names nobody
			b.mta.Settle()
			for _, m := range b.mta.Outside.Messages() {
				t.Errorf("from %s went outside, to %s", m.From, m.Rcpts)
			}
			// What a stranger says of himself is not believed, neither here nor there.
			for _, addr := range []string{b.front, b.door} {
				for _, line := range []string{"XFORWARD ADDR=127.0.0.1 SOURCE=LOCAL", "XCLIENT ADDR=127.0.0.1"} {
					c := client.Dial(t, addr, stranger).Greet("liar.example")
					if r := c.Say(line); r == "" || r[0] != '5' {
						t.Errorf("%s: %q", line, r)
					}
					c.Close()
				}
			}
			// The listener behind takes nobody but moongate.
			c := client.Dial(t, b.behind, stranger).Greet("round.example")
			c.Must("250", "MAIL FROM:<a@example.com>")
			if r := c.Say("RCPT TO:<b@example.org>"); !strings.HasPrefix(r, "554 5.7.1") {
				t.Errorf("past moongate: %q", r)
			}
			c.Close()
			for n, from := range []string{"", neighbour} {
				c := client.Dial(t, b.front, from).Greet("local.example")
				if r := c.Send("b@example.org", "friend@ext.example", letter("out")); !strings.HasPrefix(r, "250") {
					t.Errorf("out from %q: %q", from, r)
				}
				c.Must("221", "QUIT")
				b.mta.Settle()
				if got := len(b.mta.Outside.Messages()); got != n+1 {
					t.Errorf("%d messages went outside, want %d", got, n+1)
				}
			}
		})
	}
}

// TestBeforeQueueParameters: what clients say beyond the address is passed where the Postfix behind
// has it, and left out or refused where not.
func TestBeforeQueueParameters(t *testing.T) {
	if outside(t) {
		return
	}
	all := []string{
		"SIZE=300", "BODY=7BIT", "BODY=8BITMIME", "RET=HDRS ENVID=x+2By", "SIZE=300 BODY=8BITMIME RET=FULL SMTPUTF8",
	}
	t.Run("the upstream has them", func(t *testing.T) {
		b := startBeforeQueue(t, filterSetup{main: map[string]string{"smtputf8_enable": "yes"}})
		c := client.Dial(t, b.front, stranger).Greet("client.example.com")
		for n, params := range all {
			c.Must("250", "MAIL FROM:<a@example.com> "+params)
			c.Must("250", "RCPT TO:<b@example.org> NOTIFY=FAILURE,DELAY ORCPT=rfc822;b@example.org")
			c.Must("354", "DATA")
			c.Must("250", letter(fmt.Sprint("m", n))+".")
			m := b.mta.Messages(n + 1)[n]
			for p := range strings.FieldsSeq(params) {
				if key, _, _ := strings.Cut(p, "="); key == "RET" || key == "ENVID" || p == "BODY=8BITMIME" && !strings.Contains(params, "UTF8") {
					if !strings.Contains(m.From, p) {
						t.Errorf("%s: delivered from %s", params, m.From)
					}
				}
			}
			if !strings.Contains(m.Rcpts[0], "NOTIFY=DELAY,FAILURE") && !strings.Contains(m.Rcpts[0], "NOTIFY=FAILURE,DELAY") {
				t.Errorf("%s: delivered to %s", params, m.Rcpts)
			}
		}
		c.Must("221", "QUIT")
	})
	t.Run("the upstream has none", func(t *testing.T) {
		up := upstream.Start(t, "EHLO 250-up|250 XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE\nXFORWARD 250 2.0.0 Ok")
		b := startBeforeQueue(t, filterSetup{main: map[string]string{"smtputf8_enable": "yes"}, upstream: up.Addr})
		for _, params := range all {
			c := client.Dial(t, b.front, stranger).Greet("client.example.com")
			c.Must("250", "MAIL FROM:<a@example.com> "+params)
			want := "555 5.5.4"
			if params == "SIZE=300" || params == "BODY=7BIT" {
				want = "250"
			}
			if r := c.Say("RCPT TO:<b@example.org>"); !strings.HasPrefix(r, want) {
				t.Errorf("%s: %q, want %s", params, r, want)
			}
			c.Close()
		}
		conns, _ := up.Conns()
		for n := 1; n <= conns; n++ {
			for line := range strings.Lines(string(up.Bytes(n))) {
				if strings.HasPrefix(line, "MAIL") && line != "MAIL FROM:<a@example.com>\r\n" {
					t.Errorf("it was told %q", line)
				}
			}
		}
	})
}

// TestBeforeQueueBytes: the message arrives as it was sent, below the trace of the way.
func TestBeforeQueueBytes(t *testing.T) {
	if outside(t) {
		return
	}
	for way, script := range ways {
		t.Run(way, func(t *testing.T) {
			b := startBeforeQueue(t, filterSetup{script: script})
			c := client.Dial(t, b.front, stranger).Greet("client.example.com")
			for n, message := range []string{bare, letter("plain"), "From: joe\r\n\r\n.\r\n..\r\n" + strings.Repeat("0123456789", 500) + "\r\n",
				"From: joe\r\n\r\n" + strings.Repeat("The quick brown fox jumps over the lazy dog.\r\n", 20000)} {
				c.Must("250", "MAIL FROM:<joe@example.com> BODY=8BITMIME SIZE="+fmt.Sprint(len(message)))
				c.Must("250", "RCPT TO:<b@example.org>")
				c.Must("354", "DATA")
				c.Must("250", client.Stuff(message)+".")
				top, rest := split(b.mta.Messages(n + 1)[n].Raw)
				if rest != message {
					t.Errorf("%d was changed:\n%.2000q\nbecame\n%.2000q", n, message, rest)
				}
				if !strings.Contains(top, "from client.example.com (unknown [192.0.2.1])") {
					t.Errorf("no Received line names the client: %q", top)
				}
			}
			c.Must("221", "QUIT")
		})
	}
}

// TestBeforeQueueSlowUpstream: an upstream that does not answer the dot costs the client a 4xx of
// moongate's within the budget, before Postfix gives up.
func TestBeforeQueueSlowUpstream(t *testing.T) {
	t.Parallel()
	if outside(t) {
		return
	}
	up := upstream.Start(t, "EHLO 250-up|250 XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE\nXFORWARD 250 2.0.0 Ok\n. !hang")
	b := startBeforeQueue(t, filterSetup{upstream: up.Addr, listener: `budget = "5s"`})
	c := client.Dial(t, b.front, stranger).Greet("client.example.com")
	c.Must("250", "MAIL FROM:<a@example.com>")
	c.Must("250", "RCPT TO:<b@example.org>")
	c.Must("354", "DATA")
	begin := time.Now()
	r := c.Say(letter("slow") + ".")
	if took := time.Since(begin); !strings.HasPrefix(r, "451 4.4.2") || took > 40*time.Second {
		t.Errorf("after %v: %q", took, r)
	}
	c.Must("221", "QUIT")
	b.p.WaitLog("message", func(l moongate.Line) bool { return l["verdict"] == "tempfailed" && l["ambiguous"] == true })
}

// TestBeforeQueueGaveUp: a Postfix that has stopped waiting tells its client to come again; nothing is
// sent to the upstream's dot then, so the message is not there twice.
func TestBeforeQueueGaveUp(t *testing.T) {
	t.Parallel()
	if outside(t) {
		return
	}
	up := upstream.Start(t, "EHLO 250-up|250 XFORWARD NAME ADDR PORT PROTO HELO IDENT SOURCE\nXFORWARD 250 2.0.0 Ok")
	b := startBeforeQueue(t, filterSetup{upstream: up.Addr, front: "  -o smtpd_proxy_timeout=5s",
		script: `on.message("slow", function(msg) return delay(9) end)`})
	c := client.Dial(t, b.front, stranger).Greet("client.example.com")
	if r := c.Send("a@example.com", "b@example.org", letter("late")); !strings.HasPrefix(r, "451 4.3.0") {
		t.Errorf("Postfix says %q", r)
	}
	c.Must("221", "QUIT")
	b.p.WaitLog("message", func(l moongate.Line) bool { return l["verdict"] == "aborted" && l["by"] == "client" })
	conns, _ := up.Conns()
	for n := 1; n <= conns; n++ {
		if said := string(up.Bytes(n)); strings.Contains(said, "\r\n.\r\n") {
			t.Errorf("the upstream was told:\n%s", said)
		}
	}
}
