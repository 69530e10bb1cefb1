package milter

import (
	"io"
	"net"
	"testing"

	"github.com/emersion/go-milter"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/moongate/moongate/milter/wire"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/policytest"
)

// What one connection with one message costs us, rules that say nothing at each
// stage: the envelope only, as a Postfix with a smtpd_proxy_filter asks.
func BenchmarkConnection(b *testing.B) {
	var rules []*policy.Rule
	for _, h := range []policy.Hook{policy.Connect, policy.Helo, policy.Mail, policy.Rcpt, policy.Data, policy.Headers, policy.Message} {
		rules = append(rules, policytest.Rule(h, func(*policy.Session, *policy.Event) (policy.Verdict, error) { return policy.Verdict{}, nil }))
	}
	env, _ := policytest.Env(policy.Milter, rules...)
	env.Log = zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(io.Discard), zap.InfoLevel))
	srv := &Server{Env: env, Name: "milter"}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	defer func() { srv.Close(); <-done }()

	var said [][]byte // what is said until an answer is waited for
	say := func(commands ...wire.Command) {
		var out []byte
		for _, c := range commands {
			f, err := c.Frame()
			if err != nil {
				b.Fatal(err)
			}
			if out, err = f.Append(out); err != nil {
				b.Fatal(err)
			}
		}
		said = append(said, out)
	}
	say(all)
	say(wire.Macros{For: milter.CodeConn, Pairs: []string{"j", "mx.example.org", "{daemon_name}", "smtpd", "v", "Postfix 3.7"}},
		wire.Connect{Host: "client.example.net", Family: '4', Port: 4711, Addr: "192.0.2.1"})
	say(wire.Macros{For: milter.CodeHelo}, wire.Helo{Name: "client.example.net"})
	say(wire.Macros{For: milter.CodeMail, Pairs: []string{"{mail_addr}", "a@example.net"}}, wire.Mail{From: "<a@example.net>"})
	say(wire.Macros{For: milter.CodeRcpt, Pairs: []string{"{rcpt_addr}", "b@example.org"}}, wire.Rcpt{To: "<b@example.org>"})
	say(wire.Macros{For: milter.CodeData, Pairs: []string{"i", "4711"}}, wire.Signal{Code: milter.CodeData})
	last, _ := wire.Signal{Code: milter.CodeQuit}.Frame()
	quit, _ := last.Append(nil)

	in := make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			b.Fatal(err)
		}
		for _, out := range said {
			if _, err := c.Write(out); err != nil {
				b.Fatal(err)
			}
			if _, err := c.Read(in); err != nil {
				b.Fatal(err)
			}
		}
		c.Write(quit)
		c.Close()
	}
}
