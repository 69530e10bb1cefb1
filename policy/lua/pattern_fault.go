package lua

// PatternFault says what is wrong with a pattern before any text is there to match it with, "" if nothing is. The matcher
// itself notices a fault only when it comes there.
func PatternFault(p string) string {
	var closed []bool // of each capture
	i := 0
	if p != "" && p[0] == '^' {
		i++
	}
	for i < len(p) {
		switch p[i] {
		case '(':
			position := i+1 < len(p) && p[i+1] == ')'
			closed = append(closed, position)
			if i++; position {
				i++
			}
		case ')':
			last := len(closed) - 1
			for last >= 0 && closed[last] {
				last--
			}
			if last < 0 {
				return errCapture.Error()
			}
			closed[last] = true
			i++
		case '[':
			n := setEnd(p[i:])
			if n < 0 {
				return errMalformedSet.Error()
			}
			i += n
		case '%':
			n, err := escapeEnd(p[i:], closed)
			if err != nil {
				return err.Error()
			}
			i += n
		default:
			i++
		}
	}
	if len(closed) > maxCaptures {
		return errCaptures.Error()
	}
	for _, ok := range closed {
		if !ok {
			return errUnfinished.Error()
		}
	}
	return ""
}

// setEnd is the length of the set that p begins with, -1 if it has no end.
func setEnd(p string) int {
	i := 1
	if i < len(p) && p[i] == '^' {
		i++
	}
	for first := true; i < len(p); first = false {
		switch {
		case p[i] == '%':
			i += 2
		case p[i] == ']' && !first:
			return i + 1
		default:
			i++
		}
	}
	return -1
}

// escapeEnd is the length of the item that p begins with: %a, %1, %bxy, %f[set].
func escapeEnd(p string, closed []bool) (int, error) {
	if len(p) < 2 {
		return 0, errMalformedEsc
	}
	switch c := p[1]; {
	case c == 'b' && len(p) < 4:
		return 0, errBalance
	case c == 'b':
		return 4, nil
	case c == 'f' && (len(p) < 3 || p[2] != '['):
		return 0, errFrontier
	case isDigit(c):
		if n := int(c - '1'); n < 0 || n >= len(closed) || !closed[n] {
			return 0, errCaptureIndex
		}
	}
	return 2, nil
}
