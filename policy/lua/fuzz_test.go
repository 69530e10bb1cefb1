package lua

import (
	"errors"
	"testing"
	"time"
)

// FuzzRun compiles and runs whatever text: it ends in time, and neither the compiler nor a library panics.
func FuzzRun(f *testing.F) {
	for _, c := range miscompiled {
		f.Add(c.src)
	}
	for _, h := range hostile {
		f.Add(h.src)
	}
	for n := range 30 {
		f.Add(program(n))
	}
	f.Fuzz(func(t *testing.T, src string) {
		chunk, ps := Compile("t.lua", []byte(src), &Names{Mutable: true})
		for _, p := range ps {
			if p.Line == 0 {
				t.Errorf("no line: %s", p.Error())
			}
			p.Render()
		}
		if chunk == nil {
			return
		}
		s := NewState()
		defer s.Close()
		err := s.Run(chunk, Budget{Instructions: 20_000, Bytes: 1 << 20}, time.Now().Add(time.Minute), t.Context())
		var le *Error
		if errors.As(err, &le) && le.Kind == Panic {
			t.Errorf("%v\n%s", le, le.Traceback)
		}
		if errors.As(err, &le) && le.Kind == Deadline {
			t.Error("a small budget of instructions and octets did not end it")
		}
	})
}

// FuzzPattern matches any pattern against any text: no panic, no endless search.
func FuzzPattern(f *testing.F) {
	for _, p := range corpusPatterns {
		f.Add("pq (a) q1.r2", p)
	}
	f.Add("x", "%")
	f.Add("x", "[%")
	f.Add("x", "%f")
	f.Add("((x)", "%b()")
	f.Fuzz(func(t *testing.T, text, pattern string) {
		m := &matcher{src: text, pat: pattern, steps: 100_000}
		start, end := m.find(0, true)
		if m.err == nil && start >= 0 && (end < start || end > len(text)) {
			t.Errorf("match [%d, %d) in %d octets", start, end, len(text))
		}
		for i := range m.level {
			if c := m.caps[i]; start >= 0 && m.err == nil && c.length >= 0 && c.start+c.length > len(text) {
				t.Errorf("capture %v", c)
			}
		}
	})
}
