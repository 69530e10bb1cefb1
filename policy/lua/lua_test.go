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
		t.Fatalf("%s\n%s", src, problems[0].Render())
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

func text(v glua.LValue) string {
	if s, ok := textOf(v); ok {
		return s
	}
	return v.String()
}

// TestPrograms are the programs that gopher-lua gets wrong, and what they give.
func TestPrograms(t *testing.T) {
	for _, c := range []struct{ name, src, want string }{
		{"and of calls into itself", `local function f(x) return x end local ok=true; ok = ok and f(false) and f(true); return ok`, "false"},
		{"swap", `local a, b = 1, 2; a, b = b, a; return a .. b`, "21"},
		{"fibonacci", `local a, b = 1, 2; a, b = b, a+b; return a .. b`, "23"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := run(t, c.src)
			if err != nil || got != c.want {
				t.Errorf("%s\ngives %q, %v, want %q", c.src, got, err, c.want)
			}
		})
	}
}
