package lua

import (
	"sort"

	glua "github.com/yuin/gopher-lua"
)

var tableFuncs = map[string]glua.LGFunction{
	"concat": tableConcat,
	"getn":   tableGetn,
	"insert": tableInsert,
	"maxn":   tableMaxn,
	"remove": tableRemove,
	"sort":   tableSort,
	"unpack": baseUnpack,
}

func tableGetn(L *glua.LState) int {
	L.Push(glua.LNumber(L.CheckTable(1).Len()))
	return 1
}

func tableMaxn(L *glua.LState) int {
	t := L.CheckTable(1)
	n := glua.LNumber(t.MaxN())
	MeterOf(L).Charge(int64(hashLen(t)) >> 1)
	if hashLen(t) > 0 {
		t.ForEach(func(k, _ glua.LValue) {
			if f, ok := k.(glua.LNumber); ok && f > n {
				n = f
			}
		})
	}
	L.Push(n)
	return 1
}

func tableConcat(L *glua.LState) int {
	t, sep := L.CheckTable(1), optString(L, 2, "")
	i, j := optInt(L, 3, 1), optInt(L, 4, t.Len())
	out := builder{L: L, m: MeterOf(L)}
	out.m.Alloc(L, 16)
	for k := i; k <= j; k++ {
		v := t.RawGet(glua.LNumber(k))
		s, ok := textOf(v)
		if !ok {
			L.RaiseError("invalid value (a %s) at index %d in table for 'concat'", v.Type(), k)
		}
		out.m.Work(L, 2)
		out.put(s)
		if k < j {
			out.put(sep)
		}
	}
	return pushString(L, out.b.String())
}

// mayWrite raises for a frozen table.
func mayWrite(L *glua.LState, t *glua.LTable) {
	if StateOf(L).Frozen(t) {
		L.RaiseError("this table belongs to the file and serves every connection: it cannot be written after loading")
	}
}

func tableInsert(L *glua.LState) int {
	t := L.CheckTable(1)
	n := t.Len()
	switch L.GetTop() {
	case 2:
		rawSet(L, t, glua.LNumber(n+1), L.Get(2))
		return 0
	case 3:
	default:
		L.RaiseError("wrong number of arguments to 'insert'")
	}
	pos := checkInt(L, 2)
	if pos < 1 {
		L.ArgError(2, "position out of bounds")
	}
	if pos > n || n+1 >= maxArrayIndex {
		rawSet(L, t, glua.LNumber(pos), L.Get(3))
		return 0
	}
	mayWrite(L, t)
	m := MeterOf(L)
	m.Charge(int64(n-pos) >> 4)
	length, _ := arrayLen(t)
	growArray(L, m, t, length+1)
	t.Insert(pos, L.Get(3))
	return 0
}

func tableRemove(L *glua.LState) int {
	t := L.CheckTable(1)
	n := t.Len()
	pos := optInt(L, 2, n)
	if pos < 1 || pos > n {
		return 0
	}
	mayWrite(L, t)
	MeterOf(L).Charge(int64(n-pos) >> 4)
	L.Push(t.Remove(pos))
	return 1
}

// sorter sorts a copy, so that a comparator that changes the table harms only its own result. Go's sort takes O(n log n)
// comparisons however the comparator lies.
type sorter struct {
	L    *glua.LState
	less *glua.LFunction
	vals []glua.LValue
}

func (s *sorter) Len() int      { return len(s.vals) }
func (s *sorter) Swap(i, j int) { s.vals[i], s.vals[j] = s.vals[j], s.vals[i] }

func (s *sorter) Less(i, j int) bool {
	a, b := s.vals[i], s.vals[j]
	L := s.L
	if s.less != nil {
		L.Push(s.less)
		L.Push(a)
		L.Push(b)
		L.Call(2, 1)
		r := glua.LVAsBool(L.Get(-1))
		L.Pop(1)
		return r
	}
	m := MeterOf(L)
	m.Work(L, 4)
	switch x := a.(type) {
	case glua.LNumber:
		if y, ok := b.(glua.LNumber); ok {
			return x < y
		}
	case glua.LString:
		if y, ok := b.(glua.LString); ok {
			m.Charge(int64(min(len(x), len(y))) >> 5)
			return x < y
		}
	}
	return L.LessThan(a, b)
}

func tableSort(L *glua.LState) int {
	t := L.CheckTable(1)
	s := &sorter{L: L}
	if L.Get(2) != glua.LNil {
		s.less = L.CheckFunction(2)
	}
	mayWrite(L, t)
	n := t.Len()
	MeterOf(L).Alloc(L, int64(n)*slotBytes)
	s.vals = make([]glua.LValue, n)
	for i := range s.vals {
		s.vals[i] = t.RawGetInt(i + 1)
		if s.vals[i] == glua.LNil {
			L.RaiseError("cannot sort: value %d of the table is nil", i+1)
		}
	}
	sort.Sort(s)
	for i, v := range s.vals {
		rawSet(L, t, glua.LNumber(i+1), v)
	}
	return 0
}
