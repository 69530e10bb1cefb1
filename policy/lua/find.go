package lua

import (
	"strings"

	glua "github.com/yuin/gopher-lua"
)

// search runs the matcher and charges its steps, four to an instruction.
func search(L *glua.LState, m *matcher, init int, mayAnchor bool) (start, end int) {
	meter := MeterOf(L)
	steps := int(min(maxPatternSteps, 4*meter.Left()+4)) // the last few make Work raise
	m.steps, m.err = steps, nil
	start, end = m.find(init, mayAnchor)
	meter.Work(L, int64(steps-m.steps)>>2)
	if m.err != nil {
		L.RaiseError("%s", m.err.Error())
	}
	return start, end
}

// pushCaptures pushes what a match captured; the whole match if it captured nothing and whole is set.
func pushCaptures(L *glua.LState, m *matcher, start, end int, whole bool) int {
	if m.level == 0 && whole {
		return pushString(L, m.src[start:end])
	}
	for i := range m.level {
		L.Push(captured(L, m, i))
	}
	return m.level
}

func captured(L *glua.LState, m *matcher, i int) glua.LValue {
	switch c := m.caps[i]; c.length {
	case capPosition:
		return glua.LNumber(c.start + 1)
	case capOpen:
		L.RaiseError("%s", errUnfinished.Error())
		return glua.LNil
	default:
		return glua.LString(m.src[c.start : c.start+c.length])
	}
}

// stringFind is find and match.
func stringFind(L *glua.LState, find bool) int {
	s, pat := checkString(L, 1), checkString(L, 2)
	init := optInt(L, 3, 1)
	if init < 0 {
		init = len(s) + init + 1
	}
	init = min(max(init-1, 0), len(s))
	if find && (glua.LVAsBool(L.Get(4)) || !strings.ContainsAny(pat, "^$*+?.([%-")) {
		return plainFind(L, s, pat, init)
	}
	m := matcher{src: s, pat: pat}
	start, end := search(L, &m, init, true)
	if start < 0 {
		L.Push(glua.LNil)
		return 1
	}
	if find {
		L.Push(glua.LNumber(start + 1))
		L.Push(glua.LNumber(end))
		return 2 + pushCaptures(L, &m, start, end, false)
	}
	return pushCaptures(L, &m, start, end, true)
}

func plainFind(L *glua.LState, s, sub string, init int) int {
	k := strings.Index(s[init:], sub)
	scanned := len(s) - init
	if k >= 0 {
		scanned = k
	}
	MeterOf(L).Charge(int64(scanned+len(sub)) >> 6)
	if k < 0 {
		L.Push(glua.LNil)
		return 1
	}
	L.Push(glua.LNumber(init + k + 1))
	L.Push(glua.LNumber(init + k + len(sub)))
	return 2
}

// stringGmatch gives an iterator. It belongs to the run that made it: its place in the text is state, which must not
// pass from one message to the next.
func stringGmatch(L *glua.LState) int {
	m := &matcher{src: checkString(L, 1), pat: checkString(L, 2)}
	MeterOf(L).Alloc(L, 700) // the matcher
	run, pos := StateOf(L).run, 0
	L.Push(L.NewFunction(func(L *glua.LState) int {
		if StateOf(L).run != run {
			L.RaiseError("this gmatch was begun by an earlier call and cannot go on")
		}
		if pos > len(m.src) {
			return 0
		}
		start, end := search(L, m, pos, false)
		if start < 0 {
			pos = len(m.src) + 1
			return 0
		}
		if pos = end; end == start {
			pos++
		}
		return pushCaptures(L, m, start, end, true)
	}))
	return 1
}
