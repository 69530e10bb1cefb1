package lua

import glua "github.com/yuin/gopher-lua"

var pairsNext, ipairsNext = Builtin(baseNext), Builtin(ipairsStep)

func basePairs(L *glua.LState) int {
	t := L.CheckTable(1)
	L.Push(pairsNext)
	L.Push(t)
	L.Push(glua.LNil)
	return 3
}

func baseIpairs(L *glua.LState) int {
	t := L.CheckTable(1)
	L.Push(ipairsNext)
	L.Push(t)
	L.Push(glua.LNumber(0))
	return 3
}

func baseNext(L *glua.LState) int {
	k, v := L.CheckTable(1).Next(L.Get(2))
	if k == glua.LNil {
		L.Push(glua.LNil)
		return 1
	}
	L.Push(k)
	L.Push(v)
	return 2
}

func ipairsStep(L *glua.LState) int {
	i := L.Get(2).(glua.LNumber) + 1
	v := L.CheckTable(1).RawGet(i)
	if v == glua.LNil {
		return 0
	}
	L.Push(i)
	L.Push(v)
	return 2
}
