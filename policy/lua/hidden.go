package lua

import (
	"math"
	"reflect"
	"strings"

	glua "github.com/yuin/gopher-lua"
)

// The functions behind the names that rewrite puts into a chunk. Everything that grows memory goes through them, and so
// everything that writes a table: that is how frozen tables stay as they are.

// Sizes charged for what gopher-lua allocates, measured on go1.26: an LTable with its first map header, a slot of the
// array part, an entry of the hash part (strdict, keys, k2i), the maps themselves, a closure with an upvalue.
const (
	tableBytes   = 160
	slotBytes    = 16
	arrayBytes   = 512 // the first 32 slots
	mapsBytes    = 700
	entryBytes   = 160
	closureBytes = 176
)

var hiddenFuncs = map[string]glua.LGFunction{
	hiddenConcat: concat, hiddenSet: setIndex, hiddenTable: newTable, hiddenFn: newClosure,
}

// concat is the operator "..", over any number of operands.
func concat(L *glua.LState) int {
	n := L.GetTop()
	var few [8]string
	parts := few[:0]
	total := 0
	for i := 1; i <= n; i++ {
		switch v := L.Get(i).(type) {
		case glua.LString:
			parts = append(parts, string(v))
		case glua.LNumber:
			parts = append(parts, formatNumber(float64(v)))
		default:
			L.Push(concatMeta(L, n))
			return 1
		}
		total += len(parts[i-1])
	}
	MeterOf(L).Alloc(L, int64(total)+16)
	L.Push(glua.LString(strings.Join(parts, "")))
	return 1
}

// concatMeta joins pairwise from the right, where an operand is neither string nor number, as the language says.
func concatMeta(L *glua.LState, n int) glua.LValue {
	rhs := L.Get(n)
	for i := n - 1; i >= 1; i-- {
		lhs := L.Get(i)
		l, lok := textOf(lhs)
		r, rok := textOf(rhs)
		if lok && rok {
			MeterOf(L).Alloc(L, int64(len(l)+len(r))+16)
			rhs = glua.LString(l + r)
			continue
		}
		mm := L.GetMetaField(lhs, "__concat")
		if mm == glua.LNil {
			mm = L.GetMetaField(rhs, "__concat")
		}
		if mm == glua.LNil {
			bad := lhs
			if lok {
				bad = rhs
			}
			L.RaiseError("attempt to join text with a %s value ('..')", bad.Type())
		}
		L.Push(mm)
		L.Push(lhs)
		L.Push(rhs)
		L.Call(2, 1)
		rhs = L.Get(-1)
		L.Pop(1)
	}
	return rhs
}

// textOf gives the text of a string or number.
func textOf(v glua.LValue) (string, bool) {
	switch v := v.(type) {
	case glua.LString:
		return string(v), true
	case glua.LNumber:
		return formatNumber(float64(v)), true
	}
	return "", false
}

// setIndex is t[k] = v.
func setIndex(L *glua.LState) int {
	t, ok := L.Get(1).(*glua.LTable)
	if ok && t.Metatable == glua.LNil {
		rawSet(L, t, L.Get(2), L.Get(3))
		return 0
	}
	assign(L, L.Get(1), L.Get(2), L.Get(3))
	return 0
}

// assign follows __newindex, as deep as gopher-lua itself does.
func assign(L *glua.LState, obj, key, val glua.LValue) {
	for range glua.MaxTableGetLoop {
		t, isTable := obj.(*glua.LTable)
		if isTable && t.RawGet(key) != glua.LNil {
			rawSet(L, t, key, val)
			return
		}
		mm := L.GetMetaField(obj, "__newindex")
		switch {
		case mm == glua.LNil && isTable:
			rawSet(L, t, key, val)
			return
		case mm == glua.LNil:
			L.RaiseError("attempt to set field '%s' of a %s value", keyText(key), obj.Type())
		case mm.Type() == glua.LTFunction:
			L.Push(mm)
			L.Push(obj)
			L.Push(key)
			L.Push(val)
			L.Call(3, 0)
			return
		}
		obj = mm
	}
	L.RaiseError("too many __newindex in a row")
}

func keyText(k glua.LValue) string {
	if s, ok := textOf(k); ok {
		if len(s) > 60 {
			s = s[:60] + "..."
		}
		return s
	}
	return "(" + k.Type().String() + ")"
}

// rawSet writes a table, metered, unless it is frozen.
func rawSet(L *glua.LState, t *glua.LTable, key, val glua.LValue) {
	m := MeterOf(L)
	if m.state.Frozen(t) {
		L.RaiseError("this table belongs to the file and serves every connection: it cannot be written after loading")
	}
	switch k := key.(type) {
	case glua.LNumber:
		f := float64(k)
		if math.IsNaN(f) {
			L.RaiseError("table index is NaN")
		}
		if n := int(f); f == math.Trunc(f) && n >= 1 && n < maxArrayIndex {
			growArray(L, m, t, n)
			t.RawSetInt(n, val)
			return
		}
	case glua.LString:
		growHash(L, m, t, t.RawGetString(string(k)), val)
		t.RawSetString(string(k), val)
		return
	case *glua.LNilType:
		L.RaiseError("table index is nil")
	}
	growHash(L, m, t, t.RawGet(key), val)
	t.RawSet(key, val)
}

// growArray charges what writing slot n adds: gopher-lua fills the gap up to it with nils.
func growArray(L *glua.LState, m *Meter, t *glua.LTable, n int) {
	have, room := arrayLen(t)
	if n <= have {
		return
	}
	switch {
	case room == 0:
		m.Alloc(L, max(arrayBytes, int64(n)*slotBytes))
	case n > room:
		m.Alloc(L, int64(max(n, 2*room))*slotBytes) // append copies to twice the room
	default:
		m.Charge(int64(n-have) >> 3)
	}
}

// growHash charges a new key. A deleted key is charged again: gopher-lua never forgets keys.
func growHash(L *glua.LState, m *Meter, t *glua.LTable, old, val glua.LValue) {
	if old != glua.LNil || val == glua.LNil {
		return
	}
	if hashLen(t) == 0 {
		m.Alloc(L, mapsBytes)
		return
	}
	m.Alloc(L, entryBytes)
}

// The table's parts are private to gopher-lua; their lengths are not secret to reflect. A test pins the names.
var (
	arrayField = fieldIndex("array")
	keysField  = fieldIndex("keys")
)

func fieldIndex(name string) int {
	f, ok := reflect.TypeFor[glua.LTable]().FieldByName(name)
	if !ok {
		panic("gopher-lua's LTable has no field " + name)
	}
	return f.Index[0]
}

func arrayLen(t *glua.LTable) (length, capacity int) {
	a := reflect.ValueOf(t).Elem().Field(arrayField)
	return a.Len(), a.Cap()
}

func hashLen(t *glua.LTable) int { return reflect.ValueOf(t).Elem().Field(keysField).Len() }

// newTable charges a table that a constructor has just made; one constructor is bounded by the VM's registers.
func newTable(L *glua.LState) int {
	t := L.Get(1).(*glua.LTable)
	n := int64(tableBytes)
	if _, room := arrayLen(t); room > 0 {
		n += int64(room) * slotBytes
	}
	if keys := hashLen(t); keys > 0 {
		n += mapsBytes + int64(keys)*entryBytes
	}
	MeterOf(L).Alloc(L, n)
	L.SetTop(1)
	return 1
}

// newClosure charges a function made at run time.
func newClosure(L *glua.LState) int {
	fn := L.Get(1).(*glua.LFunction)
	MeterOf(L).Alloc(L, closureBytes+int64(len(fn.Upvalues))*64)
	L.SetTop(1)
	return 1
}
