package script

import (
	"regexp"

	glua "github.com/yuin/gopher-lua"
)

type reRef struct {
	x *state
	*regexp.Regexp
}

func (r *reRef) in() *state { return r.x.alive() }

// maxReText bounds what one match reads: a match cannot be interrupted.
const maxReText = 1 << 20

// subject is the text to match, paid for. nil is no text.
func (r *reRef) subject(L *glua.LState, what string) (string, bool) {
	if L.Get(2) == glua.LNil {
		return "", false
	}
	s := checkString(L, 2, what)
	if len(s) > maxReText {
		L.RaiseError("%s: a text has at most 1 MiB", what)
	}
	r.x.Meter.Charge(int64(len(s)) + 20)
	return s, true
}

var reClass = (&class{name: "re", typ: "Re", doc: "A regular expression, by re().",
	members: []*member{
		{name: "test", params: []param{{"text", "string?", "nil never matches."}}, returns: []param{{"matches", "boolean", ""}},
			doc: "Whether it matches anywhere in the text.",
			do: func(x *state, L *glua.LState, self any) int {
				r := self.(*reRef)
				s, ok := r.subject(L, "test")
				L.Push(glua.LBool(ok && r.MatchString(s)))
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
				m := r.FindStringSubmatchIndex(s)
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
				if most := int64(len(s)+1) * int64(len(with)+1); most > maxReText*4 {
					x.Meter.Alloc(L, most)
				}
				L.Push(x.text(L, r.ReplaceAllString(s, with)))
				return 1
			}},
	}}).ready()
