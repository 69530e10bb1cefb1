package proxy

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"github.com/moongate/moongate/policy"
)

func TestReadReply(t *testing.T) {
	for _, tc := range []struct {
		in     string
		code   int
		status string
		text   string // lines joined by |
		raw    string // "" if as in
	}{
		{in: "250 2.1.0 Ok\r\n", code: 250, status: "2.1.0", text: "Ok"},
		{in: "250 Ok\r\n", code: 250, text: "Ok"},
		{in: "250\r\n", code: 250, text: ""},
		{in: "250 \r\n", code: 250, text: ""},
		{in: "250-\r\n250 x\r\n", code: 250, text: "|x"},
		{in: "354 go\r\n", code: 354, text: "go"},
		{in: "550-5.1.1 <a@b>: no\r\n550 5.1.1 such user\r\n", code: 550, status: "5.1.1", text: "<a@b>: no|such user"},
		{in: "550-5.1.1 one\r\n550 two\r\n", code: 550, status: "5.1.1", text: "one|two"},
		{in: "250-mx.example\r\n250-SIZE 100\r\n250 DSN\r\n", code: 250, text: "mx.example|SIZE 100|DSN"},
		{in: "550 10.0.0 looks like a code\r\n", code: 550, text: "10.0.0 looks like a code"},
		{in: "550 4.0.0 of another class\r\n", code: 550, text: "4.0.0 of another class"},
		{in: "550 5.1.1234 too long\r\n", code: 550, text: "5.1.1234 too long"},
		{in: "550 5.1.1\r\n", code: 550, status: "5.1.1", text: ""},
		{in: "550 5.1.1: no\r\n", code: 550, text: "5.1.1: no"},
		{in: "250 8-bit \xe9\r\n", code: 250, text: "8-bit \xe9"},
		{in: "250-a\n250 b\n", code: 250, text: "a|b", raw: "250-a\r\n250 b\r\n"},
	} {
		for _, step := range []int{0, 1} {
			r, err := readReply(newLines(&bytesConn{data: []byte(tc.in), step: step, err: io.EOF}))
			if tc.raw == "" {
				tc.raw = tc.in
			}
			if err != nil || r.Code != tc.code || policy.StatusText(r.Status) != tc.status ||
				strings.Join(r.Text, "|") != tc.text || string(r.Raw) != tc.raw {
				t.Errorf("%q: %d %q %q %q, %v", tc.in, r.Code, policy.StatusText(r.Status), r.Text, r.Raw, err)
			}
		}
	}
}

func TestReadReplyMalformed(t *testing.T) {
	many := strings.Repeat("250-x\r\n", maxReplyLines)
	for name, in := range map[string]string{
		"no code":          "hello\r\n",
		"empty":            "\r\n",
		"two digits":       "25 ok\r\n",
		"four digits":      "2500 ok\r\n",
		"class 1":          "150 ok\r\n",
		"class 6":          "650 ok\r\n",
		"class 0":          "050 ok\r\n",
		"no separator":     "250ok\r\n",
		"codes differ":     "250-ok\r\n550 no\r\n",
		"codes differ, 2":  "250-ok\r\n251 no\r\n",
		"continuation":     "250-ok\r\n more\r\n",
		"NUL":              "250 o\x00k\r\n",
		"CR":               "250 o\rk\r\n",
		"CR CR LF":         "250 ok\r\r\n",
		"101 lines":        many + "250 x\r\n",
		"a line too long":  "250 " + strings.Repeat("x", lineBuffer) + "\r\n",
		"too many octets":  strings.Repeat("250-"+strings.Repeat("x", 2000)+"\r\n", 40) + "250 x\r\n",
		"a negative code":  "-50 ok\r\n",
		"an SSH banner":    "SSH-2.0-x\r\n",
		"an HTTP response": "HTTP/1.1 400 Bad Request\r\n",
	} {
		r, err := readReply(newLines(&bytesConn{data: []byte(in), err: io.EOF}))
		if !errors.Is(err, errMalformed) || !r.IsZero() {
			t.Errorf("%s: %v, %v", name, r, err)
		}
	}
	if r, err := readReply(newLines(&bytesConn{data: []byte(many[:7*99] + "250 x\r\n"), err: io.EOF})); err != nil || len(r.Text) != 100 {
		t.Errorf("100 lines: %d, %v", len(r.Text), err)
	}
	for _, in := range []string{"", "250", "250 ok", "250-ok\r\n", "250 ok\r"} {
		if r, err := readReply(newLines(&bytesConn{data: []byte(in), err: io.EOF})); err != io.EOF {
			t.Errorf("%q: %v, %v", in, r, err)
		}
	}
}

func FuzzReadReply(f *testing.F) {
	f.Add([]byte("250-5.1.1 a\r\n250 5.1.1 b\r\n421 c\r\n"))
	f.Add([]byte("250-a\r\n251 b\r\n"))
	f.Fuzz(func(t *testing.T, in []byte) {
		l := newLines(&bytesConn{data: in, step: 5, err: io.EOF})
		r, err := readReply(l)
		if err != nil {
			return
		}
		if r.Code < 200 || r.Code > 599 || len(r.Text) == 0 || len(r.Raw) > maxReplyOctets+lineBuffer {
			t.Fatalf("%q: %+v", in, r)
		}
		// What is relayed is one reply of that code for whoever reads it, and
		// nothing more.
		l = newLines(&bytesConn{data: r.Raw, err: io.EOF})
		l.strict = true
		again, err := readReply(l)
		if err != nil || again.Code != r.Code || string(again.Raw) != string(r.Raw) || l.Buffered() != 0 {
			t.Fatalf("%q is relayed as %q, read as %+v, %v", in, r.Raw, again, err)
		}
	})
}

func BenchmarkReadReply(b *testing.B) {
	in := []byte("250 2.1.0 Ok\r\n")
	c := &bytesConn{}
	l := newLines(c)
	b.ReportAllocs()
	for b.Loop() {
		c.data = in
		if _, err := readReply(l); err != nil {
			b.Fatal(err)
		}
	}
}

func TestCaps(t *testing.T) {
	r := policy.Reply{Text: []string{"mx.example greets you", "SIZE 1000", "size 2000", "8bitmime", "AUTH=LOGIN", "AUTH PLAIN login", "", "DSN "}}
	c := parseCaps(r)
	if got := fmt.Sprint(c.Lines()); got != "[SIZE 1000 8BITMIME AUTH PLAIN login DSN]" {
		t.Error(got)
	}
	if c.Size() != 1000 || !c.Has("DSN") || c.Has("MX.EXAMPLE") || (*Caps)(nil).Has("DSN") || NewCaps("SIZE").Size() != 0 || NewCaps("SIZE x").Size() != 0 {
		t.Errorf("%+v", c)
	}
	for _, tc := range []struct {
		all  []*Caps
		want string
	}{
		{nil, "[]"},
		{[]*Caps{c}, "[SIZE 1000 8BITMIME AUTH PLAIN login DSN]"},
		{[]*Caps{c, nil}, "[]"},
		{[]*Caps{c, NewCaps("DSN", "SIZE 500", "AUTH LOGIN GSSAPI")}, "[SIZE 500 AUTH login DSN]"},
		{[]*Caps{c, NewCaps("SIZE 0", "AUTH GSSAPI")}, "[SIZE 1000]"},
		{[]*Caps{c, NewCaps("SIZE", "8BITMIME")}, "[SIZE 1000 8BITMIME]"},
		{[]*Caps{NewCaps("SIZE 0"), NewCaps("SIZE")}, "[SIZE]"},
	} {
		if got := fmt.Sprint(Intersect(tc.all...).Lines()); got != tc.want {
			t.Errorf("%s, want %s", got, tc.want)
		}
	}
}
