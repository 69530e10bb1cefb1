package script

import (
	"fmt"
	"strings"

	glua "github.com/yuin/gopher-lua"
)

// listRef is a list in a state.
type listRef struct {
	x *state
	*list
}

func (l *listRef) in() *state { return l.x.alive() }

var listClass = (&class{name: "list", typ: "List", doc: "A set of words or domains.",
	members: []*member{
		{name: "has", params: []param{{"word", "string?", "nil is in no list."}}, returns: []param{{"found", "boolean", ""}},
			doc: "Whether it is in the list, without regard to case.",
			do: func(x *state, L *glua.LState, self any) int {
				if L.Get(2) == glua.LNil {
					L.Push(glua.LFalse)
					return 1
				}
				word := checkString(L, 2, "has")
				x.Meter.Charge(int64(len(word)>>4) + 10)
				L.Push(glua.LBool(self.(*listRef).has(word)))
				return 1
			}},
	}}).ready()

// listed is what stands in a table.
func listed(L *glua.LState, t *glua.LTable, what string) (words []string) {
	if L.GetTop() > 1 {
		L.RaiseError("%s: one table, or the entries one by one", what)
	}
	for i := 1; i <= t.Len(); i++ {
		word, ok := t.RawGetInt(i).(glua.LString)
		if !ok {
			L.RaiseError("%s: entry %d of the table is text, and here it is %s", what, i, typeName(t.RawGetInt(i)))
		}
		words = append(words, string(word))
	}
	return words
}

// list declares a list of a kind: a file in the policy directory, or its
// entries where the kind takes them.
func (x *state) list(L *glua.LState, what string, kind listKind) int {
	var words []string
	if t, ok := L.Get(1).(*glua.LTable); ok && kind != wordSet {
		words = listed(L, t, what)
	} else {
		for i := 1; i <= L.GetTop(); i++ {
			words = append(words, checkString(L, i, what))
		}
	}
	if len(words) == 0 {
		L.RaiseError("%s of nothing", what)
	}
	if kind == domainSet {
		for _, w := range words {
			if file := x.p.shared.lists.isFile(w); file && len(words) > 1 {
				L.RaiseError("domains: %q is a file of the policy directory: one file, or the domains one by one", clip(w, 80))
			} else if !file && strings.HasSuffix(w, ".txt") { // no domain ends so
				L.RaiseError("domains: there is no file %q in the policy directory", clip(w, 80))
			}
		}
	}
	isFile := kind == wordSet || len(words) == 1 && x.p.shared.lists.isFile(words[0])
	if kind == wordSet && len(words) > 1 {
		L.RaiseError(`list: one file; for a few words write a table: local bad = { ["a@example.com"] = true }`)
	}
	d := x.declare(L, what, strings.Join(words, "\n"), "", func() (any, error) {
		if isFile {
			return x.p.shared.lists.open(words[0], kind)
		}
		l, err := fixedList(kind, words)
		if err != nil && kind == ipSet && len(words) == 1 {
			err = fmt.Errorf("%q is no address, no network and no file of the policy directory", clip(words[0], 80))
		}
		return l, err
	})
	c := listClass
	if kind == ipSet {
		c = ipsetClass
	}
	L.Push(c.userdata(&listRef{x, d.(*list)}))
	return 1
}
