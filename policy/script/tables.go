package script

import (
	"errors"
	"fmt"
	"strings"
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
