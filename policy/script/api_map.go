package script

import (
	"strings"

	glua "github.com/yuin/gopher-lua"
)

var mapFunction = &function{name: "map", top: true,
	params:  []param{{"source", "string", `"texthash:FILE", "cidr:FILE" or "pcre:FILE": a Postfix table source in the policy directory.`}},
	returns: []param{{"", "Map", ""}},
	doc:     "Looks keys up as Postfix would. The file reloads by itself. Expressions are RE2: no look-around.",
	do: func(x *state, L *glua.LState) int {
		source := checkString(L, 1, "map")
		typ, file, ok := strings.Cut(source, ":")
		kind, known := tableKinds[typ]
		if !ok || !known {
			L.RaiseError(`map: a source is "texthash:FILE", "cidr:FILE" or "pcre:FILE", not %q`, clip(source, 80))
		}
		d := x.declare(L, "map", source, "", func() (any, error) { return x.p.shared.lists.open(file, kind) })
		L.Push(mapClass.userdata(&listRef{x, d.(*list)}))
		return 1
	}}

var mapClass = (&class{name: "map", typ: "Map", doc: "A table of keys and values, by map().",
	members: []*member{
		{name: "get", params: []param{{"key", "string?", "nil is in no table."}}, returns: []param{{"value", "string?", "nil if the key is not there."}},
			doc: "The value of a key; in pcre and cidr tables of the first entry that matches.",
			do: func(x *state, L *glua.LState, self any) int {
				if L.Get(2) == glua.LNil {
					L.Push(glua.LNil)
					return 1
				}
				key := checkString(L, 2, "get")
				t := (*self.(*listRef).now.Load()).(table)
				if len(key) > 64<<10 {
					L.RaiseError("get: a key has at most 64 KiB")
				}
				cost := int64(20)
				if _, ok := t.(textEntries); !ok {
					cost += int64(t.len()) * int64(10+len(key)/4)
				}
				x.Meter.Work(L, cost)
				v, ok := t.get(key)
				if !ok {
					L.Push(glua.LNil)
					return 1
				}
				L.Push(x.text(L, v))
				return 1
			}},
	}}).ready()
