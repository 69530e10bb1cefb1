package wire

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/emersion/go-milter"
	"github.com/google/go-cmp/cmp"
)

var modifications = []struct {
	data string
	want Modification
}{
	{"+<a@example.net>\x00", Modification{Code: milter.ActAddRcpt, Addr: "<a@example.net>"}},
	{"2<a@example.net>\x00NOTIFY=NEVER ORCPT=rfc822;b@c\x00", Modification{Code: ActAddRcptArgs, Addr: "<a@example.net>", Args: []string{"NOTIFY=NEVER", "ORCPT=rfc822;b@c"}}},
	{"-<a@example.net>\x00", Modification{Code: milter.ActDelRcpt, Addr: "<a@example.net>"}},
	{"e<>\x00", Modification{Code: milter.ActChangeFrom, Addr: "<>"}},
	{"e<a@b>\x00RET=HDRS\x00", Modification{Code: milter.ActChangeFrom, Addr: "<a@b>", Args: []string{"RET=HDRS"}}},
	{"hX-A\x00 v\x00", Modification{Code: milter.ActAddHeader, Name: "X-A", Value: " v"}},
	{"i\x00\x00\x00\x00X-A\x00v\x00", Modification{Code: milter.ActInsertHeader, Name: "X-A", Value: "v"}},
	{"m\x00\x00\x00\x02X-A\x00\x00", Modification{Code: milter.ActChangeHeader, Index: 2, Name: "X-A"}},
	{"bhello\r\n", Modification{Code: milter.ActReplBody, Body: []byte("hello\r\n")}},
	{"qwhy\x00", Modification{Code: milter.ActQuarantine, Reason: "why"}},
}

func TestModification(t *testing.T) {
	for _, tc := range modifications {
		got, ok, err := DecodeModification(Frame{tc.data[0], []byte(tc.data[1:])})
		if !ok || err != nil {
			t.Errorf("%q: %v, %v", tc.data, ok, err)
			continue
		}
		if d := cmp.Diff(tc.want, got); d != "" {
			t.Errorf("%q (-want +got):\n%s", tc.data, d)
		}
		f, err := got.Frame()
		if err != nil || string(f.Code)+string(f.Data) != tc.data {
			t.Errorf("%q written again: %c %q, %v", tc.data, f.Code, f.Data, err)
		}
	}
	for _, data := range []string{"+", "+a", "2", "e", "m\x00\x00", "m\x00\x00\x00\x01a\x00", "h", "ha\x00", "ha\x00b", "ha\x00b\x00c\x00", "q"} {
		if _, ok, err := DecodeModification(Frame{data[0], []byte(data[1:])}); !ok || !errors.Is(err, ErrMalformed) {
			t.Errorf("%q: %v, %v", data, ok, err)
		}
	}
	if _, ok, err := DecodeModification(Act(milter.ActContinue)); ok || err != nil {
		t.Errorf("continue is no modification: %v, %v", ok, err)
	}
	for _, m := range []Modification{
		{Code: 'x'}, {Code: milter.ActAddHeader, Name: "a\x00"}, {Code: milter.ActReplBody, Body: make([]byte, 65536)},
	} {
		if f, err := m.Frame(); err == nil {
			t.Errorf("%+v gives %q", m.Code, f.Data)
		}
	}
}

func FuzzModification(f *testing.F) {
	for _, tc := range modifications {
		f.Add(tc.data[0], []byte(tc.data[1:]))
	}
	f.Fuzz(func(t *testing.T, code byte, data []byte) {
		m, ok, err := DecodeModification(Frame{code, data})
		if !ok || err != nil {
			return
		}
		once, err := m.Frame()
		if errors.Is(err, ErrFrameSize) && len(m.Body) > milter.MaxBodyChunk {
			return
		}
		if err != nil {
			t.Fatalf("%#v cannot be written: %v", m, err)
		}
		again, _, err := DecodeModification(once)
		if d := cmp.Diff(m, again); d != "" || err != nil {
			t.Errorf("not the same modification, %v (-first +again):\n%s", err, d)
		}
	})
}

func TestReply(t *testing.T) {
	for _, tc := range []struct {
		code  int
		lines []string
		want  string
	}{
		{550, []string{"5.7.1 no"}, "550 5.7.1 no"},
		{451, nil, "451 "},
		{550, []string{"5.7.1 100% sure", "5.7.1 second", "5.7.1 third"}, "550-5.7.1 100%% sure\r\n550-5.7.1 second\r\n550 5.7.1 third"},
	} {
		f, err := Reply(tc.code, tc.lines)
		if err != nil || string(f.Data) != tc.want+"\x00" {
			t.Errorf("%d %q: %q, %v", tc.code, tc.lines, f.Data, err)
		}
		code, lines, err := DecodeReply(f)
		if err != nil || code != tc.code || strings.Join(lines, "\n") != strings.Join(tc.lines, "\n") {
			t.Errorf("%q: got %d %q, %v", f.Data, code, lines, err)
		}
	}
	for _, tc := range []struct {
		code int
		line string
	}{{250, "ok"}, {354, "go"}, {600, "x"}, {0, "x"}, {550, "a\r\n250 b"}, {550, "a\nb"}, {550, "a\x00"}} {
		if f, err := Reply(tc.code, []string{tc.line}); err == nil {
			t.Errorf("%d %q gives %q", tc.code, tc.line, f.Data)
		}
	}
}

// What filters really send, and what none should.
func TestSplitReply(t *testing.T) {
	for _, tc := range []struct {
		text, want string
		code       int
	}{
		{"550 5.7.1 no", "5.7.1 no", 550},
		{"554-5.7.1 first 100%%\r\n554-5.7.1 second\r\n554 5.7.1 third\r\n", "5.7.1 first 100%|5.7.1 second|5.7.1 third", 554},
		{"451-a\n451 b", "a|b", 451}, // LF alone
		{"451", "", 451},
	} {
		code, lines, err := SplitReply(tc.text)
		if err != nil || code != tc.code || strings.Join(lines, "|") != tc.want {
			t.Errorf("%q: got %d %q, %v", tc.text, code, lines, err)
		}
	}
	for _, text := range []string{"", "55", "250 ok", "550-a\r\n451 b", "550-a\r\nb", "550xa", "abc no"} {
		if code, lines, err := SplitReply(text); err == nil {
			t.Errorf("%q: got %d %q", text, code, lines)
		}
	}
}

func FuzzReply(f *testing.F) {
	f.Add([]byte("550-5.7.1 100%%\r\n550 5.7.1 b\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		code, lines, err := DecodeReply(Frame{'y', data})
		if err != nil {
			return
		}
		once, err := Reply(code, lines)
		if err != nil {
			return // a lone CR inside a line is read, never written
		}
		code2, lines2, err := DecodeReply(once)
		if err != nil || code2 != code {
			t.Fatalf("%q: %d, %v", once.Data, code2, err)
		}
		twice, err := Reply(code2, lines2)
		if err != nil || !bytes.Equal(once.Data, twice.Data) {
			t.Errorf("%q, then %q, %v", once.Data, twice.Data, err)
		}
	})
}
