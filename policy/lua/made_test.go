package lua

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	glua "github.com/yuin/gopher-lua"
)

// What is charged for a table is what it takes, at most a third less: a script
// that may use 16 MiB cannot take a hundred.
func TestTablesAreCharged(t *testing.T) {
	keys := make([]string, 40)
	for i := range keys {
		keys[i] = fmt.Sprintf("key%d", i)
	}
	script := func(body string) func(*State) func() {
		return func(s *State) func() {
			chunk, ps := Compile("t.lua", []byte(body), &Names{Known: map[string][]string{"make": nil}})
			if Refuses(ps) {
				t.Fatal(ps)
			}
			return func() {
				if err := s.Run(chunk, Budget{Instructions: 1e9, Bytes: 1 << 40}, time.Time{}, nil); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	host := func(make func(L *glua.LState)) func(*State) func() {
		return func(s *State) func() {
			s.L.SetGlobal("make", s.L.NewFunction(func(L *glua.LState) int {
				for range 1000 {
					make(L)
				}
				return 0
			}))
			return script("make()")(s)
		}
	}
	list := func(n int) func(*State) func() {
		return host(func(L *glua.LState) {
			table := NewList(L, n)
			for i := range n {
				table.RawSetInt(i+1, glua.LTrue)
			}
		})
	}
	record := func(n int) func(*State) func() {
		return host(func(L *glua.LState) {
			table := NewRecord(L, n)
			for _, k := range keys[:n] {
				table.RawSetString(k, glua.LTrue)
			}
		})
	}
	for name, prepare := range map[string]func(*State) func(){
		"list of 0":         list(0),
		"list of 3":         list(3),
		"list of 40":        list(40),
		"record of 0":       record(0),
		"record of 1":       record(1),
		"record of 8":       record(8),
		"record of 9":       record(9),
		"record of 40":      record(40),
		"constructor":       script("for i = 1, 1000 do local t = { a = 1, b = 2 } end"),
		"key set later":     script("for i = 1, 1000 do local t = {} t.a = 1 end"),
		"keys set later":    script("for i = 1, 100 do local t = {} for j = 1, 100 do t['k' .. j] = 1 end end"),
		"a key of a list":   host(func(L *glua.LState) { rawSet(L, NewList(L, 2), glua.LString("a"), glua.LTrue) }),
		"a key of a record": host(func(L *glua.LState) { rawSet(L, NewRecord(L, 0), glua.LString("a"), glua.LTrue) }),
		"indices set later": script("for i = 1, 1000 do local t = {} t[1] = 1 t[2] = 2 end"),
	} {
		s := NewState()
		run := prepare(s)
		run() // what is made once
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		run()
		runtime.ReadMemStats(&after)
		_, charged := s.Meter.Used()
		made := int64(after.TotalAlloc - before.TotalAlloc)
		if charged < made*2/3 || charged > made*2 {
			t.Errorf("%s: %d octets charged, %d made", name, charged, made)
		}
		s.Close()
	}
}
