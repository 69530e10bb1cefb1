package lua

import (
	"fmt"
	"strings"
)

// maxNesting bounds brackets and blocks within each other, as Lua's own parser does (LUAI_MAXCCALLS); gopher-lua's
// compiler recurses on them without a bound, and a Go stack that grows past its limit ends the process.
const maxNesting = 180

// maxChain bounds operators in one expression, each of which is a level of the tree.
const maxChain = 2000

// scanner walks the tokens once before the parser, to bound the nesting, to note the columns, and to find what the parser
// takes silently.
type scanner struct {
	*source
	pos, line, col int
	open           []opener // brackets and blocks not yet closed
	chain          int      // operators since the last separator
	fatal          bool
	elseifs        int
	operand        bool // the last token ends an operand
}

type opener struct {
	text string
	line int
	loop bool // for or while, whose "do" is its own
}

// scan fills words and lint. Problems it returns make parsing pointless or dangerous.
func (s *source) scan() []Problem {
	sc := &scanner{source: s, line: 1, col: 1}
	for sc.pos < len(s.text) && !sc.fatal {
		sc.token()
	}
	s.unclosed = sc.open
	if sc.fatal {
		return s.lint
	}
	return nil
}

func (sc *scanner) peek(n int) byte {
	if sc.pos+n < len(sc.text) {
		return sc.text[sc.pos+n]
	}
	return 0
}

func (sc *scanner) next() byte {
	c := sc.text[sc.pos]
	sc.pos++
	if c == '\n' {
		sc.line++
		sc.col = 1
	} else {
		sc.col++
	}
	return c
}

func (sc *scanner) complain(line, col int, fatal bool, format string, args ...any) {
	sc.lint = append(sc.lint, sc.at(line, col, "%s", fmt.Sprintf(format, args...)))
	sc.fatal = sc.fatal || fatal
}

func (sc *scanner) token() {
	c := sc.peek(0)
	line, col, from := sc.line, sc.col, sc.pos
	switch {
	case c == ' ' || c == '\t' || c == '\r' || c == '\n':
		sc.next()
		return
	case c == '-' && sc.peek(1) == '-':
		sc.comment()
		return
	case isAlpha(c) || c == '_':
		for isAlpha(sc.peek(0)) || isDigit(sc.peek(0)) || sc.peek(0) == '_' {
			sc.next()
		}
	case isDigit(c) || c == '.' && isDigit(sc.peek(1)):
		sc.numeral()
	case c == '"' || c == '\'':
		sc.quoted()
		sc.operand = true
		return
	case c == '[' && (sc.peek(1) == '[' || sc.peek(1) == '='):
		if sc.long() {
			sc.operand = true
			return
		}
	default:
		sc.next()
		for _, op := range [...]string{"...", "..", "==", "~=", "<=", ">=", "::"} {
			if strings.HasPrefix(sc.text[from:], op) {
				for sc.pos < from+len(op) {
					sc.next()
				}
				break
			}
		}
	}
	text := sc.text[from:sc.pos]
	sc.words = append(sc.words, word{line, col, text})
	sc.nest(text, line, col)
}

func (sc *scanner) comment() {
	sc.next()
	sc.next()
	if sc.peek(0) == '[' && (sc.peek(1) == '[' || sc.peek(1) == '=') && sc.long() {
		return
	}
	for sc.pos < len(sc.text) && sc.peek(0) != '\n' {
		sc.next()
	}
}

// long skips [[...]] or [==[...]==]. It reports false, at the same place, if no such string begins here.
func (sc *scanner) long() bool {
	level := 0
	for sc.peek(1+level) == '=' {
		level++
	}
	if sc.peek(1+level) != '[' {
		sc.next()
		return false
	}
	line, col, mark := sc.line, sc.col, sc.text[sc.pos:sc.pos+level+2]
	for i := 0; i < level+2; i++ {
		sc.next()
	}
	for sc.pos < len(sc.text) {
		if sc.next() != ']' {
			continue
		}
		n := 0
		for sc.peek(n) == '=' {
			n++
		}
		if n == level && sc.peek(n) == ']' {
			for i := 0; i <= n; i++ {
				sc.next()
			}
			return true
		}
	}
	sc.complain(line, col, true, "unterminated string or comment: '%s' is never closed", mark)
	return true
}

// numeral takes what gopher-lua's scanner takes, and refuses what it would turn into NaN in silence ("1e", "1.5.2").
func (sc *scanner) numeral() {
	line, col, from := sc.line, sc.col, sc.pos
	for {
		c := sc.peek(0)
		if (c == '+' || c == '-') && sc.pos > from && sc.text[sc.pos-1]|0x20 == 'e' && !isHex(sc.text[from:sc.pos]) {
			sc.next()
			continue
		}
		if !isDigit(c) && !isAlpha(c) && c != '_' && !(c == '.' && sc.peek(1) != '.') {
			break
		}
		sc.next()
	}
	text := sc.text[from:sc.pos]
	if _, ok := parseNumber(text); !ok {
		sc.complain(line, col, true, "malformed number '%s'", text)
	}
}

func isHex(b string) bool { return len(b) > 1 && b[0] == '0' && b[1]|0x20 == 'x' }

// quoted skips "..." and tells escapes that Lua 5.1 does not have: it drops the backslash in silence, so '\x41' is "x41"
// and '\.' in a pattern matches anything.
func (sc *scanner) quoted() {
	fromLine, fromCol := sc.line, sc.col
	quote := sc.next()
	for sc.pos < len(sc.text) {
		line, col := sc.line, sc.col
		c := sc.next()
		switch {
		case c == quote:
			return
		case c == '\n':
			sc.complain(fromLine, fromCol, true, "unterminated string")
			return
		case c == '\\' && sc.pos < len(sc.text):
			e := sc.peek(0)
			if isDigit(e) {
				sc.decimalEscape(line, col)
				continue
			}
			sc.next()
			if hint, bad := escapeHint(e); bad {
				sc.complain(line, col, false, "Lua 5.1 has no escape '\\%c'%s", e, hint)
			}
		}
	}
	sc.complain(fromLine, fromCol, true, "unterminated string")
}

func (sc *scanner) decimalEscape(line, col int) {
	n := 0
	for i := 0; i < 3 && isDigit(sc.peek(0)); i++ {
		n = n*10 + int(sc.next()-'0')
	}
	if n > 255 {
		sc.complain(line, col, false, "escape '\\%d' is too large: a character has at most 255", n)
	}
}

func escapeHint(c byte) (hint string, bad bool) {
	switch c {
	case 'a', 'b', 'f', 'n', 'r', 't', 'v', '\\', '"', '\'', '\n', '\r':
		return "", false
	case 'x':
		return `: write the character's number in decimal, '\065'`, true
	case 'u':
		return ": write the character itself", true
	case 'z':
		return "", true
	case 'd', 's', 'w', '.', '-', '+', '*', '?', '(', ')', '[', ']', '^', '$', '%':
		return fmt.Sprintf(" (in a Lua pattern write '%%%c', in a re(...) write '\\\\%c')", c, c), true
	}
	if c < ' ' || c > '~' {
		return "", true
	}
	return "", true
}
