package script

import (
	"mime"
	"slices"
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
			h := x.header(L, "header")
			x.walk(L, h)
			f, ok := h.Get(checkString(L, 2, "header"), 1)
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
	{name: "insert_header", from: policy.Mail, params: []param{nameParam, valueParam, {"position", "integer?", "0, the default, is the top, or below the lines \"From ...\" of an mbox if the message begins with such."}},
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
			x.walk(L, h)
			n := h.Count(name)
			if n == 0 {
				x.do(L, "set_header", policy.Edit{Kind: policy.AddHeader, Name: name, Value: value})
				return 0
			}
			if n > 1 {
				x.do(L, "set_header", policy.Edit{Kind: policy.RemoveHeader, Name: name, Index: 2, Last: n})
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
			x.Meter.Work(x.L, int64(len(f.Raw()))>>3)
			return x.text(x.L, decode(f.Value()))
		})},
	{name: "header_from", typ: "string?", doc: "The one address of the one From field, canonical; nil if there is none or more than one.",
		get: msg(func(x *state, m *msgVars) glua.LValue { return textOrNil(x.headerFrom(m).Address) })},
	{name: "header_from_domain", typ: "string?", doc: "Its domain.",
		get: msg(func(x *state, m *msgVars) glua.LValue { return textOrNil(x.headerFrom(m).Domain) })},
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

// walk pays for a look at each field of the header, which is as long as a
// stranger wants. A step takes a nanosecond or two, an instruction some fifty.
func (x *state) walk(L *glua.LState, h *message.Header) { x.Meter.Work(L, int64(h.Len())>>5) }

// headerFrom reads the From field, and pays for it.
func (x *state) headerFrom(m *msgVars) policy.Path {
	h := m.tx.Header()
	if h != nil {
		x.walk(x.L, h)
		if f, ok := h.Get("From", 1); ok {
			x.Meter.Work(x.L, int64(len(f.Raw()))>>3)
		}
	}
	return headerFrom(h)
}

func (x *state) removeHeader(L *glua.LState, self any) int {
	name := checkString(L, 2, "remove_header")
	h := x.header(L, "remove_header")
	x.walk(L, h)
	first, last := 1, h.Count(name)
	switch v := L.Get(3).(type) {
	case *glua.LNilType:
	case glua.LNumber:
		if i := int(v); i >= 1 && i <= last && glua.LNumber(i) == v {
			first, last = i, i
		} else {
			last = 0
		}
	case *glua.LFunction:
		L.Push(glua.LNumber(x.removeThose(L, name, v)))
		return 1
	default:
		L.RaiseError("remove_header: argument 2 is a number or a function, and here it is %s", typeName(v))
	}
	if last > 0 {
		x.do(L, "remove_header", policy.Edit{Kind: policy.RemoveHeader, Name: name, Index: first, Last: last})
	}
	L.Push(glua.LNumber(max(0, last-first+1)))
	return 1
}

// removeThose removes the fields for which a function says true. It may change
// the header itself meanwhile.
func (x *state) removeThose(L *glua.LState, name string, says *glua.LFunction) (n int) {
	var all []*message.Field
	for _, f := range x.header(L, "remove_header").All(name) {
		all = append(all, f)
	}
	x.Meter.Alloc(L, int64(len(all))*16)
	doomed := make(map[*message.Field]bool)
	for _, f := range all {
		L.Push(says)
		L.Push(x.text(L, f.Value()))
		L.Call(1, 1)
		if glua.LVAsBool(L.Get(-1)) {
			x.Meter.Alloc(L, 32)
			doomed[f] = true
		}
		L.Pop(1)
	}
	// Those in a row go at once, from the last, so that the others keep their
	// numbers.
	var rows [][2]int
	h, at := x.header(L, "remove_header"), 0
	x.walk(L, h)
	for _, f := range h.All(name) {
		at++
		if !doomed[f] {
			continue
		}
		if n++; len(rows) > 0 && rows[len(rows)-1][1] == at-1 {
			rows[len(rows)-1][1] = at
		} else {
			rows = append(rows, [2]int{at, at})
		}
	}
	for _, r := range slices.Backward(rows) {
		x.do(L, "remove_header", policy.Edit{Kind: policy.RemoveHeader, Name: name, Index: r[0], Last: r[1]})
	}
	return n
}

// field is one header field in the hand of a script. Edits of others do not
// move it. One that was removed can still be read.
type field struct {
	x *state
	*message.Field
}

func (f *field) in() *state { return f.x.alive() }

// place is the field's number among those of its name, 0 if it is gone.
func (f *field) place(L *glua.LState) int {
	h := f.x.msg.tx.Header()
	f.x.walk(L, h)
	return h.Number(f.Field)
}

// edit does something to the field, which must still be there.
func (f *field) edit(L *glua.LState, what string, e policy.Edit) {
	e.Name, e.Index = f.Name(), f.place(L)
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
			n := f.place(L)
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
	x.walk(L, h)
	x.Meter.Alloc(L, int64(h.Len())*8+128)
	found := make([]*message.Field, 0, h.Len())
	for _, f := range h.Fields() {
		if f.IsField() && (name == "" || f.Is(name)) {
			found = append(found, f)
		}
	}
	edits := len(x.msg.tx.Edits)
	L.Push(L.NewFunction(func(L *glua.LState) int {
		if x.s == nil {
			L.RaiseError("msg:headers is used outside of its hook")
		}
		for len(found) > 0 {
			f := &field{x: x, Field: found[0]}
			found = found[1:]
			if len(x.msg.tx.Edits) != edits && f.place(L) == 0 {
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

// maxDecode is how much of a text is decoded, more than any that is read by
// somebody: for a word that does not end the decoder looks at all that follows,
// and a stranger may send a hundred thousand of these.
const maxDecode = 16 << 10

func decode(s string) string {
	if !strings.Contains(s, "=?") {
		return s
	}
	rest := ""
	if len(s) > maxDecode {
		i := strings.LastIndexByte(s[:maxDecode], ' ') + 1
		if i == 0 {
			i = maxDecode
		}
		s, rest = s[:i], s[i:]
	}
	d, err := decoder.DecodeHeader(s)
	if err != nil {
		return s + rest
	}
	return d + rest
}
