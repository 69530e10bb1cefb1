package upstream

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// rule is one line of a script.
type rule struct {
	line  int    // in the script, for error messages
	event string // a verb in upper case, or connect . body input idle proxy
	n     int    // octets, of body and input
	idle  time.Duration
	match *regexp.Regexp // of the whole command line; nil fits all
	nth   int            // only the nth time that the rest fits; 0: always
	conn  int            // only on this connection; 0: on all
	reply string
	raw   bool
	then  string // "", close, reset, hang, stop

	fitted int // how often event, match and conn have fitted; guarded by Server.mu
}

// parse reads a script.
func parse(script string) ([]*rule, error) {
	var rules []*rule
	for i, line := range strings.Split(script, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		r, err := parseRule(line)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", i+1, err)
		}
		r.line = i + 1
		rules = append(rules, r)
	}
	return rules, nil
}

var verb = regexp.MustCompile(`^[A-Z]+$`)

func parseRule(line string) (*rule, error) {
	r := &rule{}
	r.event, line = word(line)
	var err error
	switch r.event {
	case "connect", ".", "proxy":
	case "body", "input":
		var n string
		n, line = word(line)
		if r.n, err = strconv.Atoi(n); err != nil || r.n < 0 {
			return nil, fmt.Errorf("%s wants a number of octets, not %q", r.event, n)
		}
	case "idle":
		var d string
		d, line = word(line)
		if r.idle, err = time.ParseDuration(d); err != nil || r.idle <= 0 {
			return nil, fmt.Errorf("idle wants a duration, not %q", d)
		}
	default:
		if !verb.MatchString(r.event) {
			return nil, fmt.Errorf("unknown event %q", r.event)
		}
	}
	if line, err = r.conditions(line); err != nil {
		return nil, err
	}
	return r, r.answer(line)
}

// conditions takes the regexp, occurrence and connection from the front of line.
func (r *rule) conditions(line string) (string, error) {
	for line != "" {
		var err error
		switch line[0] {
		case '/':
			end := strings.Index(line[1:], "/")
			if end < 0 {
				return "", fmt.Errorf("the regexp has no end: %s", line)
			}
			if r.match, err = regexp.Compile("(?i)" + line[1:end+1]); err != nil {
				return "", err
			}
			line = strings.TrimSpace(line[end+2:])
		case '#', '@':
			var w string
			mark := line[0]
			w, line = word(line[1:])
			n, err := strconv.Atoi(w)
			if err != nil || n < 1 {
				return "", fmt.Errorf("%c wants a number from 1, not %q", mark, w)
			}
			if mark == '#' {
				r.nth = n
			} else {
				r.conn = n
			}
		default:
			return line, nil
		}
	}
	return "", nil
}

// answer parses the reply and what follows it.
func (r *rule) answer(text string) error {
	if i := strings.LastIndex(text, "!"); i == 0 || i > 0 && text[i-1] == ' ' {
		switch then := text[i+1:]; then {
		case "close", "reset", "hang", "stop":
			r.then, text = then, strings.TrimSpace(text[:i])
		default:
			return fmt.Errorf("unknown action !%s", then)
		}
	}
	if raw, ok := strings.CutPrefix(text, "raw:"); ok {
		r.raw, text = true, raw
	}
	var err error
	r.reply, err = Unescape(text)
	return err
}

// word splits off the first word.
func word(s string) (first, rest string) {
	first, rest, _ = strings.Cut(strings.TrimSpace(s), " ")
	return first, strings.TrimSpace(rest)
}

// Unescape resolves \r \n \t \0 \\ and \xNN; another backslash is an error.
func Unescape(s string) (string, error) {
	if !strings.Contains(s, `\`) {
		return s, nil
	}
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		i++
		if i == len(s) {
			return "", fmt.Errorf("%q ends in a backslash", s)
		}
		switch s[i] {
		case 'r':
			b.WriteByte('\r')
		case 'n':
			b.WriteByte('\n')
		case 't':
			b.WriteByte('\t')
		case '0':
			b.WriteByte(0)
		case '\\':
			b.WriteByte('\\')
		case 'x':
			if i+2 >= len(s) {
				return "", fmt.Errorf("%q: \\x wants two digits", s)
			}
			n, err := strconv.ParseUint(s[i+1:i+3], 16, 8)
			if err != nil {
				return "", fmt.Errorf("%q: \\x wants two digits", s)
			}
			b.WriteByte(byte(n))
			i += 2
		default:
			return "", fmt.Errorf("%q: unknown escape \\%c", s, s[i])
		}
	}
	return b.String(), nil
}

// wire turns a reply into the octets to send.
func (r *rule) wire(expand *strings.Replacer) string {
	text := expand.Replace(r.reply)
	if r.raw || text == "" {
		return text
	}
	return strings.ReplaceAll(text, "|", "\r\n") + "\r\n"
}
