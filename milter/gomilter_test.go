package milter

import (
	"errors"
	"net"
	"reflect"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/emersion/go-message/textproto"
	"github.com/emersion/go-milter"

	"github.com/moongate/moongate/milter/wire"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/policytest"
)

// What github.com/emersion/go-milter v0.5.0 does and the adapter is there for.
// Each test shows one thing on the library itself; one that fails says that
// the library has changed, and docs/decisions/go-milter.md is to be read again.

// libraryClient opens the library's client session as the adapter does.
func libraryClient(t *testing.T, addr string) (*milter.ClientSession, net.Conn) {
	t.Helper()
	var conn net.Conn
	s, err := milter.NewClientWithOptions("tcp", addr, milter.ClientOptions{
		ActionMask: offerActions, ProtocolMask: offerProtocol, ReadTimeout: patience, WriteTimeout: patience,
		Dialer: dialFunc(func(network, address string) (c net.Conn, err error) {
			conn, err = net.Dial(network, address)
			return conn, err
		}),
	}).Session()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return s, conn
}

// answers is a filter that gives these packets for whatever it hears.
func answers(t *testing.T, frames string) string {
	t.Helper()
	b := newBadFilter(t)
	b.at.Store('E')
	b.mode.Store(t.Name())
	misdeed(t, frames)
	return b.addr()
}

func frame(t *testing.T, code byte, data string) string {
	t.Helper()
	b, err := wire.Frame{Code: code, Data: []byte(data)}.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestGoMilterFaultBodyReadFrom(t *testing.T) {
	got := int64(-1)
	addr := asFilter(t, policytest.Rule(policy.Message, func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
		got = s.Tx.Message.Body.Len()
		return policy.Verdict{}, nil
	}))
	s, _ := libraryClient(t, addr)
	s.Conn("x", milter.FamilyInet, 25, "192.0.2.1")
	s.Mail("a@example.net", nil)
	s.Rcpt("b@example.net", nil)
	s.HeaderEnd()
	// go-smtp's and net/textproto's readers return the last octets with EOF.
	if _, _, err := s.BodyReadFrom(iotest.DataErrReader(strings.NewReader(strings.Repeat("x", 1000)))); err != nil {
		t.Fatal(err)
	}
	if got != 0 {
		t.Errorf("%d of 1000 octets came: BodyReadFrom no longer drops what comes with EOF", got)
	}
}

func TestGoMilterFaultHeader(t *testing.T) {
	var got string
	addr := asFilter(t, policytest.Rule(policy.Message, func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
		got = string(s.Tx.Message.Header.Append(nil))
		return policy.Verdict{}, nil
	}))
	s, _ := libraryClient(t, addr)
	s.Conn("x", milter.FamilyInet, 25, "192.0.2.1")
	s.Mail("a@example.net", nil)
	s.Rcpt("b@example.net", nil)
	var h textproto.Header
	h.AddRaw([]byte("MESSAGE-ID:  two\r\n\tfold\r\n"))
	s.Header(h)
	if _, _, err := s.End(); err != nil {
		t.Fatal(err)
	}
	if want := "Message-Id:two fold\r\n"; got != want {
		t.Errorf("%q came, and once it was %q", got, want)
	}
}

func TestGoMilterFaultAnswers(t *testing.T) {
	end := frame(t, 'c', "")
	for name, frames := range map[string]string{
		"skip": frame(t, 's', ""), "added recipient with arguments": frame(t, '2', "<a@example.net>\x00NOTIFY=NEVER\x00") + end,
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := libraryClient(t, answers(t, frames))
			if _, act, err := s.End(); err == nil {
				t.Errorf("%+v: the library understands it now, it may be offered", act)
			}
		})
	}
	t.Run("reply", func(t *testing.T) {
		s, _ := libraryClient(t, answers(t, frame(t, 'y', "550-5.7.1 100%%\r\n550 5.7.1 b\x00")))
		_, act, err := s.End()
		if err != nil || act.SMTPText != "5.7.1 100%%\r\n550 5.7.1 b" {
			t.Errorf("%+v, %v: the library splits replies now", act, err)
		}
	})
	t.Run("sender", func(t *testing.T) {
		s, _ := libraryClient(t, answers(t, frame(t, 'e', "<a@example.net>\x00")+end))
		mods, _, err := s.End()
		if err != nil || len(mods) != 1 || len(mods[0].FromArgs) != 1 {
			t.Errorf("%+v, %v: the library has no empty argument any more", mods, err)
		}
	})
}

// The socket stays open when the negotiation fails: only the dialer knows it.
func TestGoMilterFaultDescriptor(t *testing.T) {
	b := newBadFilter(t)
	b.at.Store('O')
	b.mode.Store("no such answer")
	var conn net.Conn
	_, err := milter.NewClientWithOptions("tcp", b.addr(), milter.ClientOptions{ActionMask: offerActions, ProtocolMask: offerProtocol,
		Dialer: dialFunc(func(network, address string) (c net.Conn, err error) {
			conn, err = net.Dial(network, address)
			return conn, err
		})}).Session()
	if err == nil {
		t.Fatal("the negotiation succeeded")
	}
	if err := conn.Close(); err != nil {
		t.Errorf("%v: the library closes the socket now", err)
	}
}

// With the library's own masks libmilter takes the client for one of version 1
// and hangs up where a filter has no callback for the end of the header.
func TestGoMilterFaultDefaults(t *testing.T) {
	path := strings.TrimPrefix(python(t, "classic.py"), "unix:")
	if s, err := milter.NewDefaultClient("unix", path).Session(); err == nil {
		s.Close()
		t.Error("the default options serve libmilter now")
	}
}

// A filter of an older version is refused because more was offered than that has,
// which every MTA does.
func TestGoMilterFaultVersion(t *testing.T) {
	addr, _ := ofVersion(t, 5)
	_, err := milter.NewClientWithOptions("tcp", addr, milter.ClientOptions{ActionMask: offerActions, ProtocolMask: offerProtocol,
		Dialer: dialFunc(func(network, address string) (net.Conn, error) {
			c, err := net.Dial(network, address)
			if err == nil {
				t.Cleanup(func() { c.Close() }) // the library does not
			}
			return c, err
		})}).Session()
	if !errors.Is(err, milter.ErrUnsupportedMilterVersion) {
		t.Errorf("%v: the library takes older versions now", err)
	}
}

// libraryBackend notes what the library's server tells it.
type libraryBackend struct {
	milter.NoOpMilter
	note func(string)
	from string
}

func (b *libraryBackend) MailFrom(from string, m *milter.Modifier) (milter.Response, error) {
	b.from = from
	b.note("mail " + from + " " + m.Macros["j"])
	return milter.RespContinue, nil
}

func (b *libraryBackend) RcptTo(to string, _ *milter.Modifier) (milter.Response, error) {
	b.note("rcpt " + to + " of " + b.from)
	if strings.HasPrefix(to, "bad") {
		return milter.RespReject, nil
	}
	return milter.RespContinue, nil
}

// The library's server: version 2 whatever is offered, no ESMTP arguments, the
// macros of CONNECT gone at MAIL, and after one refused recipient a backend
// that has never heard of the sender.
func TestGoMilterFaultServer(t *testing.T) {
	var noted []string
	srv := &milter.Server{NewMilter: func() milter.Milter {
		return &libraryBackend{note: func(s string) { noted = append(noted, s) }}
	}}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() { srv.Serve(l); close(done) }()
	m := call(t, l.Addr(), all)
	if m.got.Version != 2 {
		t.Errorf("version %d: the library speaks more now", m.got.Version)
	}
	m.send(wire.Macros{For: milter.CodeConn, Pairs: []string{"j", "mx"}})
	m.want("c", wire.Connect{Host: "x", Family: milter.FamilyInet, Addr: "192.0.2.1"})
	m.send(wire.Macros{For: milter.CodeMail, Pairs: []string{"i", "1"}})
	m.want("c", wire.Mail{From: "<a@example.net>", Args: []string{"SIZE=1"}})
	m.want("r", wire.Rcpt{To: "<bad@example.net>"})
	m.want("c", wire.Rcpt{To: "<good@example.net>"})
	m.send(wire.Signal{Code: milter.CodeQuit})
	m.closed()
	l.Close()
	<-done
	if want := []string{"mail a@example.net ", "rcpt bad@example.net of a@example.net", "rcpt good@example.net of "}; !reflect.DeepEqual(noted, want) {
		t.Errorf("the backend noted %q: the library has changed", noted)
	}
}
