package milter

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/emersion/go-milter"
	"go.uber.org/goleak"

	"github.com/moongate/moongate/milter/wire"
	"github.com/moongate/moongate/policy"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds what must come. It is generous: a busy machine is no bug.
const patience = 2 * time.Minute

// all is what a modern MTA offers.
var all = wire.Options{Version: 6, Actions: 0x1ff, Protocol: 0x1fffff}

// An mta is the other side of a Server: it says packets and writes down what
// it hears, one line for each packet.
type mta struct {
	t      *testing.T
	l      net.Listener // of the server, where dial made it
	c      net.Conn
	r      *wire.Reader
	got    wire.Options
	script strings.Builder // the transcript
}

// dial serves one connection over a socket pair of the loopback and returns
// the MTA's end of it. The server is closed when the test ends.
func dial(t *testing.T, srv *Server, offer wire.Options) *mta {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	t.Cleanup(func() { srv.Close(); <-done; ended(t, srv) })
	m := call(t, l.Addr(), offer)
	m.l = l
	return m
}

// ended waits until the server's sessions are over, their goroutines gone and
// their last lines in the log: a session closes its connection before it says
// that it ended.
func ended(t *testing.T, srv *Server) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := srv.Shutdown(ctx); err != nil {
		t.Errorf("sessions do not end: %v", err)
	}
}

// call connects to a server and negotiates.
func call(t *testing.T, addr net.Addr, offer wire.Options) *mta {
	t.Helper()
	c, err := net.Dial(addr.Network(), addr.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	m := &mta{t: t, c: c, r: wire.NewReader(c)}
	c.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("transcript:\n%s", m.script.String())
		}
	})
	if offer.Version == 0 {
		return m
	}
	m.send(offer)
	f := m.next()
	cmd, err := wire.Decode(f)
	if o, ok := cmd.(wire.Options); ok {
		m.got = o
	} else {
		t.Fatalf("answer to the negotiation: %v, %v", cmd, err)
	}
	return m
}

func (m *mta) send(cmd wire.Command) {
	m.t.Helper()
	f, err := cmd.Frame()
	if err != nil {
		m.t.Fatal(err)
	}
	b, err := f.Append(nil)
	if err != nil {
		m.t.Fatal(err)
	}
	fmt.Fprintf(&m.script, "> %T %.200q\n", cmd, f.Data)
	if _, err := m.c.Write(b); err != nil {
		m.t.Fatalf("write %T: %v", cmd, err)
	}
}

func (m *mta) next() wire.Frame {
	m.t.Helper()
	f, err := m.r.Next()
	if err != nil {
		m.t.Fatalf("read: %v", err)
	}
	fmt.Fprintf(&m.script, "< %c %.200q\n", f.Code, f.Data)
	return f
}

// closed waits for the server to end the connection.
func (m *mta) closed() {
	m.t.Helper()
	f, err := m.r.Next()
	if err == nil {
		m.t.Errorf("the connection lives: %c %q", f.Code, f.Data)
	} else if errors.Is(err, os.ErrDeadlineExceeded) {
		m.t.Error("the connection lives")
	}
}

// ask says a command and returns the answer. It is "c" where the answer was
// negotiated away.
func (m *mta) ask(cmd wire.Command) string {
	m.t.Helper()
	m.send(cmd)
	if m.silent(cmd) {
		return "c"
	}
	return describe(m.next())
}

func (m *mta) silent(cmd wire.Command) bool {
	bit := milter.OptProtocol(0)
	switch cmd := cmd.(type) {
	case wire.Connect:
		bit = milter.OptNoConnReply
	case wire.Helo:
		bit = milter.OptNoHeloReply
	case wire.Mail:
		bit = milter.OptNoMailReply
	case wire.Rcpt:
		bit = milter.OptNoRcptReply
	case wire.Header:
		bit = milter.OptNoHeaderReply
	case wire.Body:
		bit = milter.OptNoBodyReply
	case wire.Unknown:
		bit = milter.OptNoUnknownReply
	case wire.Signal:
		switch cmd.Code {
		case milter.CodeData:
			bit = milter.OptNoDataReply
		case milter.CodeEOH:
			bit = milter.OptNoEOHReply
		}
	}
	return m.got.Protocol&bit != 0
}

// want says a command and expects an answer.
func (m *mta) want(answer string, cmd wire.Command) {
	m.t.Helper()
	if got := m.ask(cmd); got != answer {
		m.t.Errorf("%T: got %q, want %q", cmd, got, answer)
	}
}

// end says end of message and returns the modifications and the answer.
func (m *mta) end() (mods []string, answer string) {
	m.t.Helper()
	m.send(wire.End{})
	for {
		f := m.next()
		if _, ok, err := wire.DecodeModification(f); !ok {
			return mods, describe(f)
		} else if err != nil {
			m.t.Fatal(err)
		}
		mods = append(mods, describe(f))
	}
}

// hello begins a session as Postfix does.
func (m *mta) hello() {
	m.t.Helper()
	m.send(wire.Macros{For: milter.CodeConn, Pairs: []string{"j", "mx.example.org", "{daemon_name}", "smtpd", "{daemon_addr}", "127.0.0.1", "{daemon_port}", "25", "v", "Postfix 3.7.11"}})
	m.want("c", wire.Connect{Host: "client.example", Family: milter.FamilyInet, Port: 25000, Addr: "192.0.2.1"})
	m.want("c", wire.Helo{Name: "client.example"})
}

// message says what stands between RCPT and the end: header fields as
// "Name: value" and a body.
func (m *mta) message(body string, fields ...string) {
	m.t.Helper()
	if m.got.Version >= 4 && m.got.Protocol&milter.OptNoData == 0 {
		m.want("c", wire.Signal{Code: milter.CodeData})
	}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ":")
		if m.got.Protocol&milter.OptHeaderLeadingSpace == 0 {
			value = strings.TrimPrefix(value, " ")
		}
		m.want("c", wire.Header{Name: name, Value: value})
	}
	m.want("c", wire.Signal{Code: milter.CodeEOH})
	for body != "" && m.got.Protocol&milter.OptNoBody == 0 {
		n := min(len(body), milter.MaxBodyChunk)
		m.want("c", wire.Body{Chunk: []byte(body[:n])})
		body = body[n:]
	}
}

// describe writes an answer as one line.
func describe(f wire.Frame) string {
	if mod, ok, err := wire.DecodeModification(f); ok && err == nil {
		switch mod.Code {
		case milter.ActChangeHeader, milter.ActInsertHeader:
			return fmt.Sprintf("%c %d %s:%s", mod.Code, mod.Index, mod.Name, mod.Value)
		case milter.ActAddHeader:
			return fmt.Sprintf("h %s:%s", mod.Name, mod.Value)
		case milter.ActReplBody:
			return fmt.Sprintf("b %d", len(mod.Body))
		case milter.ActQuarantine:
			return "q " + mod.Reason
		}
		return strings.TrimSpace(fmt.Sprintf("%c %s %s", mod.Code, mod.Addr, strings.Join(mod.Args, " ")))
	}
	if f.Code == 'y' {
		return "y " + strings.TrimSuffix(strings.ReplaceAll(string(f.Data), "\r\n", "|"), "\x00")
	}
	return string(f.Code)
}

// reject is the verdict of a code, a status and lines.
func reject(code int, st policy.Status, text ...string) policy.Verdict {
	r, err := policy.NewReply(0, code, st, text...)
	if err != nil {
		panic(err)
	}
	a := policy.Reject
	if code < 500 {
		a = policy.Tempfail
	}
	return policy.Verdict{Action: a, Reply: r}
}
