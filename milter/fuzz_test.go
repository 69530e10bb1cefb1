package milter

import (
	"io"
	"net"
	"testing"
	"time"

	"github.com/emersion/go-milter"

	"github.com/moongate/moongate/milter/wire"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/policytest"
)

// Whatever an MTA sends, the server ends that connection at the worst: no
// panic, no hang, and never an accept of a message that the policy refuses.
func FuzzServer(f *testing.F) {
	opening, _ := all.Frame()
	seed := func(cmds ...wire.Command) {
		b, _ := opening.Append(nil)
		for _, c := range cmds {
			fr, _ := c.Frame()
			b, _ = fr.Append(b)
		}
		f.Add(b)
	}
	seed(wire.Connect{Host: "x", Family: milter.FamilyInet, Addr: "192.0.2.1"}, wire.Helo{Name: "x"}, wire.Mail{From: "<a@b>"}, wire.Rcpt{To: "<c@d>"},
		wire.Signal{Code: milter.CodeData}, wire.Header{Name: "A", Value: " b"}, wire.Signal{Code: milter.CodeEOH}, wire.Body{Chunk: []byte("x\r\n")}, wire.End{},
		wire.Signal{Code: milter.CodeAbort}, wire.Signal{Code: milter.CodeQuitNewConn}, wire.Signal{Code: milter.CodeQuit})
	seed(wire.Connect{Host: "x", Family: milter.FamilyUnknown}, wire.Mail{From: "<>"}, wire.Rcpt{To: "<c@d>"}, wire.End{Chunk: []byte("last")}, wire.Unknown{Line: "x"})
	f.Add([]byte{0, 0, 0, 0})
	rules := []*policy.Rule{policytest.Always(policy.Message, policytest.Reject("no"))}
	for _, h := range []policy.Hook{policy.Connect, policy.Helo, policy.Mail, policy.Rcpt, policy.Data, policy.Headers, policy.Unknown} {
		rules = append(rules, policytest.Always(h, policy.Verdict{}))
	}
	f.Fuzz(func(t *testing.T, in []byte) {
		srv, logs := serverOf(rules...)
		here, there := net.Pipe()
		done := make(chan struct{})
		go func() { srv.ServeConn(there); close(done) }()
		heard := make(chan []byte, 1)
		go func() { b, _ := io.ReadAll(here); heard <- b }()
		here.SetDeadline(time.Now().Add(patience))
		here.Write(in)
		here.Close()
		<-done
		<-heard
		if logs.FilterMessage("panic").Len() > 0 {
			t.Fatalf("panic: %v", logs.FilterMessage("panic").All()[0].ContextMap())
		}
		for _, l := range logs.FilterMessage("message").All() {
			if v := l.ContextMap()["verdict"]; v == "accepted" {
				t.Errorf("a message was accepted")
			}
		}
	})
}

// Whatever a filter answers, the client face comes to a verdict.
func FuzzFilter(f *testing.F) {
	o, _ := wire.Options{Version: 6, Actions: 0x7f, Protocol: milter.OptNoHeaderReply}.Frame()
	opening, _ := o.Append(nil)
	c := bareAnswers[milter.ActContinue]
	good := append([]byte{}, opening...)
	for range 8 {
		good = append(good, c...)
	}
	f.Add(good)
	mod, _ := wire.Modification{Code: milter.ActChangeHeader, Index: 1, Name: "X-A", Value: " v"}.Frame()
	more, _ := mod.Append(good[:len(good)-len(c)])
	f.Add(append(more, c...))
	f.Add([]byte{0, 0, 0, 0})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	answers := make(chan []byte, 1)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			nc, err := l.Accept()
			if err != nil {
				return
			}
			select {
			case b := <-answers:
				nc.Write(b)
				nc.(*net.TCPConn).CloseWrite()
				io.Copy(io.Discard, nc)
			default: // dialled again after a failure
			}
			nc.Close()
		}
	}()
	f.Cleanup(func() { l.Close(); <-done })
	f.Fuzz(func(t *testing.T, in []byte) {
		answers <- in
		flt := &Filter{Address: l.Addr().String(), ConnectTime: time.Second, CommandTime: time.Second, EndTime: time.Second}
		d := doorOf(t, t.Context(), []policy.Filter{flt})
		v := converse(d)
		if v.Action == policy.Continue && d.s.Tx == nil {
			t.Error("no verdict and no transaction")
		}
		d.done(v)
		d.close()
		if d.logs.FilterMessage("panic").Len() > 0 {
			t.Fatalf("panic: %v", d.logs.FilterMessage("panic").All()[0].ContextMap())
		}
		select {
		case <-answers:
		default:
		}
	})
}
