package proxy

import (
	"bytes"
	"errors"
	"fmt"
	"iter"
	"strings"
	"testing"
)

// decoded is what a decoder made of some octets.
type decoded struct {
	out                     string
	end                     bool
	rest                    string // behind the end
	eol                     int
	bare, doubtful, tooLong bool
}

// decodeIn feeds in by pieces that end at each index of cuts.
func decodeIn(t testing.TB, d *decoder, in string, cuts ...int) (r decoded) {
	t.Helper()
	var out bytes.Buffer
	emit := func(b []byte) error { out.Write(b); return nil }
	at := 0
	for _, cut := range append(cuts, len(in)) {
		used, end, err := d.Next([]byte(in[at:cut]), emit)
		if err != nil {
			t.Fatal(err)
		}
		at += used
		if end {
			r.end, r.rest = true, in[at:]
			break
		}
		if at != cut {
			t.Fatalf("%q: used %d of %d without an end", in, at, cut)
		}
	}
	r.out, r.eol, r.bare, r.doubtful, r.tooLong = out.String(), d.EOL, d.Bare, d.Doubtful, d.TooLong
	return r
}

// The body as it stands behind DATA, and what is made of it. Each is fed whole
// and cut at each point.
func TestDecode(t *testing.T) {
	for _, tc := range []struct {
		in   string
		want decoded
	}{
		{"a\r\n.\r\nQUIT", decoded{out: "a\r\n", end: true, rest: "QUIT"}},
		{".\r\n", decoded{end: true}},
		{"\r\n.\r\n", decoded{out: "\r\n", end: true}},
		{"a\r\n..b\r\n.\r\n", decoded{out: "a\r\n.b\r\n", end: true}},
		{"a\r\n.b\r\n.\r\n", decoded{out: "a\r\nb\r\n", end: true}},
		{"..\r\n.\r\n", decoded{out: ".\r\n", end: true}},
		{"a.\r\n.\r\n", decoded{out: "a.\r\n", end: true}},
		{"no end", decoded{out: "no end"}},
		{"a\r\n.", decoded{out: "a\r\n"}},
		{"a\r\n.\r", decoded{out: "a\r\n"}},
		{"a\r", decoded{out: "a"}},
		{"a\x00\xff\r\n.\r\n", decoded{out: "a\x00\xff\r\n", end: true}},

		// Not the end: the forms of SMTP smuggling (CVE-2023-51764 and on).
		{"a\n.\nMAIL\r\n.\r\n", decoded{out: "a\r\n\r\nMAIL\r\n", end: true, eol: 2}},
		{"a\n.\r\nMAIL\r\n.\r\n", decoded{out: "a\r\n\r\nMAIL\r\n", end: true, eol: 1}},
		{"a\r\n.\nMAIL\r\n.\r\n", decoded{out: "a\r\n\r\nMAIL\r\n", end: true, eol: 1}},
		{"a\r\n.\r\r\nMAIL\r\n.\r\n", decoded{out: "a\r\n \r\nMAIL\r\n", end: true, eol: 1}},
		{"a\r.\rMAIL\r\n.\r\n", decoded{out: "a . MAIL\r\n", end: true, eol: 2}},
		{"a\r.\r\nMAIL\r\n.\r\n", decoded{out: "a .\r\nMAIL\r\n", end: true, eol: 1}},
		{"a\r\n.\rMAIL\r\n.\r\n", decoded{out: "a\r\n MAIL\r\n", end: true, eol: 1}},
		{"a\x00\r\n\x00.\r\n.\r\n", decoded{out: "a\x00\r\n\x00.\r\n", end: true}},
		{"a\r\n.\x00\r\nb\r\n.\r\n", decoded{out: "a\r\n\x00\r\nb\r\n", end: true}},

		// The end, since CR LF . CR LF is there; but some see none here.
		{"a\r\r\n.\r\nMAIL", decoded{out: "a \r\n", end: true, rest: "MAIL", eol: 1, doubtful: true}},
		{"a\r\r\r\n.\r\nMAIL", decoded{out: "a  \r\n", end: true, rest: "MAIL", eol: 2, doubtful: true}},
		{"\r\r\n.\r\n", decoded{out: " \r\n", end: true, eol: 1, doubtful: true}},
		{"a\r\n.\r\r\n.\r\nMAIL", decoded{out: "a\r\n \r\n", end: true, rest: "MAIL", eol: 1, doubtful: true}},
		// Not doubtful: every reader agrees.
		{"a\n\r\n.\r\n", decoded{out: "a\r\n\r\n", end: true, eol: 1}},
		{"a\r\r\nb\r\n.\r\n", decoded{out: "a \r\nb\r\n", end: true, eol: 1}},
		{"a\n\n\nb\n\r\n.\r\n", decoded{out: "a\r\n\r\n\r\nb\r\n\r\n", end: true, eol: 4}},
		{"a\rb\r\n.\r\n", decoded{out: "a b\r\n", end: true, eol: 1}},
	} {
		if got := decodeIn(t, newDecoder(bareNormalize, 0), tc.in); got != tc.want {
			t.Errorf("%q\n got %+v\nwant %+v", tc.in, got, tc.want)
		}
		for i := range tc.in {
			if got := decodeIn(t, newDecoder(bareNormalize, 0), tc.in, i); got != tc.want {
				t.Errorf("%q, cut at %d\n got %+v\nwant %+v", tc.in, i, got, tc.want)
			}
			for j := i; j < len(tc.in); j++ {
				if got := decodeIn(t, newDecoder(bareNormalize, 0), tc.in, i, j); got != tc.want {
					t.Errorf("%q, cut at %d and %d\n got %+v\nwant %+v", tc.in, i, j, got, tc.want)
				}
			}
		}
		rejecting := tc.want
		rejecting.bare = tc.want.eol > 0
		if got := decodeIn(t, newDecoder(bareReject, 0), tc.in); got != rejecting {
			t.Errorf("reject: %q\n got %+v\nwant %+v", tc.in, got, rejecting)
		}
	}
}

func TestDecodeTooLong(t *testing.T) {
	for in, want := range map[string]bool{
		"123456789\r\n.\r\n":          false,
		"1234567890\r\n.\r\n":         false,
		"12345678901\r\n.\r\n":        true,
		"12345678901":                 true,
		"..23456789a\r\n.\r\n":        false,
		"12345\r\n12345\r\n.\r\n":     false,
		"123456789\r0\r\n.\r\n":       true,
		"1234567\n1234567\r\n.\r\n":   false,
		"a\r\n12345678901\r\n.\r\n":   true,
		"12345678\r\r\n1234\r\n.\r\n": false,
	} {
		for i := range in {
			if got := decodeIn(t, newDecoder(bareNormalize, 10), in, i).tooLong; got != want {
				t.Errorf("%q, cut at %d: %v", in, i, got)
			}
		}
	}
}

// Every string over the octets that matter, of up to seven of them: whatever
// is cut, whatever came, the result is the same, holds no stray CR or LF, and
// the end is where CR LF . CR LF is and nowhere else.
func TestDecodeExhaustive(t *testing.T) {
	for in := range everyString("\r\n.x", 7) {
		checkDecode(t, in)
	}
}

// everyString yields every string over some octets of up to most of them.
func everyString(octets string, most int) iter.Seq[string] {
	return func(yield func(string) bool) {
		buf := make([]byte, most)
		for n := range most + 1 {
			total := 1
			for range n {
				total *= len(octets)
			}
			for k := range total {
				for i, v := 0, k; i < n; i, v = i+1, v/len(octets) {
					buf[i] = octets[v%len(octets)]
				}
				if !yield(string(buf[:n])) {
					return
				}
			}
		}
	}
}

func checkDecode(t *testing.T, in string) {
	t.Helper()
	whole := decodeIn(t, newDecoder(bareNormalize, 0), in)
	for i := 1; i < len(in); i++ {
		if got := decodeIn(t, newDecoder(bareNormalize, 0), in, i); got != whole {
			t.Fatalf("%q, cut at %d\n got %+v\nwhole %+v", in, i, got, whole)
		}
	}
	// The DATA line's CR LF counts.
	at := strings.Index("\r\n"+in, "\r\n.\r\n")
	if whole.end != (at >= 0) {
		t.Fatalf("%q: end %v, CR LF . CR LF at %d", in, whole.end, at)
	}
	if whole.end && whole.rest != in[at+3:] {
		t.Fatalf("%q: rest %q", in, whole.rest)
	}
	if stray := strings.ReplaceAll(whole.out, "\r\n", ""); strings.ContainsAny(stray, "\r\n") {
		t.Fatalf("%q: stray CR or LF in %q", in, whole.out)
	}
	if whole.eol == 0 && whole.end {
		if got := encode(t, whole.out, len(whole.out)); got != in[:at+3] && !unstuffs(in[:at+3]) {
			t.Fatalf("%q goes on as %q", in, got)
		}
	}
}

// unstuffs reports whether a line begins with a single dot that no encoder
// would have written; the decoder takes it away (RFC 5321 4.5.2).
func unstuffs(in string) bool {
	for line := range strings.SplitSeq(in, "\r\n") {
		if strings.HasPrefix(line, ".") && !strings.HasPrefix(line, "..") && line != "." {
			return true
		}
	}
	return false
}

func TestDecodeEmitError(t *testing.T) {
	bad := errors.New("spool full")
	for _, in := range []string{"abc\r\n", "a\nb", "a\rb", ".x\r\n"} {
		_, _, err := newDecoder(bareNormalize, 0).Next([]byte(in), func([]byte) error { return bad })
		if err != bad {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	for _, s := range []string{"a\r\n.\r\n", "a\n.\nb\r\n.\r\n", "a\r\r\n.\r\nQUIT\r\n", "a\r\n.\r\r\n", "..a\r\n...\r\n"} {
		f.Add([]byte(s), uint16(3), uint16(5))
	}
	f.Fuzz(func(t *testing.T, in []byte, i, j uint16) {
		s := string(in)
		cut := []int{int(i) % (len(s) + 1), int(j) % (len(s) + 1)}
		if cut[0] > cut[1] {
			cut[0], cut[1] = cut[1], cut[0]
		}
		checkDecode(t, s)
		whole, split := decodeIn(t, newDecoder(bareNormalize, 20), s), decodeIn(t, newDecoder(bareNormalize, 20), s, cut...)
		if whole != split {
			t.Errorf("cut at %v:\nwhole %+v\nsplit %+v", cut, whole, split)
		}
		checkEncode(t, whole.out)
	})
}

// benchBody is a message of about size octets as it comes behind DATA.
func benchBody(size int) []byte {
	var b bytes.Buffer
	for i := 0; b.Len() < size; i++ {
		fmt.Fprintf(&b, "%06d The quick brown fox jumps over the lazy dog, as it does in every text.\r\n", i)
	}
	b.WriteString(".\r\n")
	return b.Bytes()
}

func BenchmarkDecode(b *testing.B) {
	in := benchBody(lineBuffer)
	n := 0
	emit := func(p []byte) error { n += len(p); return nil }
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		d := decoder{}
		if _, end, _ := d.Next(in, emit); !end {
			b.Fatal("no end")
		}
	}
}
