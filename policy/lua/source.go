package lua

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/yuin/gopher-lua/parse"
)

// source is a file's text with the places of its words: the parser keeps lines only, and an editor wants columns.
type source struct {
	file     string
	text     string
	lines    []string
	words    []word    // names, keywords and symbols, in order
	lint     []Problem // what the scan alone can tell
	unclosed []opener  // what the end of file found open
}

type word struct {
	line, col int
	text      string
}

// on gives the words of a line.
func (s *source) on(line int) []word {
	from, _ := slices.BinarySearchFunc(s.words, line, func(w word, l int) int { return w.line - l })
	to := from
	for to < len(s.words) && s.words[to].line == line {
		to++
	}
	return s.words[from:to]
}

func newSource(file string, text []byte) *source {
	t := strings.TrimPrefix(string(text), "\xef\xbb\xbf") // a BOM, as Windows editors write it
	if strings.HasPrefix(t, "#") {                        // "#!/usr/bin/lua", as Lua itself allows
		t = "--" + t
	}
	return &source{file: file, text: t}
}

// line gives a source line, from 1.
func (s *source) line(n int) string {
	if s.lines == nil {
		s.lines = strings.Split(s.text, "\n")
	}
	if n < 1 || n > len(s.lines) {
		return ""
	}
	l := strings.TrimSuffix(s.lines[n-1], "\r")
	if len(l) > 300 { // a minified file must not flood the log
		l = l[:300]
	}
	return strings.ToValidUTF8(l, "?")
}

// at makes a problem at a known place.
func (s *source) at(line, col int, format string, args ...any) Problem {
	return Problem{File: s.file, Line: line, Col: col, Text: fmt.Sprintf(format, args...), Source: s.line(line)}
}

// problem makes one where the n-th word "name" stands on the line, or where the line's first word stands.
func (s *source) problem(line int, name string, n int, format string, args ...any) Problem {
	col := 0
	words := s.on(line)
	for _, w := range words {
		if w.text == name {
			col = w.col
			if n--; n < 0 {
				break
			}
		}
	}
	if col == 0 && len(words) > 0 {
		col = words[0].col
	}
	return s.at(line, col, format, args...)
}

// syntax turns the parser's error into ours: "unexpected '='".
func (s *source) syntax(err error) Problem {
	var pe *parse.Error
	if !errors.As(err, &pe) {
		return Problem{File: s.file, Text: err.Error()}
	}
	if pe.Pos.Line == parse.EOF {
		last, col := s.end()
		return s.at(last, col, "unexpected end of file%s", s.openHint())
	}
	text := pe.Message
	line, col := pe.Pos.Line, pe.Pos.Column
	if strings.HasPrefix(text, "syntax error") || text == "parse error" {
		text = fmt.Sprintf("unexpected '%s'", pe.Token)
		// The scanner stands behind the token; the caret belongs under its first character.
		col -= len(pe.Token) - 1
		if at := s.line(line); col > 2 && pe.Pos.Column <= len(at) && strings.ContainsRune("\"'", rune(at[col-3])) && at[col-3] == at[pe.Pos.Column-1] {
			col -= 2 // text: its quotes are no part of the token
		}
	} else {
		text = strings.ToLower(text[:1]) + text[1:]
	}
	col = max(col, 1)
	return s.at(line, col, "%s%s", text, s.hint(line, col, pe.Token))
}

// end is the place behind the last word.
func (s *source) end() (line, col int) {
	if len(s.words) == 0 {
		return 1, 1
	}
	w := s.words[len(s.words)-1]
	return w.line, w.col + len(w.text)
}

// spot is a name on a line.
type spot struct {
	line int
	name string
}

// column finds where a name stands on a line as a name of its own, not as a field; places found before are passed over.
func (s *source) column(line int, name string, found map[spot][]int) int {
	key := spot{line, name}
	fallback := 0
	ws := s.on(line)
	for i, w := range ws {
		if w.text != name || slices.Contains(found[key], w.col) {
			continue
		}
		if i > 0 && (ws[i-1].text == "." || ws[i-1].text == ":") {
			if fallback == 0 {
				fallback = w.col
			}
			continue
		}
		if i > 0 && ws[i-1].text == "local" { // its declaration; the use that is wrong comes later, if on this line
			fallback = w.col
			continue
		}
		fallback = w.col
		break
	}
	if fallback == 0 {
		if len(found[key]) > 0 {
			return found[key][0]
		}
		if len(ws) > 0 {
			return ws[0].col
		}
		return 0
	}
	found[key] = append(found[key], fallback)
	return fallback
}
