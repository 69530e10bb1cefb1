package script

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	glua "github.com/yuin/gopher-lua"
)

// Postfix table sources: texthash (postmap(5), "key value"), cidr
// (cidr_table(5)) and pcre or regexp (pcre_table(5), with RE2 for the
// expressions: linear time, and no look-around).

// table is the content of a map.
type table interface {
	entries
	get(key string) (string, bool)
}

var tableKinds = map[string]listKind{"texthash": textTable, "hash": textTable, "cidr": cidrTable, "pcre": pcreTable, "regexp": pcreTable}

// tableLines joins continuation lines and drops comments, postmap(5).
func tableLines(data []byte) (lines []tableLine) {
	n := 0
	for raw := range strings.Lines(string(data)) {
		n++
		text := strings.TrimRight(raw, " \t\r\n")
		switch {
		case strings.TrimLeft(text, " \t") == "", strings.HasPrefix(strings.TrimLeft(text, " \t"), "#"):
		case (text[0] == ' ' || text[0] == '\t') && len(lines) > 0:
			lines[len(lines)-1].text += " " + strings.TrimLeft(text, " \t")
		default:
			lines = append(lines, tableLine{n, text})
		}
	}
	return lines
}

type tableLine struct {
	n    int
	text string
}

// cut takes the first word off.
func cut(s string) (word, rest string) {
	i := strings.IndexAny(s, " \t")
	if i < 0 {
		return s, ""
	}
	return s[:i], strings.TrimLeft(s[i:], " \t")
}

func parseTable(kind listKind, data []byte) (entries, error) {
	lines := tableLines(data)
	switch kind {
	case cidrTable:
		return parseCIDR(lines)
	case pcreTable:
		return parsePCRE(lines)
	}
	t := make(textEntries, len(lines))
	for _, l := range lines {
		key, value := cut(l.text)
		if value == "" {
			return nil, fmt.Errorf("line %d: %q has no value", l.n, clip(key, 80))
		}
		t[foldKey(key)] = value
	}
	return t, nil
}

type textEntries map[string]string

func (t textEntries) len() int { return len(t) }

func (t textEntries) has(key string) bool {
	_, ok := t[foldKey(key)]
	return ok
}

func (t textEntries) get(key string) (string, bool) {
	v, ok := t[foldKey(key)]
	return v, ok
}

// row is one line of a cidr or pcre table.
type row[T any] struct {
	test  T
	not   bool
	isIf  bool
	skip  int // isIf: where to go on if the test fails, behind its endif
	value string
}

var errNoEndif = errors.New("an if without endif")

type cidrEntries []row[netip.Prefix]

func parseCIDR(lines []tableLine) (entries, error) {
	var t cidrEntries
	var open []int
	for _, l := range lines {
		word, rest := cut(l.text)
		r := row[netip.Prefix]{value: rest}
		switch strings.ToLower(word) {
		case "endif":
			if len(open) == 0 {
				return nil, fmt.Errorf("line %d: endif without if", l.n)
			}
			t[open[len(open)-1]].skip = len(t)
			open = open[:len(open)-1]
			continue
		case "if":
			r.isIf = true
			word, r.value = cut(rest)
			open = append(open, len(t))
		}
		word, r.not = strings.CutPrefix(word, "!")
		p, err := parseNetwork(word)
		if err != nil {
			return nil, fmt.Errorf("line %d: %q is no address or network", l.n, clip(word, 80))
		}
		if !r.isIf && r.value == "" {
			return nil, fmt.Errorf("line %d: %s has no value", l.n, p)
		}
		r.test = p
		t = append(t, r)
	}
	if len(open) > 0 {
		return nil, errNoEndif
	}
	return t, nil
}

func (t cidrEntries) len() int            { return len(t) }
func (t cidrEntries) has(key string) bool { _, ok := t.get(key); return ok }

func (t cidrEntries) get(key string) (string, bool) {
	a, err := netip.ParseAddr(key)
	if err != nil {
		return "", false
	}
	a = a.Unmap().WithZone("")
	for i := 0; i < len(t); i++ {
		r := &t[i]
		switch matches := r.test.Contains(a) != r.not; {
		case r.isIf && !matches:
			i = r.skip - 1
		case !r.isIf && matches:
			return r.value, true
		}
	}
	return "", false
}

type pcreEntries []row[*regexp.Regexp]

func parsePCRE(lines []tableLine) (entries, error) {
	var t pcreEntries
	var open []int
	for _, l := range lines {
		text := l.text
		r := row[*regexp.Regexp]{}
		if word, rest := cut(text); strings.EqualFold(word, "endif") {
			if len(open) == 0 {
				return nil, fmt.Errorf("line %d: endif without if", l.n)
			}
			t[open[len(open)-1]].skip = len(t)
			open = open[:len(open)-1]
			continue
		} else if strings.EqualFold(word, "if") {
			r.isIf, text = true, rest
			open = append(open, len(t))
		}
		text, r.not = strings.CutPrefix(text, "!")
		re, value, err := parsePattern(text)
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", l.n, err)
		}
		if !r.isIf && value == "" {
			return nil, fmt.Errorf("line %d: the pattern has no value", l.n)
		}
		if r.not && strings.Contains(value, "$") {
			return nil, fmt.Errorf("line %d: a pattern behind ! matches nothing that $ could stand for", l.n)
		}
		r.test, r.value = re, value
		t = append(t, r)
	}
	if len(open) > 0 {
		return nil, errNoEndif
	}
	return t, nil
}

// parsePattern reads /pattern/flags and what follows. Case does not matter
// unless the flag i says so (pcre_table(5)).
func parsePattern(s string) (*regexp.Regexp, string, error) {
	if s == "" || isWord(s[0]) || s[0] == ' ' {
		return nil, "", fmt.Errorf("%q is no /pattern/", clip(s, 80))
	}
	end := -1
	for i := 1; i < len(s); i++ {
		if s[i] == '\\' {
			i++
		} else if s[i] == s[0] {
			end = i
			break
		}
	}
	if end < 0 {
		return nil, "", fmt.Errorf("%q has no end", clip(s, 80))
	}
	flags, value := cut(s[end+1:])
	on := map[rune]bool{'i': true, 's': true} // Postfix's defaults
	for _, f := range flags {
		switch f {
		case 'i', 's', 'm', 'U':
			on[f] = !on[f]
		case 'x', 'A', 'E', 'X':
			return nil, "", fmt.Errorf("flag %c is not supported", f)
		default:
			return nil, "", fmt.Errorf("unknown flag %c", f)
		}
	}
	mode := ""
	for _, f := range "ismU" {
		if on[f] {
			mode += string(f)
		}
	}
	pattern := s[1:end]
	if mode != "" {
		pattern = "(?" + mode + ")" + pattern
	}
	re, err := regexp.Compile(pattern)
	return re, value, err
}

func isWord(c byte) bool { return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' }

func (t pcreEntries) len() int            { return len(t) }
func (t pcreEntries) has(key string) bool { _, ok := t.get(key); return ok }

func (t pcreEntries) get(key string) (string, bool) {
	for i := 0; i < len(t); i++ {
		r := &t[i]
		m := r.test.FindStringSubmatchIndex(key)
		switch matches := (m != nil) != r.not; {
		case r.isIf && !matches:
			i = r.skip - 1
		case r.isIf || !matches:
		case r.not || !strings.Contains(r.value, "$"):
			return r.value, true
		default:
			return expand(r.value, key, m), true
		}
	}
	return "", false
}

var groupRef = regexp.MustCompile(`\$(?:\$|(\d+)|\((\d+)\)|\{(\d+)\})`)

// expand puts groups in the place of $1, ${1} and $(1); $$ is a dollar sign.
func expand(value, key string, m []int) string {
	return groupRef.ReplaceAllStringFunc(value, func(ref string) string {
		if ref == "$$" {
			return "$"
		}
		n := 0
		for _, c := range ref {
			if c >= '0' && c <= '9' && n < 1000 {
				n = n*10 + int(c-'0')
			}
		}
		if 2*n+1 >= len(m) || m[2*n] < 0 {
			return ""
		}
		return key[m[2*n]:m[2*n+1]]
	})
}

var mapFunction = &function{name: "map", top: true,
	params:  []param{{"source", "string", `"texthash:FILE", "cidr:FILE" or "pcre:FILE": a Postfix table source in the policy directory.`}},
	returns: []param{{"", "Map", ""}},
	doc:     "Looks keys up as Postfix would. The file reloads by itself. Expressions are RE2: no look-around.",
	do: func(x *state, L *glua.LState) int {
		source := checkString(L, 1, "map")
		typ, file, ok := strings.Cut(source, ":")
		kind, known := tableKinds[typ]
		if !ok || !known {
			L.RaiseError(`map: a source is "texthash:FILE", "cidr:FILE" or "pcre:FILE", not %q`, clip(source, 80))
		}
		d := x.declare(L, "map", source, "", func() (any, error) { return x.p.shared.lists.open(file, kind) })
		L.Push(mapClass.userdata(&listRef{x, d.(*list)}))
		return 1
	}}

var mapClass = (&class{name: "map", typ: "Map", doc: "A table of keys and values, by map().",
	members: []*member{
		{name: "get", params: []param{{"key", "string?", "nil is in no table."}}, returns: []param{{"value", "string?", "nil if the key is not there."}},
			doc: "The value of a key; in pcre and cidr tables of the first entry that matches.",
			do: func(x *state, L *glua.LState, self any) int {
				if L.Get(2) == glua.LNil {
					L.Push(glua.LNil)
					return 1
				}
				key := checkString(L, 2, "get")
				t := (*self.(*listRef).now.Load()).(table)
				if len(key) > 64<<10 {
					L.RaiseError("get: a key has at most 64 KiB")
				}
				cost := int64(20)
				if _, ok := t.(textEntries); !ok {
					cost += int64(t.len()) * int64(10+len(key)/4)
				}
				x.Meter.Charge(cost)
				v, ok := t.get(key)
				if !ok {
					L.Push(glua.LNil)
					return 1
				}
				L.Push(x.text(L, v))
				return 1
			}},
	}}).ready()
