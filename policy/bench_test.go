package policy_test

import (
	"io"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/moongate/moongate/policy"
	pt "github.com/moongate/moongate/policy/policytest"
)

// One question to one silent rule: what every command pays.
func BenchmarkAsk(b *testing.B) {
	env, _ := pt.Env(policy.SMTP, pt.Always(policy.Helo, policy.Verdict{}))
	env.Metrics = policy.NewMetrics(prometheus.NewRegistry())
	s := pt.Session(b, env)
	ev := &policy.Event{}
	b.ReportAllocs()
	for b.Loop() {
		ev.Hook = policy.Helo
		s.Ask(ev)
	}
}

// One whole transaction without I/O: begin, four questions, the audit line.
func BenchmarkTransaction(b *testing.B) {
	env, _ := pt.Env(policy.SMTP, pt.Always(policy.Mail, policy.Verdict{}), pt.Always(policy.Rcpt, policy.Verdict{}),
		pt.Always(policy.Data, policy.Verdict{}), pt.Always(policy.Headers, policy.Verdict{}))
	env.Metrics = policy.NewMetrics(prometheus.NewRegistry())
	env.Log = zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), zapcore.AddSync(io.Discard), zap.InfoLevel))
	s := pt.Session(b, env)
	from, to := pt.Path(b, "a@b.example"), pt.Path(b, "u@x.example")
	ok := policy.Reply{Code: 250, Raw: []byte("250 2.1.0 Ok\r\n")}
	queued := policy.Reply{Code: 250, Raw: []byte("250 2.0.0 Ok: queued as 4ZZZ\r\n")}
	b.ReportAllocs()
	for b.Loop() {
		s.Begin(from, nil)
		s.Ask(&policy.Event{Hook: policy.Mail})
		s.Tell(&policy.Event{Hook: policy.Answered, Verb: "MAIL", Reply: ok, By: policy.ByUpstream})
		r := &policy.Recipient{In: to, Out: to}
		s.Ask(&policy.Event{Hook: policy.Rcpt, Rcpt: r})
		s.Tell(&policy.Event{Hook: policy.Answered, Verb: "RCPT", Rcpt: r, Reply: ok, By: policy.ByUpstream})
		s.Ask(&policy.Event{Hook: policy.Data})
		s.Ask(&policy.Event{Hook: policy.Headers})
		s.Tell(&policy.Event{Hook: policy.Done, Outcome: &policy.Outcome{Action: policy.Accept, Reply: queued, By: policy.ByUpstream, QueuedAs: "4ZZZ"}})
	}
}
