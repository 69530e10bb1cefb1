package lua

import (
	"fmt"
	"strings"
)

// Problem is one mistake found in a file before it runs. Line and Col count from 1; Col is 0 when only the line is known.
type Problem struct {
	File      string
	Line, Col int
	Text      string // what is wrong, in the author's words
	Source    string // the source line, without its newline
	Warning   bool   // worth telling, no reason to refuse the file
	Note      bool   // a warning for who asks what there is to know of the file: it works as it stands
}

// Error gives "file:line:col: text".
func (p Problem) Error() string {
	switch {
	case p.Line <= 0:
		return p.File + ": " + p.Text
	case p.Col <= 0:
		return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Text)
	}
	return fmt.Sprintf("%s:%d:%d: %s", p.File, p.Line, p.Col, p.Text)
}

// Render gives Error, and below it the source line with a caret under the column.
func (p Problem) Render() string {
	if p.Source == "" {
		return p.Error()
	}
	var b strings.Builder
	b.WriteString(p.Error())
	b.WriteString("\n    ")
	b.WriteString(p.Source)
	if p.Col > 0 && p.Col <= len(p.Source)+1 {
		b.WriteString("\n    ")
		for i := 0; i < p.Col-1; i++ {
			if p.Source[i] == '\t' { // keep the caret under its character whatever the tab width
				b.WriteByte('\t')
			} else if p.Source[i]&0xc0 != 0x80 { // one blank a character, not one a byte
				b.WriteByte(' ')
			}
		}
		b.WriteByte('^')
	}
	return b.String()
}

// Refuses reports whether one of the problems is more than a warning.
func Refuses(ps []Problem) bool {
	for _, p := range ps {
		if !p.Warning {
			return true
		}
	}
	return false
}
