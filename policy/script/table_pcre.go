package script

import (
	"fmt"
	"regexp"
	"strings"
)

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

func (t pcreEntries) len() int { return len(t) }

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
