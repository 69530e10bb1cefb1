package main

import (
	"errors"
	"fmt"
	"net"
	"net/textproto"
	"os"
	"strings"
	"time"
)

// conversation is one of the demo's clients: what it says, and what is to come
// of it: the code of the last reply before QUIT.
type conversation struct {
	title string
	helo  string // default client.example.com
	from  string
	to    []string
	want  string
	// before is done first; nil: nothing.
	before func(*demo) error
}

var conversations = []conversation{
	{title: "An ordinary message", from: "ann@example.com", to: []string{"bob@example.org"}, want: "250"},
	{title: "A sender on the list of the blocked", from: "spammer@example.net", to: []string{"bob@example.org"}, want: "550"},
	{title: "The same sender reaches the postmaster all the same", from: "spammer@example.net", to: []string{"postmaster@example.org"}, want: "250"},
	{title: "A recipient that takes no mail from outside, beside one that does", from: "ann@example.com",
		to: []string{"all-staff@example.org", "bob@example.org"}, want: "250"},
	{title: "A client that greets with a bare address", helo: "192.0.2.1", from: "ann@example.com", to: []string{"bob@example.org"}, want: "550"},
	{title: "A flood: 62 recipients at once, where a sender may have 60", from: "news@example.com", to: readers(62), want: "450"},
	{title: "The policy is edited while it serves: ann is blocked", from: "ann@example.com", to: []string{"bob@example.org"}, want: "550",
		before: (*demo).block},
}

func readers(n int) (all []string) {
	for i := range n {
		all = append(all, fmt.Sprintf("reader-%d@example.org", i+1))
	}
	return all
}

// end is how a conversation came out: the code of the last reply.
type end struct{ said string }

// converse holds one conversation over TCP and prints it, with what the log
// says of it.
func (d *demo) converse(c conversation) (end, error) {
	conn, err := net.Dial("tcp", d.addr)
	if err != nil {
		return end{}, err
	}
	conn.SetDeadline(time.Now().Add(time.Minute))
	t := &talk{Conn: textproto.NewConn(conn), d: d}
	defer t.Close()
	t.hear("") // the banner
	if c.helo == "" {
		c.helo = "client.example.com"
	}
	t.say("EHLO %s", c.helo)
	t.say("MAIL FROM:<%s>", c.from)
	accepted := 0
	for _, to := range c.to {
		if t.say("RCPT TO:<%s>", to) == 250 {
			accepted++
		}
	}
	// A flooding client that was slowed down gives up; an honest one with one
	// refused recipient sends to the others.
	if accepted > 0 && (t.last.code == 250 || accepted == 1) {
		t.say("DATA")
		t.message(c)
	}
	t.flush()
	result := end{said: fmt.Sprint(t.last.code)}
	t.PrintfLine("QUIT")
	if t.err != nil {
		return end{}, t.err
	}
	return result, d.explain()
}

// explain prints what the log says of the conversation that has just ended.
func (d *demo) explain() error {
	entries, err := d.witness.session()
	if err != nil {
		return err
	}
	told := map[string]bool{}
	for _, e := range entries {
		rule, _ := e["rule"].(string)
		switch e["msg"] {
		case "refuse":
			if !told[rule] {
				fmt.Fprintf(d.out, "   refused by %s\n", rule)
			}
			told[rule] = true
		case "message":
			name, _ := e["queued_as"].(string)
			if e["verdict"] != "accepted" || name == "" {
				fmt.Fprintln(d.out, "   nothing was sent")
				continue
			}
			path := d.maildir.Path(name)
			if _, err := os.Stat(path); err != nil {
				return fmt.Errorf("the upstream said that it has the message, and it has not: %w", err)
			}
			fmt.Fprintf(d.out, "   accepted by the upstream; it lies in %s\n", path)
		}
	}
	return nil
}

// block puts a sender on the policy's list, as an operator would, and waits
// until the running moongate has seen it.
func (d *demo) block() error {
	list := d.at("policy/blocked-senders.txt")
	f, err := os.OpenFile(list, os.O_APPEND|os.O_WRONLY, 0) // as echo does: never half a list
	if err != nil {
		return err
	}
	_, err = f.WriteString("\nann@example.com\n")
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	fmt.Fprintf(d.out, "     echo ann@example.com >> %s\n", list)
	return d.witness.await("list loaded")
}

// talk is a client that prints what is said. Lines of a kind that are answered
// alike are printed once.
type talk struct {
	*textproto.Conn
	d     *demo
	err   error
	last  exchange
	again int // exchanges like the last one, not printed
}

type exchange struct {
	said string
	code int
	text string
}

// say sends a command and returns the code of the reply; 0 after an error.
func (t *talk) say(format string, args ...any) int {
	line := fmt.Sprintf(format, args...)
	if t.err == nil {
		t.err = t.PrintfLine("%s", line)
	}
	return t.hear(line)
}

func (t *talk) hear(said string) int {
	if t.err != nil {
		return 0
	}
	code, text, err := t.ReadResponse(0)
	if err != nil {
		t.err = err
		return 0
	}
	if said == "" || strings.HasPrefix(said, "EHLO") || said == "DATA" { // known to everyone
		return code
	}
	x := exchange{said, code, text}
	if verb(x.said) == verb(t.last.said) && x.code == t.last.code {
		t.again++
		t.last = x
		return code
	}
	t.flush()
	t.last = x
	t.print(x)
	return code
}

// flush prints the last of the exchanges that were held back.
func (t *talk) flush() {
	switch t.again {
	case 0:
		return
	case 1:
	default:
		fmt.Fprintf(t.d.out, "     ... %d more with the same answer, then\n", t.again-1)
	}
	t.again = 0
	t.print(t.last)
}

func (t *talk) print(x exchange) {
	fmt.Fprintf(t.d.out, "     %-38s %d %s\n", x.said, x.code, strings.ReplaceAll(x.text, "\n", " / "))
}

func verb(line string) string {
	word, _, _ := strings.Cut(line, " ")
	return word
}

// message sends a message and its dot.
func (t *talk) message(c conversation) {
	if t.err != nil {
		return
	}
	w := t.DotWriter()
	fmt.Fprintf(w, "From: %s\nTo: %s\nSubject: %s\nDate: %s\nMessage-ID: <%d@client.example.com>\n\nHello.\n.A line that begins with a dot.\n",
		c.from, strings.Join(c.to, ", "), c.title, time.Now().Format(time.RFC1123Z), time.Now().UnixNano())
	t.err = w.Close()
	t.hear("(the message) .")
}
