package script

import (
	glua "github.com/yuin/gopher-lua"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/lua"
)

// class describes objects that scripts get from us, "msg". They are strict:
// what is not in the table cannot be read, nothing can be written that has no
// set.
type class struct {
	name, typ, doc string // name is how messages call it, typ the stub's class
	members        []*member
	index          map[string]*member
	meta           *glua.LTable
}

// member is a field (get, perhaps set) or a method (do).
type member struct {
	name    string
	typ     string // fields
	params  []param
	returns []param
	doc     string
	from    policy.Hook // methods: the first stage that has it
	only    bool        // and no other
	planned string

	get func(x *state, self any) glua.LValue
	set func(x *state, L *glua.LState, self any, v glua.LValue)
	do  func(x *state, L *glua.LState, self any) int

	fn glua.LValue // the method
}

// object is what the userdata of a class holds: it knows the state it may be
// used in, nil outside of a hook.
type object interface{ in() *state }

// metatables of the classes belong to no state: Go functions find theirs by
// the object, so an object of a session travels between states.
var nowhere = glua.NewState(glua.Options{SkipOpenLibs: true, RegistrySize: 128, CallStackSize: 8})

// ready makes the metatable.
func (c *class) ready() *class {
	c.index = make(map[string]*member, len(c.members))
	for _, m := range c.members {
		c.index[m.name] = m
		if m.do != nil {
			m.fn = nowhere.NewFunction(c.method(m))
		}
	}
	c.meta = nowhere.NewTable()
	c.meta.RawSetString("__index", c.lookup())
	c.meta.RawSetString("__newindex", nowhere.NewFunction(c.write))
	c.meta.RawSetString("__metatable", glua.LFalse)
	c.meta.RawSetString("__tostring", nowhere.NewFunction(func(L *glua.LState) int {
		L.Push(glua.LString(c.name))
		return 1
	}))
	return c
}

// lookup is what finds members: a function, or where there are methods only a
// table of them, which the VM looks up three times faster.
func (c *class) lookup() glua.LValue {
	methods := nowhere.NewTable()
	for _, m := range c.members {
		if m.do == nil {
			return nowhere.NewFunction(c.read)
		}
		methods.RawSetString(m.name, m.fn)
	}
	unknown := nowhere.NewTable()
	unknown.RawSetString("__index", nowhere.NewFunction(func(L *glua.LState) int {
		name := L.Get(2).String()
		L.RaiseError("%s has no field '%s'%s", c.name, name, didYouMean(name, c.names()))
		return 0
	}))
	methods.Metatable = unknown
	return methods
}

// self is the object of a call, or a raised error.
func (c *class) self(L *glua.LState, what string) (any, *state) {
	ud, ok := L.Get(1).(*glua.LUserData)
	if !ok || ud.Metatable != glua.LValue(c.meta) {
		L.RaiseError("%s is called with a colon: %s:%s(...)", what, c.name, what)
	}
	x := ud.Value.(object).in()
	if x == nil {
		if h, _ := lua.StateOf(L).Host.(*state); h != nil && h.loading != nil {
			L.RaiseError("%s:%s works in a hook: nothing is asked while a file is loaded", c.name, what)
		}
		L.RaiseError("this %s is used outside of its hook", c.name)
	}
	return ud.Value, x
}

func (c *class) read(L *glua.LState) int {
	ud := L.Get(1).(*glua.LUserData)
	name, ok := L.Get(2).(glua.LString)
	m := c.index[string(name)]
	if !ok || m == nil {
		L.RaiseError("%s has no field '%s'%s", c.name, L.Get(2).String(), didYouMean(string(name), c.names()))
	}
	x := ud.Value.(object).in()
	if x == nil {
		L.RaiseError("this %s is used outside of its hook", c.name)
	}
	switch {
	case m.planned != "":
		L.RaiseError("%s.%s is not supported yet (%s)", c.name, m.name, m.planned)
	case m.do != nil:
		L.Push(m.fn)
	default:
		L.Push(m.get(x, ud.Value))
	}
	return 1
}

func (c *class) write(L *glua.LState) int {
	ud := L.Get(1).(*glua.LUserData)
	name := L.Get(2).String()
	m := c.index[name]
	switch x := ud.Value.(object).in(); {
	case m == nil:
		L.RaiseError("%s has no field '%s'%s", c.name, name, didYouMean(name, c.names()))
	case x == nil:
		L.RaiseError("this %s is used outside of its hook", c.name)
	case m.set == nil:
		L.RaiseError("%s.%s cannot be written%s", c.name, name, c.instead(name))
	default:
		m.set(x, L, ud.Value, L.Get(3))
	}
	return 0
}

// instead names the method that does what the author meant.
func (c *class) instead(name string) string {
	switch {
	case name == "subject":
		return `: use msg:set_header("Subject", ...)`
	case c.index["set_"+name] != nil:
		return ": use " + c.name + ":set_" + name + "(...)"
	case name == "rcpts":
		return ": use msg:add_rcpt(...) and msg:remove_rcpt(...)"
	case name == "data":
		return ": it is a table, and its fields can: " + c.name + ".data.x = ..."
	case name == "address":
		return ": use msg:replace_rcpt(rcpt, ...)"
	}
	return ""
}

func (c *class) method(m *member) glua.LGFunction {
	what := c.name + ":" + m.name
	return func(L *glua.LState) int {
		self, x := c.self(L, m.name)
		if x.s != nil && x.hook < m.from {
			L.RaiseError("%s is there from '%s' on, and this is '%s'", what, m.from, stageName(x.hook))
		}
		return m.do(x, L, self)
	}
}

func (c *class) names() []string {
	names := make([]string, len(c.members))
	for i, m := range c.members {
		names[i] = m.name
	}
	return names
}

// userdata makes the Lua value of an object.
func (c *class) userdata(value object) *glua.LUserData {
	return &glua.LUserData{Value: value, Metatable: c.meta}
}

func stageName(h policy.Hook) string {
	if h == policy.Done {
		return "log"
	}
	return h.String()
}

func didYouMean(name string, known []string) string {
	if s := closest(name, known); s != "" {
		return " (did you mean '" + s + "'?)"
	}
	return ""
}
