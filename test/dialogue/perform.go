package dialogue

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// performance is one run of a dialogue.
type performance struct {
	stage   Stage
	file    *File
	limit   time.Duration
	clients map[string]*client
	now     *client

	told   int   // lines of the upstream that were matched
	logged []int // lines of the log that were matched
	script strings.Builder
}

func (p *performance) end() {
	for _, c := range p.clients {
		c.close()
	}
}

// run performs step by step. Its error shows the conversation so far and what was wrong.
func (p *performance) run() error {
	for _, s := range p.file.steps {
		if err := p.step(s); err != nil {
			return fmt.Errorf("%s:%d: %s\n\t%w\n%s", p.file.Name, s.line, clip(s.src), err, p.script.String())
		}
	}
	return nil
}

// note writes a line of the transcript.
func (p *performance) note(who, text string) {
	fmt.Fprintf(&p.script, "\t\t%s %s\n", who, clip(strconv.Quote(text)))
}

func clip(s string) string {
	if len(s) > 400 {
		return s[:300] + "..." + s[len(s)-90:]
	}
	return s
}

func (p *performance) step(s step) error {
	switch s.op[0] {
	case 'C', 'S':
		c, err := p.client("")
		if err != nil {
			return err
		}
		return p.speak(c, s)
	case 'U', 'N', 'M':
		return p.upstream(s)
	case 'L':
		return p.log(s)
	}
	switch s.op {
	case "!client":
		_, err := p.client(s.arg)
		return err
	case "!upstream":
		return p.stage.Upstream().Control(s.arg)
	case "!policy", "!broken":
		text, ok := p.file.Files[s.arg]
		if !ok {
			return fmt.Errorf("there is no file %s", s.arg)
		}
		return p.stage.Policy(text, s.op == "!broken")
	}
	c, err := p.client("")
	if err != nil {
		return err
	}
	return c.hangup(s.op)
}

// client returns the named client, and "" the present one; it connects if it is new.
func (p *performance) client(name string) (*client, error) {
	if name == "" && p.now != nil {
		return p.now, nil
	}
	if c := p.clients[name]; c != nil {
		p.now = c
		return c, nil
	}
	c, err := connect(p.stage.Addr(), p.limit)
	if err != nil {
		return nil, err
	}
	p.clients[name], p.now = c, c
	return c, nil
}

// speak is what is said and heard.
func (p *performance) speak(c *client, s step) error {
	switch s.op {
	case "C+":
		c.pending = append(c.pending, s.arg+"\r\n"...)
		return nil
	case "C:", "C>":
		text := s.arg
		if s.op == "C:" {
			text += "\r\n"
		}
		text = string(c.pending) + text
		c.pending = nil
		p.note("C", text)
		return c.send(text)
	case "S!":
		line, err := c.line()
		if err == nil {
			p.note("S", line)
			return fmt.Errorf("the server says %q", line)
		}
		return c.ended(err)
	case "S*":
		for {
			line, err := c.line()
			p.note("S", line)
			if err != nil {
				return err
			}
			if !strings.HasPrefix(line, s.arg) {
				return fmt.Errorf("got %q", line)
			}
			if len(line) < 4 || line[3] != '-' {
				return nil
			}
		}
	default: // "S:"
		line, err := c.line()
		p.note("S", line)
		if err != nil {
			return err
		}
		if !match(s.arg, line) {
			return fmt.Errorf("got %q", line)
		}
		return nil
	}
}

// eventually asks until the answer is yes.
func (p *performance) eventually(yes func() bool) bool {
	for deadline := time.Now().Add(p.limit); ; time.Sleep(2 * time.Millisecond) { // between two looks
		if yes() {
			return true
		}
		if time.Now().After(deadline) {
			return false
		}
	}
}

func (p *performance) upstream(s step) error {
	up := p.stage.Upstream()
	switch s.op {
	case "U:":
		ok := p.eventually(func() bool {
			lines := up.Lines()
			for i := p.told; i < len(lines); i++ {
				if match(s.arg, lines[i]) {
					p.told = i + 1
					return true
				}
			}
			return false
		})
		if !ok {
			return fmt.Errorf("the upstream was not told that; all it was told is %q, and %d of these lines were matched before", up.Lines(), p.told)
		}
	case "U!":
		if i := slices.IndexFunc(up.Lines(), func(l string) bool { return match(s.arg, l) }); i >= 0 {
			return fmt.Errorf("the upstream was told that: %q", up.Lines())
		}
	case "N:":
		n, err := strconv.Atoi(strings.TrimSpace(s.arg))
		if err != nil {
			return err
		}
		p.eventually(func() bool { return len(up.Messages()) >= n })
		if err := up.Settle(); err != nil {
			return err
		}
		if got := len(up.Messages()); got != n {
			return fmt.Errorf("the upstream accepted %d messages: %.2000q", got, up.Messages())
		}
	default:
		return lastMessage(s, up.Messages())
	}
	return nil
}

// lastMessage is M: and M=.
func lastMessage(s step, all [][]byte) error {
	if len(all) == 0 {
		return fmt.Errorf("the upstream accepted no message")
	}
	last := all[len(all)-1]
	if s.op == "M=" {
		if string(last) != s.arg {
			return fmt.Errorf("the message is %s", clip(strconv.Quote(string(last))))
		}
		return nil
	}
	for _, l := range bytes.Split(last, []byte("\r\n")) {
		if match(s.arg, string(l)) {
			return nil
		}
	}
	return fmt.Errorf("the message is %s", clip(strconv.Quote(string(last))))
}

// log is L: and L!.
func (p *performance) log(s step) error {
	msg, want, err := fields(s.arg)
	if err != nil {
		return err
	}
	fits := func(l map[string]any) bool {
		if l["msg"] != msg {
			return false
		}
		for _, kv := range want {
			v, ok := l[kv[0]]
			if !ok || !match(kv[1], show(v)) {
				return false
			}
		}
		return true
	}
	if s.op == "L!" {
		for _, l := range p.stage.Log() {
			if fits(l) {
				return fmt.Errorf("the log has %v", l)
			}
		}
		return nil
	}
	ok := p.eventually(func() bool {
		for i, l := range p.stage.Log() {
			if fits(l) && !slices.Contains(p.logged, i) { // each line counts once
				p.logged = append(p.logged, i)
				return true
			}
		}
		return false
	})
	if ok {
		return nil
	}
	var near strings.Builder
	for _, l := range p.stage.Log() {
		if l["msg"] == msg {
			fmt.Fprintf(&near, "\n\t%v", l)
		}
	}
	return fmt.Errorf("the log has no such line; with that message it has:%s", near.String())
}

// show is a field's value as a pattern sees it: a string as it is, a whole number without exponent,
// a list with commas, anything else as Go prints it.
func show(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case []any:
		var parts []string
		for _, e := range v {
			parts = append(parts, show(e))
		}
		return strings.Join(parts, ",")
	}
	return fmt.Sprint(v)
}
