package script

import (
	glua "github.com/yuin/gopher-lua"
)

// conn.data and msg.data travel between states, so they hold plain values and
// tables of them, nothing that has a VM, a lock or a file behind it.
const (
	maxDataDepth = 8
	maxData      = 64 << 10 // octets, by a simple count
)

// checkData looks at what a hook left in the tables it touched. If something
// cannot stay, the rule has failed, and the table is as empty as before any
// rule: half of what was meant is worse than nothing.
func (x *state) checkData() error {
	var err error
	if x.msg != nil {
		err = x.msg.data.check(x, "msg.data")
	}
	if connErr := x.conn.data.check(x, "conn.data"); connErr != nil {
		err = connErr
	}
	return err
}

// data is one of the two tables.
type data struct {
	table   *glua.LTable // nil until it is asked for
	touched bool         // it was given out in this call
	calls   uint8        // that touched it
}

// value gives the table out.
func (d *data) value() glua.LValue {
	if d.table == nil {
		d.table = nowhere.NewTable()
	}
	d.touched = true
	return d.table
}

func (d *data) check(x *state, name string) error {
	if !d.touched {
		return nil
	}
	d.touched = false
	w := dataWalk{x: x, left: maxData}
	if at, why := w.table(d.table, name, 1); why != "" {
		d.table = nil
		return x.fail("%s %s", at, why)
	}
	if d.calls++; d.calls == 0 { // a Lua table never forgets a key; a copy has those that are left
		d.table = copyData(d.table, 0)
	}
	return nil
}

type dataWalk struct {
	x    *state
	left int
}

// table walks t and returns the first place that cannot stay, and why.
func (w *dataWalk) table(t *glua.LTable, name string, depth int) (at, why string) {
	switch {
	case depth > maxDataDepth:
		return name, "lies deeper than 8 tables"
	case t.Metatable != glua.LNil:
		return name, "has a metatable; only plain tables can be kept"
	}
	w.left -= 64
	var own []glua.LValue // keys whose table belongs to the file
	t.ForEach(func(k, v glua.LValue) {
		if why != "" {
			return
		}
		here := name + "." + clip(k.String(), 40)
		if at, why = w.value(k, here); why != "" {
			return
		}
		sub, ok := v.(*glua.LTable)
		if !ok {
			at, why = w.value(v, here)
			return
		}
		if at, why = w.table(sub, here, depth+1); why == "" && w.x.Frozen(sub) {
			own = append(own, k)
		}
	})
	// A table of the file serves every connection of this state, and only of
	// this state: what is kept is a copy.
	for _, k := range own {
		t.RawSet(k, copyData(t.RawGet(k).(*glua.LTable), 0))
	}
	return at, why
}

func (w *dataWalk) value(v glua.LValue, name string) (at, why string) {
	switch v := v.(type) {
	case glua.LString:
		w.left -= len(v) + 16
	case glua.LNumber, glua.LBool:
		w.left -= 16
	default:
		return name, "is a " + v.Type().String() + "; only text, numbers, booleans and tables of them can be kept"
	}
	if w.left < 0 {
		return name, "is too much: all of it may have 64 KiB"
	}
	return "", ""
}

// copyData copies a table that checkTable has passed, or one of the file.
func copyData(t *glua.LTable, depth int) *glua.LTable {
	if t == nil || depth > maxDataDepth {
		return nil
	}
	c := nowhere.NewTable()
	t.ForEach(func(k, v glua.LValue) {
		if sub, ok := v.(*glua.LTable); ok {
			if sub := copyData(sub, depth+1); sub != nil {
				c.RawSet(k, sub)
			}
			return
		}
		c.RawSet(k, v)
	})
	return c
}
