package proxy

import (
	"bytes"
	"io"
	"strings"
	"testing"
)

// encode writes s in pieces of at most step octets, and ends it.
func encode(t testing.TB, s string, step int) string {
	t.Helper()
	var out bytes.Buffer
	e := encoder{w: &out}
	for p := []byte(s); len(p) > 0; {
		n := min(max(step, 1), len(p))
		if k, err := e.Write(p[:n]); k != n || err != nil {
			t.Fatal(k, err)
		}
		p = p[n:]
	}
	if strings.Contains("\r\n"+out.String(), "\r\n.\r\n") {
		t.Fatalf("%q: the final dot is there before End: %q", s, out.String())
	}
	if err := e.End(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestEncode(t *testing.T) {
	for in, want := range map[string]string{
		"":                    ".\r\n",
		"a\r\n":               "a\r\n.\r\n",
		"a":                   "a\r\n.\r\n",
		"\r\n":                "\r\n.\r\n",
		".\r\n":               "..\r\n.\r\n",
		".a\r\n..b\r\nc.\r\n": "..a\r\n...b\r\nc.\r\n.\r\n",
		"a\r\n.":              "a\r\n..\r\n.\r\n",
		// What the decoder and the edits should not have let through.
		"a\n.\nb":       "a\r\n..\r\nb\r\n.\r\n",
		"a\r\r\n.\r\n":  "a \r\n..\r\n.\r\n",
		"a\r":           "a \r\n.\r\n",
		"a\rb\r\n":      "a b\r\n.\r\n",
		"a\r.\r\nb\r\n": "a .\r\nb\r\n.\r\n",
		"\n":            "\r\n.\r\n",
		"\r.":           " .\r\n.\r\n",
	} {
		for step := 1; step <= len(in)+1; step++ {
			if got := encode(t, in, step); got != want {
				t.Errorf("%q by %d: %q, want %q", in, step, got, want)
			}
		}
	}
}

// checkEncode: what the encoder writes ends once, at its end, holds no stray
// CR or LF, and is read as the same message by the decoder.
func checkEncode(t *testing.T, msg string) {
	t.Helper()
	wire := encode(t, msg, len(msg))
	if i := strings.Index("\r\n"+wire, "\r\n.\r\n"); i != len(wire)-3 {
		t.Fatalf("%q: the end of %q is at %d", msg, wire, i)
	}
	if strings.ContainsAny(strings.ReplaceAll(wire, "\r\n", ""), "\r\n") {
		t.Fatalf("%q: stray CR or LF in %q", msg, wire)
	}
	for step := 1; step < min(len(msg), 9); step++ {
		if got := encode(t, msg, step); got != wire {
			t.Fatalf("%q by %d: %q, whole %q", msg, step, got, wire)
		}
	}
	got := decodeIn(t, newDecoder(bareReject, 0), wire)
	if !got.end || got.rest != "" || got.bare || got.doubtful {
		t.Fatalf("%q: %q is read as %+v", msg, wire, got)
	}
	if clean := !strings.ContainsAny(strings.ReplaceAll(msg, "\r\n", ""), "\r\n"); clean {
		if msg != "" && !strings.HasSuffix(msg, "\r\n") {
			msg += "\r\n"
		}
		if got.out != msg {
			t.Fatalf("%q came back as %q", msg, got.out)
		}
	}
}

func FuzzEncode(f *testing.F) {
	for _, s := range []string{"", ".", "a\r\n.\r\n", "a\n.\n", "a\r\r\n.\r\n", "\r"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, msg []byte) { checkEncode(t, string(msg)) })
}

func BenchmarkEncode(b *testing.B) {
	in := bytes.TrimSuffix(benchBody(lineBuffer), []byte(".\r\n"))
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		e := encoder{w: io.Discard}
		if _, err := e.Write(in); err != nil {
			b.Fatal(err)
		}
	}
}
