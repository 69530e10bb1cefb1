package script

import (
	"errors"
	"math"
	"strconv"
	"time"

	glua "github.com/yuin/gopher-lua"
)

// valueFunctions declare counters, caches, patterns and metrics.
var valueFunctions = []*function{
	{name: "counter", top: true,
		params:  []param{{"name", "string", "Its name; the same in every version of the policy."}, {"ttl", "string", `How long a key counts from its first add: "10m", "1d".`}},
		returns: []param{{"", "Counter", ""}},
		doc:     "Counts by key.",
		do: func(x *state, L *glua.LState) int {
			d := x.declareTimed(L, "counter")
			L.Push(counterClass.userdata(&counterRef{x, d}))
			return 1
		}},
	{name: "cache", top: true,
		params:  []param{{"name", "string", "Its name; the same in every version of the policy."}, {"ttl", "string", `How long a value is kept: "10m", "1d".`}},
		returns: []param{{"", "Cache", ""}},
		doc:     "Keeps values by key, for all connections.",
		do: func(x *state, L *glua.LState) int {
			d := x.declareTimed(L, "cache")
			L.Push(cacheClass.userdata(&cacheRef{x, d}))
			return 1
		}},
	{name: "re", top: true,
		params:  []param{{"pattern", "string", "RE2 syntax; write it in [[...]] or [=[...]=]."}},
		returns: []param{{"", "Re", ""}},
		doc:     "A regular expression whose time is linear in the text: safe for what strangers send.",
		do: func(x *state, L *glua.LState) int {
			text := checkString(L, 1, "re")
			d := x.declare(L, "re", text, "", func() (any, error) {
				if len(text) > 10_000 {
					return nil, errors.New("the pattern is longer than 10000 octets")
				}
				return newPattern(text)
			})
			L.Push(reClass.userdata(&reRef{x, d.(*pattern)}))
			return 1
		}},
	{name: "metric", top: true,
		params:  []param{{"name", "string", "Lower case letters, digits and _; scraped as moongate_script_NAME_total."}},
		returns: []param{{"", "Metric", ""}},
		doc:     "A counter for Prometheus.",
		do: func(x *state, L *glua.LState) int {
			name := checkString(L, 1, "metric")
			if !metricName.MatchString(name) {
				L.RaiseError("metric: a name is lower case letters, digits and '_'")
			}
			d := x.declare(L, "metric", name, "", func() (any, error) { return x.p.shared.metrics.open(name), nil })
			L.Push(metricClass.userdata(&metricRef{x, d.(*scriptMetric)}))
			return 1
		}},
}

// timed is a counter or a cache.
type timed struct {
	name string
	ttl  time.Duration
}

func (x *state) declareTimed(L *glua.LState, kind string) *timed {
	name := checkName(L, 1, kind)
	text := checkString(L, 2, kind)
	ttl, err := parseDuration(text)
	if err != nil {
		L.RaiseError("%s: %s", kind, err.Error())
	}
	d := x.declare(L, kind, name, text, func() (any, error) { return &timed{name, ttl}, nil })
	return d.(*timed)
}

type counterRef struct {
	x *state
	*timed
}

func (c *counterRef) in() *state { return c.x.alive() }

// add adds n to a key; n is 0 to read.
func (c *counterRef) add(L *glua.LState, what string, n int64) int {
	x := c.x
	x.Meter.Charge(50)
	stored := n
	if x.rule.desc.Shadow { // changes nothing
		stored = 0
	}
	total, err := x.store(L).Add(x.Meter.Context(), x.s.World.Now(), c.name, checkKey(L, 2, what), stored, c.ttl)
	total += n - stored
	if err != nil {
		L.Push(glua.LNil)
		L.Push(glua.LString(err.Error()))
		return 2
	}
	L.Push(glua.LNumber(total))
	return 1
}

var counterClass = (&class{name: "counter", typ: "Counter", doc: "Counts by key, by counter().",
	members: []*member{
		{name: "add", params: []param{{"key", "string", "Without regard to case."}, {"n", "integer?", "By default 1."}}, returns: []param{{"total", "integer?", "nil if the store is away, then an error text."}},
			doc: "Adds n and returns the total.",
			do: func(x *state, L *glua.LState, self any) int {
				return self.(*counterRef).add(L, "add", optCount(L, 3, "add", 1))
			}},
		{name: "get", params: []param{{"key", "string", ""}}, returns: []param{{"total", "integer?", "0 if nothing was counted."}},
			doc: "The total.",
			do:  func(x *state, L *glua.LState, self any) int { return self.(*counterRef).add(L, "get", 0) }},
	}}).ready()

type cacheRef struct {
	x *state
	*timed
}

func (c *cacheRef) in() *state { return c.x.alive() }

// set stores a value and reports whether it was.
func (c *cacheRef) set(L *glua.LState, value []byte, onlyNew bool) (bool, error) {
	x := c.x
	x.Meter.Charge(50)
	if x.rule.desc.Shadow { // changes nothing
		old, err := x.store(L).Get(x.Meter.Context(), x.s.World.Now(), c.name, checkKey(L, 2, "cache"))
		return old == nil || !onlyNew, err
	}
	return x.store(L).Set(x.Meter.Context(), x.s.World.Now(), c.name, checkKey(L, 2, "cache"), value, c.ttl, onlyNew)
}

var cacheClass = (&class{name: "cache", typ: "Cache", doc: "Values by key, by cache().",
	members: []*member{
		{name: "get", params: []param{{"key", "string", "Without regard to case."}}, returns: []param{{"value", "string|number|boolean|nil", "nil if there is none; then an error text if the store is away."}},
			doc: "Reads a value.",
			do: func(x *state, L *glua.LState, self any) int {
				c := self.(*cacheRef)
				x.Meter.Charge(50)
				b, err := x.store(L).Get(x.Meter.Context(), x.s.World.Now(), c.name, checkKey(L, 2, "get"))
				if err != nil {
					L.Push(glua.LNil)
					L.Push(glua.LString(err.Error()))
					return 2
				}
				x.Meter.Alloc(L, int64(len(b))+16)
				L.Push(unpackValue(b))
				return 1
			}},
		{name: "set", params: []param{{"key", "string", ""}, {"value", "string|number|boolean", "Text has at most 64 KiB."}}, returns: []param{{"stored", "boolean", ""}},
			doc: "Keeps a value, whatever was there.",
			do: func(x *state, L *glua.LState, self any) int {
				b, ok := packValue(L.Get(3))
				if !ok {
					L.RaiseError("set: a value is text, a number or a boolean, and here it is %s", typeName(L.Get(3)))
				}
				if len(b) > 64<<10 {
					L.RaiseError("set: a value has at most 64 KiB")
				}
				stored, err := self.(*cacheRef).set(L, b, false)
				L.Push(glua.LBool(stored && err == nil))
				return 1
			}},
		{name: "add", params: []param{{"key", "string", ""}}, returns: []param{{"new", "boolean", "false, too, if the store is away."}},
			doc: "Notes a key; true if it was not there.",
			do: func(x *state, L *glua.LState, self any) int {
				stored, err := self.(*cacheRef).set(L, []byte("b1"), true)
				L.Push(glua.LBool(stored && err == nil))
				return 1
			}},
	}}).ready()

// packValue writes a value with a letter for its type before it.
func packValue(v glua.LValue) ([]byte, bool) {
	switch v := v.(type) {
	case glua.LString:
		return append([]byte{'s'}, v...), true
	case glua.LNumber:
		return strconv.AppendFloat([]byte{'n'}, float64(v), 'g', -1, 64), true
	case glua.LBool:
		if v {
			return []byte("b1"), true
		}
		return []byte("b0"), true
	}
	return nil, false
}

func unpackValue(b []byte) glua.LValue {
	if len(b) == 0 {
		return glua.LNil
	}
	switch b[0] {
	case 's':
		return glua.LString(b[1:])
	case 'n':
		f, err := strconv.ParseFloat(string(b[1:]), 64)
		if err != nil {
			f = math.NaN()
		}
		return glua.LNumber(f)
	}
	return glua.LBool(string(b) == "b1")
}
