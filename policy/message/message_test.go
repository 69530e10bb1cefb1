package message

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"testing"
)

// Where the header ends. Postfix agrees: the same table runs through one in
// the whole-program tests.
func TestHeaderEnd(t *testing.T) {
	tests := []struct {
		name, in string
		fields   []string // names; "" for an mbox line
		rest     string
	}{
		{"plain", "A: 1\r\nB: 2\r\n\r\nbody\r\n", []string{"A", "B"}, "\r\nbody\r\n"},
		{"folded", "A: 1\r\n 2\r\n\t3\r\nB:\r\n\r\n", []string{"A", "B"}, "\r\n"},
		{"blank before the colon", "X-A : 1\r\nX-B\t: 2\r\n\r\n", []string{"X-A", "X-B"}, "\r\n"},
		{"no empty line", "A: 1\r\nno field\r\n", []string{"A"}, "no field\r\n"},
		{"mbox line first", "From a@b Mon\r\nA: 1\r\n\r\n", []string{"", "A"}, "\r\n"},
		{"quoted mbox line first", ">From a@b Mon\r\nA: 1\r\n\r\n", []string{"", "A"}, "\r\n"},
		{"mbox line later", "A: 1\r\nFrom a@b Mon\r\nB: 2\r\n\r\n", []string{"A"}, "From a@b Mon\r\nB: 2\r\n\r\n"},
		{"begins with a blank", " A: 1\r\nB: 2\r\n\r\n", nil, " A: 1\r\nB: 2\r\n\r\n"},
		{"no header", "\r\nbody\r\n", nil, "\r\nbody\r\n"},
		{"nothing", "", nil, ""},
		{"no name", ": x\r\n", nil, ": x\r\n"},
		{"8 bit name", "Fo\xe9: 1\r\n", nil, "Fo\xe9: 1\r\n"},
		{"blank inside a name", "A B: 1\r\n", nil, "A B: 1\r\n"},
		{"odd name", "(x)<y>@z;\"q\": 1\r\n\r\n", []string{"(x)<y>@z;\"q\""}, "\r\n"},
		{"a line of blanks goes on", "A: 1\r\n \r\nB: 2\r\n\r\n", []string{"A", "B"}, "\r\n"},
		{"colon too far away", strings.Repeat("X", 3000) + ": 1\r\nB: 2\r\n", nil, strings.Repeat("X", 3000) + ": 1\r\nB: 2\r\n"},
		{"dot", "A: 1\r\n.\r\n", []string{"A"}, ".\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, n := ParseHeader([]byte(tt.in))
			var names []string
			for _, f := range h.Fields() {
				names = append(names, f.Name())
			}
			if strings.Join(names, "|") != strings.Join(tt.fields, "|") || len(names) != len(tt.fields) {
				t.Errorf("fields %q, want %q", names, tt.fields)
			}
			if rest := tt.in[n:]; rest != tt.rest {
				t.Errorf("rest %q, want %q", rest, tt.rest)
			}
			if got := string(h.Append(nil)); got+tt.rest != tt.in {
				t.Errorf("header is written as %q", got)
			}
			if h.Size() != n {
				t.Errorf("size %d, want %d", h.Size(), n)
			}
		})
	}
}

func TestFieldValue(t *testing.T) {
	h, _ := ParseHeader([]byte("Subject:  two  spaces\r\n  folded\r\nEmpty:\r\nX:y\r\n"))
	f, _ := h.Get("SUBJECT", 1)
	if f.Value() != "two  spaces  folded" || f.Body() != "  two  spaces\r\n  folded" {
		t.Errorf("%q %q", f.Value(), f.Body())
	}
	if f, _ := h.Get("empty", 1); f.Value() != "" {
		t.Errorf("%q", f.Value())
	}
	if _, ok := h.Get("x", 2); ok {
		t.Error("a second X")
	}
}

func TestOrigins(t *testing.T) {
	in, _ := ParseHeader([]byte("A: 1\r\nB: 1\r\nA: 2\r\n"))
	h := in.Clone()
	h.Remove("a", 1, 1)
	h.Add("A", " 3")
	h.Change("B", 1, " 9")
	var got []int
	for _, f := range h.Fields() {
		got = append(got, f.Origin())
	}
	if len(got) != 3 || got[0] != 1 || got[1] != 2 || got[2] != 0 {
		t.Errorf("origins %v", got)
	}
	if string(in.Append(nil)) != "A: 1\r\nB: 1\r\nA: 2\r\n" {
		t.Error("the clone changed its original")
	}
}

// Above mbox lines stands no field: who reads them ends the header at the next
// one.
func TestInsertBehindMbox(t *testing.T) {
	for _, at := range []int{-1, 0, 1, 2} {
		h, _ := ParseHeader([]byte("From a\r\n>From b\r\nX: 1\r\n"))
		h = h.Clone()
		h.Insert(at, "New", " n")
		if got := string(h.Append(nil)); got != "From a\r\n>From b\r\nNew: n\r\nX: 1\r\n" {
			t.Errorf("at %d: %q", at, got)
		}
	}
	h, _ := ParseHeader([]byte("From a\r\n"))
	if h.Insert(0, "New", " n"); string(h.Append(nil)) != "From a\r\nNew: n\r\n" || h.Mbox() != 1 {
		t.Errorf("%q", h.Append(nil))
	}
}

// A long header has an index; with it and without it changes do the same.
func TestChanges(t *testing.T) {
	names := []string{"A", "b", "B", "X-Long", "x-long", "C"}
	for seed := range uint64(200) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		var block strings.Builder
		if rnd.IntN(4) == 0 {
			block.WriteString("From a\r\n")
		}
		for i := range rnd.IntN(3 * long) {
			fmt.Fprintf(&block, "%s: %d\r\n", names[rnd.IntN(len(names))], i)
		}
		in, _ := ParseHeader([]byte(block.String()))
		h := in.Clone()
		var want []string // the fields
		for _, f := range h.Fields() {
			want = append(want, string(f.Raw()))
		}
		nth := func(name string, n int) int {
			for i, f := range want {
				if got, _, ok := strings.Cut(f, ":"); ok && strings.EqualFold(got, name) {
					if n--; n == 0 {
						return i
					}
				}
			}
			return -1
		}
		for step := range 100 {
			name, n, value := names[rnd.IntN(len(names))], 1+rnd.IntN(30), fmt.Sprintf(" %d", step)
			field := name + ":" + value + "\r\n"
			switch rnd.IntN(5) {
			case 0:
				h.Add(name, value)
				want = append(want, field)
			case 1:
				h.Insert(n, name, value)
				want = slices.Insert(want, max(h.Mbox(), min(n, len(want))), field)
			case 2:
				i := nth(name, n)
				if h.Change(name, n, value) != (i >= 0) {
					t.Fatalf("seed %d: change %s[%d]", seed, name, n)
				}
				if i >= 0 {
					old, _, _ := strings.Cut(want[i], ":")
					want[i] = old + ":" + value + "\r\n"
				}
			default:
				last := n + rnd.IntN(20)*rnd.IntN(2)
				there := nth(name, last) >= 0
				if h.Remove(name, n, last) != there {
					t.Fatalf("seed %d: remove %s[%d-%d]", seed, name, n, last)
				}
				for range last - n + 1 {
					if there {
						i := nth(name, n)
						want = slices.Delete(want, i, i+1)
					}
				}
			}
			if got := string(h.Append(nil)); got != strings.Join(want, "") {
				t.Fatalf("seed %d, step %d:\n%s\nwant\n%s", seed, step, got, strings.Join(want, ""))
			}
		}
		if string(in.Append(nil)) != block.String() {
			t.Fatalf("seed %d: the clone changed its original", seed)
		}
		for i, f := range h.Fields() {
			if f.IsField() && nth(f.Name(), h.Number(f)) != i {
				t.Fatalf("seed %d: field %d is number %d of %s", seed, i, h.Number(f), f.Name())
			}
		}
	}
}

func TestCheckField(t *testing.T) {
	for _, ok := range [][2]string{{"X-A", " value"}, {"X-A", " a\r\n b"}, {"X-A", ""}, {"X", " \xe9"}} {
		if err := CheckField(ok[0], ok[1]); err != nil {
			t.Errorf("%q: %v", ok, err)
		}
	}
	for _, bad := range [][2]string{
		{"", "x"}, {"X A", "x"}, {"X:", "x"}, {"X\r\nBcc", "x"}, {"X\xe9", "x"}, {strings.Repeat("x", 77), ""},
		{"X", " a\r\nBcc: x"}, {"X", "a\n b"}, {"X", "a\r b"}, {"X", "a\r\n"}, {"X", "a\x00"}, {"X", strings.Repeat("x", 998)},
	} {
		if err := CheckField(bad[0], bad[1]); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

// Whatever the octets: header and rest are the message, and what IsHeaderLine
// says line by line is what ParseHeader does.
func FuzzParseHeader(f *testing.F) {
	f.Add([]byte("From x\r\nA: 1\r\n b\r\n\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		h, n := ParseHeader(in)
		if got := append(h.Append(nil), in[n:]...); !bytes.Equal(got, in) {
			t.Fatalf("%q becomes %q", in, got)
		}
		at, first, mbox := 0, true, true
		for at < len(in) {
			line := lineAt(in[at:])
			if !IsHeaderLine(line, first, mbox) {
				break
			}
			mbox = mbox && bytes.HasPrefix(bytes.TrimLeft(line, ">"), []byte("From "))
			first = false
			at += len(line)
		}
		if at != n {
			t.Fatalf("%q: line by line the header has %d octets, at once %d", in, at, n)
		}
	})
}

func TestSpool(t *testing.T) {
	dir := t.TempDir()
	for _, size := range []int{0, 1, chunk, 3*chunk + 7, 200_000} {
		pool := &Pool{Dir: dir, MaxMemory: 100_000, MaxBytes: 1 << 20}
		s := pool.New()
		want := make([]byte, size)
		for i := range want {
			want[i] = byte(rand.Uint32())
		}
		for rest := want; len(rest) > 0; {
			n := min(len(rest), 1+rand.IntN(5000))
			if _, err := s.Write(rest[:n]); err != nil {
				t.Fatal(err)
			}
			rest = rest[n:]
		}
		for range 2 {
			if got, err := io.ReadAll(s.Reader()); err != nil || !bytes.Equal(got, want) {
				t.Errorf("size %d: read %d octets, %v", size, len(got), err)
			}
			var b bytes.Buffer
			if n, err := s.WriteTo(&b); err != nil || n != int64(size) || !bytes.Equal(b.Bytes(), want) {
				t.Errorf("size %d: wrote %d octets, %v", size, n, err)
			}
		}
		if (s.file != nil) != (size > 100_000) {
			t.Errorf("size %d: file %v", size, s.file)
		}
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("size %d: the file has a name: %v", size, left)
		}
		if pool.InUse() != int64(size) || s.Close() != nil || pool.InUse() != 0 {
			t.Errorf("size %d: %d octets in use", size, pool.InUse())
		}
	}
	cut := (&Pool{Dir: dir}).New()
	defer cut.Close()
	if _, err := cut.Write(make([]byte, 2*chunk)); err != nil || cut.file.Truncate(10) != nil {
		t.Fatal(err)
	}
	if n, err := cut.WriteTo(io.Discard); n != 10 || err == nil {
		t.Errorf("a file that has lost its end: %d octets, %v", n, err)
	}
	if got, err := io.ReadAll(cut.Reader()); len(got) != 10 || err == nil {
		t.Errorf("the same, read: %d octets, %v", len(got), err)
	}
	pool := &Pool{Dir: dir, MaxBytes: 10}
	s := pool.New()
	defer s.Close()
	if _, err := s.Write(make([]byte, 11)); !errors.Is(err, ErrFull) {
		t.Errorf("error %v, want ErrFull", err)
	}
	if _, err := s.Write(make([]byte, 10)); err != nil {
		t.Error(err)
	}
}

// headerOf is a header of n fields.
func headerOf(n int, name func(int) string) *Header {
	var b []byte
	for i := range n {
		b = fmt.Appendf(b, "%s: some value %d\r\n", name(i), i)
	}
	h, _ := ParseHeader(b)
	return h
}

var ordinary = []string{"Received", "DKIM-Signature", "From", "To", "Subject", "Date", "Message-ID", "X-Mailer", "List-Unsubscribe", "MIME-Version"}

func BenchmarkParse(b *testing.B) {
	block := headerOf(30, func(i int) string { return ordinary[i%len(ordinary)] }).Append(nil)
	b.ReportAllocs()
	for b.Loop() {
		ParseHeader(block)
	}
}

func BenchmarkGet(b *testing.B) {
	h := headerOf(30, func(i int) string { return ordinary[i%len(ordinary)] })
	b.ReportAllocs()
	for b.Loop() {
		h.Get("message-id", 2)
	}
}

func BenchmarkEdit(b *testing.B) {
	block := headerOf(30, func(i int) string { return ordinary[i%len(ordinary)] }).Append(nil)
	b.ReportAllocs()
	for b.Loop() {
		h, _ := ParseHeader(block)
		h = h.Clone()
		h.Insert(0, "Received", " us")
		h.Change("Subject", 1, " x")
		h.Add("X-Spam", " no")
	}
}
