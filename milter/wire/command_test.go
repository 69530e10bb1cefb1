package wire

import (
	"bytes"
	"errors"
	"testing"

	"github.com/emersion/go-milter"
	"github.com/google/go-cmp/cmp"
)

var commands = []struct {
	data string // code and data, as Postfix and Sendmail write them
	want Command
}{
	{"O\x00\x00\x00\x06\x00\x00\x01\xff\x00\x1f\xff\xff", Options{Version: 6, Actions: 0x1ff, Protocol: 0x1fffff}},
	{"O\x00\x00\x00\x06\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x05i {auth_type}\x00",
		Options{Version: 6, Actions: milter.OptSetSymList, Symbols: []Symbols{{milter.StageEOM, "i {auth_type}"}}}},
	{"DCj\x00mx.example.org\x00{daemon_name}\x00\x00", Macros{milter.CodeConn, []string{"j", "mx.example.org", "{daemon_name}", ""}}},
	{"DE", Macros{For: milter.CodeEOB}},
	{"Cclient.example\x004\x04\xd2192.0.2.1\x00", Connect{"client.example", milter.FamilyInet, 1234, "192.0.2.1"}},
	{"C[2001:db8::1]\x006\x00\x00IPv6:2001:db8::1\x00", Connect{"[2001:db8::1]", milter.FamilyInet6, 0, "IPv6:2001:db8::1"}},
	{"Clocalhost\x00L\x00\x00/run/x\x00", Connect{"localhost", milter.FamilyUnix, 0, "/run/x"}},
	{"Cunknown\x00U", Connect{Host: "unknown", Family: milter.FamilyUnknown}},
	{"Hmail.example\x00", Helo{"mail.example"}},
	{"M<a@example.net>\x00SIZE=1\x00BODY=8BITMIME\x00", Mail{"<a@example.net>", []string{"SIZE=1", "BODY=8BITMIME"}}},
	{"M<>\x00", Mail{From: "<>"}},
	{"R<b@example.net>\x00NOTIFY=NEVER\x00", Rcpt{"<b@example.net>", []string{"NOTIFY=NEVER"}}},
	{"LSubject\x00 a\n\tb\x00", Header{"Subject", " a\n\tb"}},
	{"LX-Empty\x00\x00", Header{"X-Empty", ""}},
	{"Ubogus line\x00", Unknown{"bogus line"}},
	{"Bline\r\n", Body{[]byte("line\r\n")}},
	{"E", End{[]byte{}}},
	{"Elast", End{[]byte("last")}},
	{"T", Signal{milter.CodeData}},
	{"N", Signal{milter.CodeEOH}},
	{"A", Signal{milter.CodeAbort}},
	{"Q", Signal{milter.CodeQuit}},
	{"K", Signal{milter.CodeQuitNewConn}},
}

func TestDecode(t *testing.T) {
	for _, tc := range commands {
		f := Frame{tc.data[0], []byte(tc.data[1:])}
		got, err := Decode(f)
		if err != nil {
			t.Errorf("%q: %v", tc.data, err)
			continue
		}
		if d := cmp.Diff(tc.want, got); d != "" {
			t.Errorf("%q (-want +got):\n%s", tc.data, d)
		}
		back, err := got.Frame()
		if err != nil || back.Code != f.Code || !bytes.Equal(back.Data, f.Data) {
			t.Errorf("%q written again: %c %q, %v", tc.data, back.Code, back.Data, err)
		}
	}
}

func TestDecodeRefuses(t *testing.T) {
	for _, data := range []string{
		"O", "O\x00\x00\x00\x06\x00\x00\x01\xff\x00\x1f\xff", // short
		"O\x00\x00\x00\x06\x00\x00\x01\xff\x00\x1f\xff\xff\x00\x00", // half a macro list
		"O\x00\x00\x00\x06\x00\x00\x01\xff\x00\x1f\xff\xff\x00\x00\x00\x01i",
		"D", "DCj\x00", "DCj\x00mx",
		"C", "Chost", "Chost\x00", "Chost\x004", "Chost\x004\x00", "Chost\x004\x00\x19192.0.2.1", "Chost\x00X\x00\x00a\x00",
		"Chost\x004\x00\x19a\x00b\x00",
		"H", "Hname", "Hname\x00more\x00",
		"M", "M<a@example.net>", "M<a@example.net>\x00SIZE=1", "R", "Rx",
		"L", "LSubject", "LSubject\x00", "LSubject\x00a", "LSubject\x00a\x00b\x00",
		"U", "Ubogus",
		"Z", "\x00", "a", "c", // no commands
	} {
		if c, err := Decode(Frame{data[0], []byte(data[1:])}); !errors.Is(err, ErrMalformed) || c != nil {
			t.Errorf("%q: got %#v, %v", data, c, err)
		}
	}
}

// A NUL inside a string would be two fields at the peer.
func TestEncodeRefusesNUL(t *testing.T) {
	for _, c := range []Command{
		Helo{"a\x00b"}, Mail{From: "<a@b>", Args: []string{"SIZE=1\x00"}}, Rcpt{To: "\x00"}, Header{"a", "b\x00"},
		Macros{'C', []string{"j", "a\x00"}}, Connect{Host: "\x00"}, Unknown{"\x00"}, Options{Symbols: []Symbols{{0, "\x00"}}},
	} {
		if _, err := c.Frame(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%#v: %v", c, err)
		}
	}
}

// Whatever comes, Decode does not panic, and what it took is written again in
// a form that reads as the same thing.
func FuzzDecode(f *testing.F) {
	for _, tc := range commands {
		f.Add(tc.data[0], []byte(tc.data[1:]))
	}
	f.Fuzz(func(t *testing.T, code byte, data []byte) {
		c, err := Decode(Frame{code, data})
		if err != nil {
			return
		}
		once, err := c.Frame()
		if err != nil {
			t.Fatalf("%#v cannot be written: %v", c, err)
		}
		again, err := Decode(once)
		if err != nil {
			t.Fatalf("%#v cannot be read again: %v", c, err)
		}
		if d := cmp.Diff(c, again); d != "" {
			t.Errorf("not the same command (-first +again):\n%s", d)
		}
	})
}
