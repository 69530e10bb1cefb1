package script

import (
	"io"
	"regexp"
	"regexp/syntax"
	"sync"
	"unicode/utf8"

	glua "github.com/yuin/gopher-lua"
)

// pattern is what re declares.
type pattern struct {
	*regexp.Regexp
	size  int                            // its instructions; each may look at each octet
	later func() (*regexp.Regexp, error) // finds it behind the first character, as group 1
}

func newPattern(text string) (*pattern, error) {
	re, err := regexp.Compile(text)
	if err != nil {
		return nil, err
	}
	tree, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, err
	}
	prog, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return nil, err
	}
	return &pattern{Regexp: re, size: len(prog.Inst), later: sync.OnceValues(func() (*regexp.Regexp, error) {
		return regexp.Compile(`(?s:\A.)(?s:.*?)(` + tree.String() + `)`)
	})}, nil
}

type reRef struct {
	x *state
	*pattern
}

func (r *reRef) in() *state { return r.x.alive() }

const (
	maxReText = 1 << 20 // of one match
	// slowRe is from how many octets times instructions on a match is watched
	// while it goes on; below it takes a tenth of a second.
	slowRe = 1 << 24
)

// scanCost is what looking through a text costs in instructions: a rule can look
// through the largest one seven times with the budget that it has by default.
func scanCost(s string) int64 { return int64(len(s))>>4 + 20 }

// subject is the text to match. nil is no text.
func (r *reRef) subject(L *glua.LState, what string) (string, bool) {
	if L.Get(2) == glua.LNil {
		return "", false
	}
	s := checkString(L, 2, what)
	if len(s) > maxReText {
		L.RaiseError("%s: a text has at most 1 MiB", what)
	}
	return s, true
}

// find is the first match and its groups.
func (r *reRef) find(L *glua.LState, s string) []int { return r.findBy(L, r.Regexp, s) }

func (r *reRef) findBy(L *glua.LState, re *regexp.Regexp, s string) []int {
	if len(s)*r.size < slowRe {
		return re.FindStringSubmatchIndex(s)
	}
	return re.FindReaderSubmatchIndex(&watchedText{x: r.x, L: L, s: s})
}

// watchedText gives a text to the matcher, which nothing else can interrupt.
type watchedText struct {
	x  *state
	L  *glua.LState
	s  string
	at int
}

func (t *watchedText) ReadRune() (rune, int, error) {
	if t.at == len(t.s) {
		return 0, 0, io.EOF
	}
	c, n := utf8.DecodeRuneInString(t.s[t.at:])
	if t.at>>8 != (t.at+n)>>8 {
		t.x.Meter.Work(t.L, 16) // its length is paid; this is for what it takes besides
	}
	t.at += n
	return c, n, nil
}

// findAfter is the first match that begins at from or behind it. A later match
// is looked for with the character in front of it, which ^ and \b look at.
func (r *reRef) findAfter(L *glua.LState, s string, from int) []int {
	if from == 0 {
		return r.find(L, s)
	}
	re, err := r.later()
	if err != nil {
		L.RaiseError("replace: %s", err.Error())
	}
	_, n := utf8.DecodeLastRuneInString(s[:from])
	m := r.findBy(L, re, s[from-n:])
	if m == nil {
		return nil
	}
	m = m[2:] // without the group around it
	for i := range m {
		if m[i] >= 0 {
			m[i] += from - n
		}
	}
	return m
}

// replace is Regexp.ReplaceAllString, which may read the rest of the text once
// for each match, and which nothing can interrupt.
func (r *reRef) replace(L *glua.LState, s, with string) string {
	var out []byte
	done, from := 0, 0 // what of s is in out; where to look on
	for from <= len(s) {
		m := r.findAfter(L, s, from)
		if m == nil {
			break
		}
		r.x.Meter.Alloc(L, int64(m[0]-done))
		out = append(out, s[done:m[0]]...)
		if m[1] > done || m[0] == 0 { // an empty match beside another one is none
			before := len(out)
			out = r.ExpandString(out, with, s, m)
			r.x.Meter.Alloc(L, int64(len(out)-before))
		}
		done = m[1]
		_, n := utf8.DecodeRuneInString(s[from:])
		from = max(m[1], from+max(n, 1))
		r.x.Meter.Work(L, 64)
	}
	r.x.Meter.Alloc(L, int64(len(s)-done)+16)
	return string(append(out, s[done:]...))
}

var reClass = (&class{name: "re", typ: "Re", doc: "A regular expression, by re(). It takes texts of up to 1 MiB, which is what msg:body() gives by itself.",
	members: []*member{
		{name: "test", params: []param{{"text", "string?", "nil never matches."}}, returns: []param{{"matches", "boolean", ""}},
			doc: "Whether it matches anywhere in the text.",
			do: func(x *state, L *glua.LState, self any) int {
				r := self.(*reRef)
				s, ok := r.subject(L, "test")
				x.Meter.Work(L, scanCost(s))
				if ok && len(s)*r.size < slowRe {
					ok = r.MatchString(s)
				} else if ok {
					ok = r.find(L, s) != nil
				}
				L.Push(glua.LBool(ok))
				return 1
			}},
		{name: "match", params: []param{{"text", "string?", ""}}, returns: []param{{"match", "string?", "The match, or its groups if the pattern has some; nil without a match."}, {"...", "string?", ""}},
			doc: "The first match, as string.match gives it.",
			do: func(x *state, L *glua.LState, self any) int {
				r := self.(*reRef)
				s, ok := r.subject(L, "match")
				if !ok {
					L.Push(glua.LNil)
					return 1
				}
				x.Meter.Work(L, scanCost(s))
				m := r.find(L, s)
				if m == nil {
					L.Push(glua.LNil)
					return 1
				}
				if len(m) > 2 {
					m = m[2:]
				}
				n := min(len(m)/2, 32)
				for i := range n {
					if m[2*i] < 0 {
						L.Push(glua.LNil)
						continue
					}
					L.Push(x.text(L, s[m[2*i]:m[2*i+1]]))
				}
				return n
			}},
		{name: "replace", params: []param{{"text", "string", ""}, {"with", "string", "$1 or ${name} stands for a group."}}, returns: []param{{"text", "string", ""}},
			doc: "The text with every match replaced.",
			do: func(x *state, L *glua.LState, self any) int {
				r := self.(*reRef)
				s, _ := r.subject(L, "replace")
				with := checkString(L, 3, "replace")
				x.Meter.Work(L, scanCost(s))
				L.Push(glua.LString(r.replace(L, s, with)))
				return 1
			}},
	}}).ready()
