package lua

import (
	"testing"
	"time"

	glua "github.com/yuin/gopher-lua"
)

// run compiles and runs a program and gives its first result as text.
func run(t testing.TB, src string) (string, error) {
	t.Helper()
	chunk, problems := Compile("t.lua", []byte(src), &Names{Mutable: true})
	if Refuses(problems) {
		t.Fatalf("%.80q: %s", src, problems[0].Error())
	}
	s := NewState()
	defer s.Close()
	s.files[chunk.File] = struct{}{}
	v, err := s.Call(s.L.NewFunctionFromProto(chunk.Proto), Budget{}, time.Now().Add(10*time.Second), t.Context())
	if err != nil {
		return "", err
	}
	return text(v), nil
}

// function gives v if it is a Lua function.
func (s *State) function(v glua.LValue) *glua.LFunction {
	fn, _ := v.(*glua.LFunction)
	return fn
}

func itoa(n int) string { return formatNumber(float64(n)) }
