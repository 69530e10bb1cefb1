package configs

import (
	"bytes"
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Problem is one thing that is wrong with a configuration, and where.
type Problem struct {
	File      string
	Line, Col int    // from 1; 0 when the problem has no place in the file
	Source    string // the line as it stands in the file
	Text      string // what is wrong, and if we can tell what to write instead
}

// Error is the problem in one line: file:line:col: text.
func (p Problem) Error() string {
	switch {
	case p.File == "":
		return p.Text
	case p.Line == 0:
		return p.File + ": " + p.Text
	}
	return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Col, p.Text)
}

// Show is Error, and below it the line with a caret under the column.
func (p Problem) Show() string {
	if p.Line == 0 {
		return p.Error()
	}
	var margin strings.Builder
	for _, c := range p.Source[:min(max(p.Col-1, 0), len(p.Source))] { // one blank a character, not one a byte
		if c != '\t' { // kept, so that the caret stands where the eye expects it
			c = ' '
		}
		margin.WriteRune(c)
	}
	return fmt.Sprintf("%s\n    %s\n    %s^", p.Error(), p.Source, &margin)
}

// position is a place in the file, from 1.
type position struct{ line, col int }

// source remembers the file and where each key stands in it, by its path:
// "upstream.address", "listener[1].tls".
type source struct {
	file  string
	lines []string
	where map[string]position
	bad   map[string]bool // keys whose value was refused: checked no further
}

func newSource(file string, text []byte) source {
	var lines []string
	for line := range bytes.SplitSeq(text, []byte("\n")) {
		lines = append(lines, string(bytes.TrimRight(line, "\r")))
	}
	return source{file: file, lines: lines, where: map[string]position{}, bad: map[string]bool{}}
}

// Problem makes a Problem of what a room says about the value of a key, such as
// "quarantine.path": only it can try whether the value works.
func (c *Config) Problem(path, format string, args ...any) Problem {
	return c.at(path, format, args...)
}

// at makes a Problem at a key, or at the nearest table above it that the file
// mentions, or at the file as a whole.
func (s *source) at(path, format string, args ...any) Problem {
	for p := path; ; {
		if pos, ok := s.where[p]; ok {
			return s.here(pos, format, args...)
		}
		i := strings.LastIndexAny(p, ".[")
		if i < 0 {
			return Problem{File: s.file, Text: fmt.Sprintf(format, args...)}
		}
		p = p[:i]
	}
}

func (s *source) here(pos position, format string, args ...any) Problem {
	p := Problem{File: s.file, Line: pos.line, Col: pos.col, Text: fmt.Sprintf(format, args...)}
	if pos.line >= 1 && pos.line <= len(s.lines) {
		p.Source = s.lines[pos.line-1]
	}
	return p
}

// sortProblems puts problems in the order of the file; those without a place
// come last.
func sortProblems(problems []Problem) {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		if (a.Line == 0) != (b.Line == 0) {
			return cmp.Compare(b.Line, a.Line)
		}
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Col, b.Col))
	})
}
