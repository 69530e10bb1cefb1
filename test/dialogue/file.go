package dialogue

import (
	"fmt"
	"os"
	"regexp"
	"strconv"
	"strings"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/moongate/moongate/test/upstream"
)

// File is a parsed dialogue.
type File struct {
	Name  string
	Files map[string]string // all of the archive but the dialogue itself
	steps []step
}

// step is one line of a conversation.
type step struct {
	line int    // in the archive
	op   string // "C:", "S!", "!close", ...
	arg  string // with its escapes resolved
	src  string // as written
}

// Read parses the dialogue in a file.
func Read(path string) (*File, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f, err := Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%s:%w", path, err)
	}
	f.Name = path
	return f, nil
}

// Parse parses a dialogue; an error begins with the line number.
func Parse(data []byte) (*File, error) {
	f := &File{Files: map[string]string{}}
	found := false
	for _, file := range txtar.Parse(data).Files {
		if file.Name != "dialogue" {
			f.Files[file.Name] = string(file.Data)
			continue
		}
		found = true
		before, _, _ := strings.Cut(string(data), "-- dialogue --")
		first := strings.Count(before, "\n") + 2
		for i, line := range strings.Split(string(file.Data), "\n") {
			s, err := parseStep(line)
			if err != nil {
				return nil, fmt.Errorf("%d: %w", first+i, err)
			}
			if s.op != "" {
				s.line = first + i
				f.steps = append(f.steps, s)
			}
		}
	}
	if !found {
		return nil, fmt.Errorf("1: there is no file named dialogue in the archive")
	}
	return f, nil
}

// ops are the lines there are, each with whether it takes an argument.
var ops = map[string]bool{
	"C:": true, "C>": true, "C+": true, "S:": true, "S*": true, "S!": false,
	"U:": true, "U!": true, "N:": true, "M:": true, "M=": true, "L:": true, "L!": true,
	"!close": false, "!reset": false, "!half-close": false, "!client": true, "!upstream": true,
	"!policy": true, "!broken": true,
}

func parseStep(line string) (step, error) {
	if t := strings.TrimSpace(line); t == "" || t[0] == '#' {
		return step{}, nil
	}
	op, arg, _ := strings.Cut(line, " ")
	takes, known := ops[op]
	if !known {
		return step{}, fmt.Errorf("unknown %q", line)
	}
	if takes != (strings.TrimSpace(arg) != "") && op != "C:" && op != "C+" && op != "M=" { // an empty line may be said
		return step{}, fmt.Errorf("%s: the argument is missing or too much: %q", op, line)
	}
	text, err := unescape(arg)
	return step{op: op, arg: text, src: line}, err
}

var repeat = regexp.MustCompile(`\{(\d+)\*([^{}]+)\}`)

// unescape resolves the escapes of package upstream and {N*text}.
func unescape(s string) (string, error) {
	var err error
	s = repeat.ReplaceAllStringFunc(s, func(m string) string {
		p := repeat.FindStringSubmatch(m)
		n, e := strconv.Atoi(p[1])
		if e != nil || n > 64<<20 {
			err = fmt.Errorf("%s is too much", m)
			return ""
		}
		return strings.Repeat(p[2], n)
	})
	if err != nil {
		return "", err
	}
	return upstream.Unescape(s)
}

// match says whether text is what the pattern says, "..." standing for anything.
func match(pattern, text string) bool {
	parts := strings.Split(pattern, "...")
	if len(parts) == 1 {
		return pattern == text
	}
	if !strings.HasPrefix(text, parts[0]) {
		return false
	}
	text = text[len(parts[0]):]
	last := parts[len(parts)-1]
	for _, p := range parts[1 : len(parts)-1] {
		i := strings.Index(text, p)
		if i < 0 {
			return false
		}
		text = text[i+len(p):]
	}
	return strings.HasSuffix(text, last)
}

// fields splits "message k=v k2=\"a b\"" into the message and its fields. A message of several words is
// quoted.
func fields(s string) (msg string, kv [][2]string, err error) {
	words, err := split(s)
	if err != nil || len(words) == 0 {
		return "", nil, fmt.Errorf("a log line wants a message: %q %v", s, err)
	}
	for _, w := range words[1:] {
		k, v, ok := strings.Cut(w, "=")
		if !ok {
			return "", nil, fmt.Errorf("%q is no key=value", w)
		}
		kv = append(kv, [2]string{k, v})
	}
	return words[0], kv, nil
}

// split splits at blanks outside of double quotes; a quote inside quotes is doubled.
func split(s string) ([]string, error) {
	var words []string
	var b strings.Builder
	quoted, any := false, false
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"' && quoted && i+1 < len(s) && s[i+1] == '"':
			b.WriteByte('"')
			i++
		case c == '"':
			quoted, any = !quoted, true
		case c == ' ' && !quoted:
			if any {
				words = append(words, b.String())
				b.Reset()
				any = false
			}
		default:
			b.WriteByte(c)
			any = true
		}
	}
	if quoted {
		return nil, fmt.Errorf("a quote has no end")
	}
	if any {
		words = append(words, b.String())
	}
	return words, nil
}
