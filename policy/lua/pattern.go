package lua

import (
	"errors"
	"strings"
)

const (
	maxCaptures     = 32
	maxPatternDepth = 200
	// maxPatternSteps bounds one call of find, match, gmatch's step or one replacement of gsub, whatever the budget.
	maxPatternSteps = 2_000_000

	capOpen     = -1 // a capture whose ')' was not reached yet
	capPosition = -2 // "()"
)

var (
	errComplex      = errors.New("pattern is too complex for this text")
	errMalformedEsc = errors.New("malformed pattern (ends with '%')")
	errMalformedSet = errors.New("malformed pattern (missing ']')")
	errCaptures     = errors.New("pattern has too many captures")
	errCapture      = errors.New("invalid pattern capture")
	errCaptureIndex = errors.New("invalid capture index in pattern")
	errUnfinished   = errors.New("unfinished capture")
	errBalance      = errors.New("malformed pattern (missing arguments to '%b')")
	errFrontier     = errors.New("missing '[' after '%f' in pattern")
)

type capture struct{ start, length int }

// matcher matches Lua patterns by backtracking, without allocation and within a number of steps: a pattern of the right
// shape needs more time than the universe has ("a?" forty times against forty a), and text comes from strangers.
type matcher struct {
	src, pat string
	steps    int // left; each compared octet, set member and pattern item costs one
	depth    int
	level    int // captures open or closed
	caps     [maxCaptures]capture
	err      error
}

func (m *matcher) fail(err error) int {
	m.err = err
	return -1
}

func (m *matcher) spend(n int) bool {
	m.steps -= n
	if m.steps < 0 && m.err == nil {
		m.err = errComplex
	}
	return m.steps >= 0
}

// find gives the first match that begins at init or later, as [start, end), or -1 with err perhaps set. A leading '^'
// anchors it, if it may.
func (m *matcher) find(init int, mayAnchor bool) (start, end int) {
	p := 0
	anchored := mayAnchor && strings.HasPrefix(m.pat, "^")
	if anchored {
		p = 1
	}
	first, fast := byte(0), false
	if !anchored {
		first, fast = m.firstByte()
	}
	for s := init; s <= len(m.src); s++ {
		if fast {
			k := strings.IndexByte(m.src[s:], first)
			if k < 0 {
				m.spend((len(m.src) - s) >> 5)
				return -1, -1
			}
			m.spend(k >> 5)
			s += k
		}
		m.level = 0
		if e := m.match(s, p); e >= 0 {
			return s, e
		}
		if m.err != nil || anchored {
			break
		}
	}
	return -1, -1
}

// firstByte tells the octet that every match begins with.
func (m *matcher) firstByte() (byte, bool) {
	if m.pat == "" || strings.IndexByte("^$*+?.([%-)", m.pat[0]) >= 0 {
		return 0, false
	}
	if len(m.pat) > 1 && strings.IndexByte("*?-", m.pat[1]) >= 0 {
		return 0, false
	}
	return m.pat[0], true
}

// match gives the end of a match of pat[p:] at s, or -1.
func (m *matcher) match(s, p int) int {
	m.depth++
	defer func() { m.depth-- }()
	if m.depth > maxPatternDepth {
		return m.fail(errComplex)
	}
	for m.spend(1) {
		if p >= len(m.pat) {
			return s
		}
		switch m.pat[p] {
		case '(':
			if p+1 < len(m.pat) && m.pat[p+1] == ')' {
				return m.open(s, p+2, capPosition)
			}
			return m.open(s, p+1, capOpen)
		case ')':
			return m.close(s, p+1)
		case '$':
			if p+1 == len(m.pat) {
				if s == len(m.src) {
					return s
				}
				return -1
			}
		case '%':
			if p+1 < len(m.pat) {
				if ns, np, special := m.special(s, p); special {
					if ns < 0 {
						return -1
					}
					s, p = ns, np
					continue
				}
			}
		}
		ep := m.itemEnd(p)
		if ep < 0 {
			return -1
		}
		var suffix byte
		if ep < len(m.pat) {
			suffix = m.pat[ep]
		}
		switch suffix {
		case '?':
			if m.one(s, p, ep) {
				if e := m.match(s+1, ep+1); e >= 0 || m.err != nil {
					return e
				}
			}
			p = ep + 1
			continue
		case '*':
			return m.most(s, p, ep, 0)
		case '+':
			return m.most(s, p, ep, 1)
		case '-':
			return m.least(s, p, ep)
		}
		if !m.one(s, p, ep) {
			return -1
		}
		s, p = s+1, ep
	}
	return -1
}

func (m *matcher) open(s, p, length int) int {
	if m.level >= maxCaptures {
		return m.fail(errCaptures)
	}
	m.caps[m.level] = capture{s, length}
	m.level++
	e := m.match(s, p)
	if e < 0 {
		m.level--
	}
	return e
}

func (m *matcher) close(s, p int) int {
	i := m.level - 1
	for i >= 0 && m.caps[i].length != capOpen {
		i--
	}
	if i < 0 {
		return m.fail(errCapture)
	}
	m.caps[i].length = s - m.caps[i].start
	e := m.match(s, p)
	if e < 0 {
		m.caps[i].length = capOpen
	}
	return e
}

// special handles %b, %f and %1: it gives where to go on, or -1 for no match.
func (m *matcher) special(s, p int) (ns, np int, special bool) {
	switch c := m.pat[p+1]; {
	case c == 'b':
		return m.balance(s, p+2), p + 4, true
	case c == 'f':
		p += 2
		if p >= len(m.pat) || m.pat[p] != '[' {
			return m.fail(errFrontier), 0, true
		}
		ep := m.itemEnd(p)
		if ep < 0 {
			return -1, 0, true
		}
		var before, after byte
		if s > 0 {
			before = m.src[s-1]
		}
		if s < len(m.src) {
			after = m.src[s]
		}
		if m.inSet(before, p, ep-1) || !m.inSet(after, p, ep-1) {
			return -1, 0, true
		}
		return s, ep, true
	case isDigit(c):
		i := int(c) - '1'
		if i < 0 || i >= m.level || m.caps[i].length == capOpen {
			return m.fail(errCaptureIndex), 0, true
		}
		cp := m.caps[i]
		if cp.length < 0 {
			return -1, 0, true
		}
		if !m.spend(cp.length>>3) || !strings.HasPrefix(m.src[s:], m.src[cp.start:cp.start+cp.length]) {
			return -1, 0, true
		}
		return s + cp.length, p + 2, true
	}
	return 0, 0, false
}

func (m *matcher) balance(s, p int) int {
	if p+1 >= len(m.pat) {
		return m.fail(errBalance)
	}
	if s >= len(m.src) || m.src[s] != m.pat[p] {
		return -1
	}
	begin, end, open := m.pat[p], m.pat[p+1], 1
	for i := s + 1; i < len(m.src) && m.spend(1); i++ {
		switch m.src[i] {
		case end:
			if open--; open == 0 {
				return i + 1
			}
		case begin:
			open++
		}
	}
	return -1
}

// most takes as many as there are and gives back one at a time.
func (m *matcher) most(s, p, ep, least int) int {
	n := 0
	for m.one(s+n, p, ep) && m.spend(1) {
		n++
	}
	for ; n >= least && m.err == nil; n-- {
		if e := m.match(s+n, ep+1); e >= 0 || m.err != nil {
			return e
		}
	}
	return -1
}

// least takes one more at a time.
func (m *matcher) least(s, p, ep int) int {
	for m.err == nil {
		if e := m.match(s, ep+1); e >= 0 || m.err != nil {
			return e
		}
		if !m.one(s, p, ep) {
			return -1
		}
		s++
	}
	return -1
}
