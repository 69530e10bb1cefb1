package lua

import (
	"fmt"
	"slices"
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
	case token == "elif" || token == "elsif" || before == "elif" || before == "elsif":
		return bracket("write 'elseif'")
	case before == "" && s.opensNothing(line-1):
		return s.missing(line - 1)
	}
	if meant := closest(before, append([]string{"break", "function"}, keywords...)); meant != "" {
		return bracket("is '" + before + "' to be '" + meant + "'?")
	}
	if o, ok := s.openAt(line, col); ok {
		closer := token == ")" || token == "]" || token == "}"
		block := len(o.text) > 1
		value := token == "function" || !isKeyword(token) && (isAlpha(rest[0]) || isDigit(rest[0]) || strings.IndexByte("_\"'", rest[0]) >= 0)
		if !block && value && o.line == line && valueEnds(before) {
			if quoted := strings.IndexByte("\"'", before[len(before)-1]) >= 0; token != "function" && quoted != (strings.IndexByte("\"'", rest[0]) >= 0) {
				return bracket("is ',' or '..' missing before it?")
			}
			return bracket("is ',' missing before it?")
		}
		if closer && block || !block && (o.line < line || isKeyword(token)) {
			return fmt.Sprintf(" ('%s' of line %d is still open%s)", o.text, o.line, s.elseIf(o.line, line))
		}
	}
	return ""
}

// missing says what the line before has not, which the parser finds out at the next one only.
func (s *source) missing(line int) string {
	words := s.on(line)
	if len(words) == 0 {
		return ""
	}
	want := "then"
	switch words[0].text {
	case "if", "elseif":
	case "while", "for":
		want = "do"
	default:
		return ""
	}
	if slices.ContainsFunc(words, func(w word) bool { return w.text == want }) {
		return ""
	}
	return bracket(fmt.Sprintf("is '%s' missing in line %d?", want, line))
}

// opensNothing reports a line whose brackets are closed and whose expression has ended.
func (s *source) opensNothing(line int) bool {
	words := s.on(line)
	depth := 0
	for _, w := range words {
		switch w.text {
		case "(", "[", "{":
			depth++
		case ")", "]", "}":
			depth--
		}
	}
	code, _, _ := strings.Cut(s.line(line), "--") // in a text this ends the line too early, and no hint is given
	return len(words) > 0 && depth == 0 && valueEnds(strings.TrimSpace(code))
}

// valueEnds reports whether a value ends where a text does.
func valueEnds(text string) bool {
	if text == "" {
		return false
	}
	n := len(text)
	for n > 0 && (isAlpha(text[n-1]) || isDigit(text[n-1]) || text[n-1] == '_') {
		n--
	}
	last := text[n:]
	switch {
	case last == "":
		return strings.IndexByte("\"')]}", text[len(text)-1]) >= 0
	case last == "and", last == "or", last == "not":
		return false
	}
	return last == "end" || !isKeyword(last) && last != "function"
}

// elseIf is a hint at "else if" between two lines: it opens a block that wants an end of its own.
func (s *source) elseIf(from, to int) string {
	for line := from; line <= to; line++ {
		words := s.on(line)
		for i := range max(0, len(words)-1) {
			if words[i].text == "else" && words[i+1].text == "if" {
				return fmt.Sprintf("; 'else if' of line %d wants an 'end' of its own: write 'elseif'", line)
			}
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

var keywords = []string{"do", "else", "elseif", "end", "for", "if", "in", "local", "repeat", "return", "then", "until", "while"}

func isKeyword(s string) bool { return slices.Contains(keywords, s) }

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
