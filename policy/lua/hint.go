package lua

import (
	"fmt"
	"strings"
)

// foreign are signs of other languages, and what Lua writes instead.
var foreign = []struct{ sign, hint string }{
	{"!=", "write '~=' for 'is not equal'"}, {"!", "write 'not'"}, {"&&", "write 'and'"}, {"||", "write 'or'"},
	{"&", "Lua 5.1 has no operators on bits"}, {"|", "Lua 5.1 has no operators on bits"}, {"~", "'not equal' is written '~='"},
	{"//", "a comment begins with '--'"}, {"/*", "a comment begins with '--'"}, {"++", "write x = x + 1"}, {"+=", "write x = x + 1"},
	{"--", ""}, {"-=", "write x = x - 1"}, {"?", "write 'a and b or c'"}, {"`", "text stands in '...' or \"...\""},
	{"\u201c", "a typographic quote: write \""}, {"\u201d", "a typographic quote: write \""}, {"\u201e", "a typographic quote: write \""},
	{"\u2018", "a typographic quote: write '"}, {"\u2019", "a typographic quote: write '"},
	{"\u00a0", "a blank of another kind: write a plain one"}, {"\xff\xfe", "the file is UTF-16: save it as UTF-8"}, {"\xfe\xff", "the file is UTF-16: save it as UTF-8"},
	{"\x1b", "compiled Lua is not taken"}, {"\x00", "the file holds an octet zero"},
}

// hint says what the author of an unexpected word may have meant, in brackets, or "".
func (s *source) hint(line, col int, token string) string {
	text := s.line(line)
	if line == 1 && col == 1 {
		text = s.text // an octet that is no text would be lost
	}
	if col > len(text) {
		return ""
	}
	before, rest := strings.TrimSpace(text[:col-1]), text[col-1:]
	for _, f := range foreign {
		if strings.HasPrefix(rest, f.sign) {
			return bracket(f.hint)
		}
	}
	first, _, _ := strings.Cut(before, " ")
	asks := first == "if" || first == "elseif" || first == "while" || strings.Contains(" "+before, " if ") || strings.Contains(" "+before, " while ")
	switch {
	case token == "=" && asks && !strings.HasSuffix(before, "="):
		return bracket("to compare, write '=='")
	case token == "{" && asks:
		return bracket("write 'then' or 'do', and 'end'")
	case (first == "if" || first == "elseif") && !strings.Contains(before+" ", " then "):
		return bracket("is 'then' missing?")
	}
	if o, ok := s.openAt(line, col); ok {
		closer := token == ")" || token == "]" || token == "}"
		block := len(o.text) > 1
		if closer && block || !block && (o.line < line || isKeyword(token)) {
			return fmt.Sprintf(" ('%s' of line %d is still open)", o.text, o.line)
		}
	}
	return ""
}

func bracket(hint string) string {
	if hint == "" {
		return ""
	}
	return " (" + hint + ")"
}

func isKeyword(s string) bool {
	switch s {
	case "do", "else", "elseif", "end", "for", "if", "in", "local", "repeat", "return", "then", "until", "while":
		return true
	}
	return false
}

// openAt is the innermost bracket or block that is open before a place.
func (s *source) openAt(line, col int) (opener, bool) {
	at := 0
	for range line - 1 {
		at += strings.IndexByte(s.text[at:], '\n') + 1
	}
	before := &source{text: s.text[:min(at+col-1, len(s.text))]}
	before.scan()
	if n := len(before.unclosed); n > 0 {
		return before.unclosed[n-1], true
	}
	return opener{}, false
}
