package netns

import (
	"net"
	"os"
	"testing"
)

func TestOutside(t *testing.T) {
	if Outside(t, "192.0.2.1/32", "2001:db8::1/128") {
		return
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP("192.0.2.1")}}
	c, err := d.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if host, _, _ := net.SplitHostPort(s.RemoteAddr().String()); host != "192.0.2.1" {
		t.Errorf("the client is %s", host)
	}
	l6, err := net.Listen("tcp", "[2001:db8::1]:0")
	if err != nil {
		t.Fatal(err)
	}
	l6.Close()
	ifs, err := net.Interfaces()
	if err != nil || len(ifs) == 0 {
		t.Fatal(err)
	}
	for _, i := range ifs {
		if i.Flags&net.FlagLoopback == 0 && i.Flags&net.FlagUp != 0 {
			t.Errorf("the network reaches further than loopback: %s", i.Name)
		}
	}
}

func TestInSubtest(t *testing.T) {
	t.Run("a (b)", func(t *testing.T) {
		if Outside(t) {
			return
		}
		if os.Getenv(inside) != t.Name() {
			t.Error("not in the child")
		}
	})
}

func TestVerdict(t *testing.T) {
	for out, want := range map[string][2]string{
		"=== RUN TestX\n--- PASS: TestX (0.00s)\nPASS\n":                     {"PASS", ""},
		"--- FAIL: TestX (0.00s)\n    x_test.go:1: bad\nFAIL\n":              {"FAIL", "bad"},
		"    x_test.go:9: no Postfix: none\n--- SKIP: TestX (0.00s)\nPASS\n": {"SKIP", "no Postfix: none"},
		"--- PASS: TestX2 (0.00s)\n":                                         {"", ""},
		"testing: warning: no tests to run\nPASS\n":                          {"", ""},
		"    --- PASS: TestX/sub (0.00s)\npanic: it died before its end":     {"", ""},
	} {
		if result, reason := verdict("TestX", []byte(out)); result != want[0] || reason != want[1] {
			t.Errorf("%q: %q %q, want %q", out, result, reason, want)
		}
	}
}
