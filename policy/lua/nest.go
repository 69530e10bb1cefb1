package lua

import "fmt"

// nest follows brackets and blocks, only as far as depth goes; whether they match is the parser's business.
func (sc *scanner) nest(text string, line, col int) {
	switch text {
	case "(", "[", "{", "if", "function", "repeat":
		sc.push(opener{text: text, line: line}, col)
	case "for", "while":
		sc.push(opener{text: text, line: line, loop: true}, col)
	case "do":
		if n := len(sc.open); n > 0 && sc.open[n-1].loop {
			sc.open[n-1].loop = false
			return
		}
		sc.push(opener{text: text, line: line}, col)
	case ")", "]", "}", "end", "until":
		if n := len(sc.open); n > 0 {
			sc.open = sc.open[:n-1]
		}
	}
	sc.count(text, line, col)
}

func (sc *scanner) push(o opener, col int) {
	sc.open = append(sc.open, o)
	if len(sc.open) > maxNesting {
		sc.complain(o.line, col, true, "nested more than %d levels deep", maxNesting)
	}
}

// count bounds the operators, calls and indexes of one expression: a + b + c ... is a tree as deep as it is long. An
// expression ends at a separator, a keyword, or where a name follows an operand: there a statement begins.
func (sc *scanner) count(text string, line, col int) {
	operand := sc.operand
	sc.operand = false
	switch text {
	case "+", "-", "*", "/", "%", "^", "..", "==", "~=", "<", ">", "<=", ">=", "and", "or", "not", "#", ".", ":", "(", "[":
		if sc.chain++; sc.chain > maxChain {
			sc.complain(line, col, true, "an expression of more than %d operators", maxChain)
		}
	case ")", "]", "...", "nil", "true", "false":
		sc.operand = true
	case "end", "}":
		sc.operand, sc.chain = true, 0
	case "elseif":
		sc.chain = 0
		if sc.elseifs++; sc.elseifs > maxChain {
			sc.complain(line, col, true, "more than %d elseif in one file", maxChain)
		}
	case ",", ";", "=", "{", "break", "do", "else", "for", "function", "goto", "if", "in", "local", "repeat", "return", "then", "until", "while":
		sc.chain = 0
	default: // a name or a number
		if operand {
			sc.chain = 0
		}
		sc.operand = true
	}
}

// openHint names the construct that the end of file found open.
func (s *source) openHint() string {
	if len(s.unclosed) == 0 {
		return ""
	}
	o := s.unclosed[len(s.unclosed)-1]
	return fmt.Sprintf(" ('%s' of line %d is still open)", o.text, o.line)
}
