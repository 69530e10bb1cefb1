package lua

import glua "github.com/yuin/gopher-lua"

// What a host function gives a script as a table. LState's NewTable takes three
// kilobytes for any table, however small, and charges nothing; these take what
// a constructor in the script would, and charge it.

// NewList makes a table with room for n values, set from index 1 on. It raises
// a Lua error if the run's memory is spent.
func NewList(L *glua.LState, n int) *glua.LTable {
	MeterOf(L).Alloc(L, tableBytes+int64(n)*slotBytes)
	return L.CreateTable(n, 1)
}

// NewRecord makes a table with room for n values with strings as keys. It
// raises a Lua error if the run's memory is spent.
func NewRecord(L *glua.LState, n int) *glua.LTable {
	cost := int64(tableBytes)
	if n > 0 {
		cost += mapsBytes + int64(n)*entryBytes
	}
	MeterOf(L).Alloc(L, cost)
	return L.CreateTable(0, max(n, 1))
}
