package script

import (
	"mime"
	"strings"

	glua "github.com/yuin/gopher-lua"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/message"
)

var (
	nameParam  = param{"name", "string", "The field's name, in any case."}
	valueParam = param{"value", "string", "Its value. What is no ASCII is encoded (RFC 2047) unless the message is SMTPUTF8; long values are folded; a line end in it is an error."}
)

// headerMembers read and change the header.
var headerMembers = []*member{
	{name: "header", from: policy.Headers, params: []param{nameParam}, returns: []param{{"value", "string?", "The first field of that name, unfolded; nil if there is none."}},
		doc: "Reads a header field.",
		do: func(x *state, L *glua.LState, self any) int {
			f, ok := x.header(L, "header").Get(checkString(L, 2, "header"), 1)
			if !ok {
				L.Push(glua.LNil)
				return 1
			}
			L.Push(x.text(L, f.Value()))
			return 1
		}},
	{name: "headers", from: policy.Headers, params: []param{{"name", "string?", "Without it: every field."}},
		returns: []param{{"next", "fun(): Header?", ""}},
		doc:     "Goes over the fields of that name: `for h in msg:headers(\"Received\") do ... end`.",
		do:      (*state).headers},
	{name: "add_header", from: policy.Mail, params: []param{nameParam, valueParam}, doc: "Adds a field behind the last.",
		do: func(x *state, L *glua.LState, self any) int {
			name := checkString(L, 2, "add_header")
			x.do(L, "add_header", policy.Edit{Kind: policy.AddHeader, Name: name, Value: x.value(L, "add_header", name, 3)})
			return 0
		}},
	{name: "insert_header", from: policy.Mail, params: []param{nameParam, valueParam, {"position", "integer?", "0, the default, is the top."}},
		doc: "Puts a field on top, or at a position.",
		do: func(x *state, L *glua.LState, self any) int {
			name := checkString(L, 2, "insert_header")
			at := 0
			if n, ok := L.Get(4).(glua.LNumber); ok && n >= 0 {
				at = int(min(n, 1e6))
			} else if L.Get(4) != glua.LNil {
				L.RaiseError("insert_header: position %s", L.Get(4).String())
			}
			x.do(L, "insert_header", policy.Edit{Kind: policy.InsertHeader, Name: name, Index: at, Value: x.value(L, "insert_header", name, 3)})
			return 0
		}},
	{name: "set_header", from: policy.Headers, params: []param{nameParam, valueParam},
		doc: "Gives the message exactly one field of that name: the first one is changed, others are removed; if there is none it is added.",
		do: func(x *state, L *glua.LState, self any) int {
			name := checkString(L, 2, "set_header")
			value := x.value(L, "set_header", name, 3)
			h := x.header(L, "set_header")
			n := h.Count(name)
			if n == 0 {
				x.do(L, "set_header", policy.Edit{Kind: policy.AddHeader, Name: name, Value: value})
				return 0
			}
			for i := n; i > 1; i-- {
				x.do(L, "set_header", policy.Edit{Kind: policy.RemoveHeader, Name: name, Index: i})
			}
			x.do(L, "set_header", policy.Edit{Kind: policy.ChangeHeader, Name: name, Index: 1, Value: value})
			return 0
		}},
	{name: "remove_header", from: policy.Headers,
		params:  []param{nameParam, {"which", "integer|fun(value: string): boolean?", "The how-manieth (1 is the first), or a function that says true for those to remove; without it: all."}},
		returns: []param{{"removed", "integer", "How many."}},
		doc:     "Removes header fields.",
		do:      (*state).removeHeader},
	{name: "subject", typ: "string?", doc: "The Subject, decoded; nil if there is none or the header is not here yet.",
		get: msg(func(x *state, m *msgVars) glua.LValue {
			if m.tx.Header() == nil {
				return glua.LNil
			}
			f, ok := m.tx.Header().Get("Subject", 1)
			if !ok {
				return glua.LNil
			}
			return x.text(x.L, decode(f.Value()))
		})},
	{name: "header_from", typ: "string?", doc: "The one address of the one From field, canonical; nil if there is none or more than one.",
		get: msg(func(x *state, m *msgVars) glua.LValue { return textOrNil(headerFrom(m.tx.Header()).Address) })},
	{name: "header_from_domain", typ: "string?", doc: "Its domain.",
		get: msg(func(x *state, m *msgVars) glua.LValue { return textOrNil(headerFrom(m.tx.Header()).Domain) })},
	{name: "header_from_count", typ: "integer?", doc: "How many From fields there are; nil before the header is here.",
		get: msg(func(x *state, m *msgVars) glua.LValue {
			if m.tx.Header() == nil {
				return glua.LNil
			}
			return glua.LNumber(m.tx.Header().Count("From"))
		})},
}

// header is the header as it goes on; it is here from the stage headers on.
func (x *state) header(L *glua.LState, what string) *message.Header {
	h := x.msg.tx.Header()
	if h == nil {
		L.RaiseError("%s: this message ended before its header was here", what)
	}
	return h
}

// text makes a Lua value of mail content, metered.
func (x *state) text(L *glua.LState, s string) glua.LValue {
	x.Meter.Alloc(L, int64(len(s))+16)
	return glua.LString(s)
}

// value reads a header value and makes it what stands behind the colon.
func (x *state) value(L *glua.LState, what, name string, n int) string {
	v := checkString(L, n, what)
	x.Meter.Charge(int64(len(v)))
	s, err := fieldBody(name, v, x.msg.tx.SMTPUTF8())
	if err != nil {
		L.RaiseError("%s: %s", what, err.Error())
	}
	return s
}

func (x *state) removeHeader(L *glua.LState, self any) int {
	name := checkString(L, 2, "remove_header")
	h := x.header(L, "remove_header")
	n := h.Count(name)
	var which []int
	switch v := L.Get(3).(type) {
	case *glua.LNilType:
		for i := 1; i <= n; i++ {
			which = append(which, i)
		}
	case glua.LNumber:
		if i := int(v); i >= 1 && i <= n && glua.LNumber(i) == v {
			which = []int{i}
		}
	case *glua.LFunction:
		for i := 1; i <= n; i++ {
			f, _ := h.Get(name, i)
			L.Push(v)
			L.Push(x.text(L, f.Value()))
			L.Call(1, 1)
			if glua.LVAsBool(L.Get(-1)) {
				which = append(which, i)
			}
			L.Pop(1)
		}
	default:
		L.RaiseError("remove_header: argument 2 is a number or a function, and here it is %s", typeName(v))
	}
	for i := len(which) - 1; i >= 0; i-- { // from the last, so that the others keep their numbers
		x.do(L, "remove_header", policy.Edit{Kind: policy.RemoveHeader, Name: name, Index: which[i]})
	}
	L.Push(glua.LNumber(len(which)))
	return 1
}

// field is one header field in the hand of a script. It is found again by the
// octets it is made of, so edits of others do not move it. One that was removed
// can still be read.
type field struct {
	x *state
	*message.Field
}

func (f *field) in() *state { return f.x.alive() }

// place is the field's number among those of its name, 0 if it is gone.
func (f *field) place() int {
	mine := f.Raw()
	n := 0
	for _, g := range f.x.msg.tx.Header().Fields() {
		if !g.IsField() || !g.Is(f.Name()) {
			continue
		}
		n++
		if &g.Raw()[0] == &mine[0] {
			return n
		}
	}
	return 0
}

// edit does something to the field, which must still be there.
func (f *field) edit(L *glua.LState, what string, e policy.Edit) {
	e.Name, e.Index = f.Name(), f.place()
	if e.Index == 0 {
		L.RaiseError("%s: this header field was removed or changed", what)
	}
	f.x.do(L, what, e)
}

func fieldMember(get func(message.Field) string) func(*state, any) glua.LValue {
	return func(x *state, self any) glua.LValue { return x.text(x.L, get(*self.(*field).Field)) }
}

var headerClass = (&class{name: "header", typ: "Header", doc: "One header field, from msg:headers().",
	members: []*member{
		{name: "name", typ: "string", doc: "As it is written.", get: fieldMember(message.Field.Name)},
		{name: "value", typ: "string", doc: "Unfolded.", get: fieldMember(message.Field.Value)},
		{name: "raw", typ: "string", doc: "As it came, with name, folds and the final line end.",
			get: fieldMember(func(f message.Field) string { return string(f.Raw()) })},
		{name: "remove", doc: "Removes the field.", do: func(x *state, L *glua.LState, self any) int {
			self.(*field).edit(L, "remove", policy.Edit{Kind: policy.RemoveHeader})
			return 0
		}},
		{name: "set", params: []param{valueParam}, doc: "Changes its value.", do: func(x *state, L *glua.LState, self any) int {
			f := self.(*field)
			n := f.place()
			f.edit(L, "set", policy.Edit{Kind: policy.ChangeHeader, Value: x.value(L, "set", f.Name(), 2)})
			if g, ok := x.msg.tx.Header().Get(f.Name(), n); ok {
				f.Field = g
			}
			return 0
		}},
	}}).ready()

func (x *state) headers(L *glua.LState, self any) int {
	h := x.header(L, "headers")
	name := ""
	if L.Get(2) != glua.LNil {
		name = checkString(L, 2, "headers")
	}
	var found []*message.Field
	for _, f := range h.Fields() {
		if f.IsField() && (name == "" || f.Is(name)) {
			found = append(found, f)
		}
	}
	x.Meter.Alloc(L, int64(len(found))*64+128)
	L.Push(L.NewFunction(func(L *glua.LState) int {
		if x.s == nil {
			L.RaiseError("msg:headers is used outside of its hook")
		}
		for len(found) > 0 {
			f := &field{x: x, Field: found[0]}
			found = found[1:]
			if f.place() == 0 {
				continue // removed meanwhile
			}
			x.Meter.Alloc(L, 96)
			L.Push(headerClass.userdata(f))
			return 1
		}
		L.Push(glua.LNil)
		return 1
	}))
	return 1
}

// decoder reads encoded words. A charset that it does not know leaves the word
// as it is.
var decoder mime.WordDecoder

func decode(s string) string {
	if !strings.Contains(s, "=?") {
		return s
	}
	d, err := decoder.DecodeHeader(s)
	if err != nil {
		return s
	}
	return d
}
