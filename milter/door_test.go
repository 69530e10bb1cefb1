package milter

import (
	"context"
	"net/netip"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/zap/zaptest/observer"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/message"
	"github.com/moongate/moongate/policy/policytest"
)

// A door asks as the SMTP door does: every stage in turn, and what was
// answered is told.
type door struct {
	t    *testing.T
	s    *policy.Session
	logs *observer.ObservedLogs
}

// doorOf opens a session that has these filters and rules.
func doorOf(t *testing.T, ctx context.Context, filters []policy.Filter, rules ...*policy.Rule) *door {
	t.Helper()
	env, logs := policytest.Env(policy.SMTP, rules...)
	env.Filters = filters
	d := &door{t: t, logs: logs}
	d.s = env.NewSession(ctx, policy.Facts{
		ID: "S", Listener: "test", Proto: "ESMTP", PTR: "client.example",
		Remote: netip.MustParseAddrPort("192.0.2.1:25000"), Local: netip.MustParseAddrPort("127.0.0.1:25"),
	})
	return d
}

func (d *door) answered(verb string, v policy.Verdict, r *policy.Recipient) policy.Verdict {
	reply := ok
	if v.Refuses() {
		reply = v.Reply
	}
	d.s.Tell(&policy.Event{Hook: policy.Answered, Verb: verb, Reply: reply, Rcpt: r, By: source(v)})
	return v
}

func (d *door) connect() policy.Verdict { return d.s.Ask(&policy.Event{Hook: policy.Connect}) }

func (d *door) helo(name string) policy.Verdict {
	d.s.Helo = name
	return d.answered("EHLO", d.s.Ask(&policy.Event{Hook: policy.Helo}), nil)
}

func (d *door) mail(from string, args ...string) policy.Verdict {
	d.s.Begin(policytest.Path(d.t, from), params(args))
	return d.answered("MAIL", d.s.Ask(&policy.Event{Hook: policy.Mail}), nil)
}

func (d *door) rcpt(to string) policy.Verdict {
	p := policytest.Path(d.t, to)
	r := &policy.Recipient{In: p, Out: p}
	return d.answered("RCPT", d.s.Ask(&policy.Event{Hook: policy.Rcpt, Rcpt: r}), r)
}

// message asks at data, headers and message. The transaction stays open: done
// ends it.
func (d *door) message(header, body string) policy.Verdict {
	d.t.Helper()
	tx := d.s.Tx
	if v := d.s.Ask(&policy.Event{Hook: policy.Data}); v.Refuses() || v.Swallows() {
		return v
	}
	h, n := message.ParseHeader([]byte(header))
	if n != len(header) {
		d.t.Fatalf("header ends at %d of %d", n, len(header))
	}
	m := &message.Message{Header: h, Blank: true}
	tx.SetMessage(m)
	if v := d.s.Ask(&policy.Event{Hook: policy.Headers}); v.Refuses() || v.Swallows() {
		return v
	}
	m.Body = new(message.Pool).New()
	m.Body.Write([]byte(body))
	tx.SetMessage(m)
	return d.s.Ask(&policy.Event{Hook: policy.Message})
}

func (d *door) done(v policy.Verdict) {
	if d.s.Tx != nil {
		d.s.Tell(&policy.Event{Hook: policy.Done, Outcome: &policy.Outcome{Action: v.Action, Reply: v.Reply, Verdict: v}})
	}
}

func (d *door) close() { d.s.Tell(&policy.Event{Hook: policy.Disconnect}) }

// out is the header as it goes on.
func (d *door) out() string { return string(d.s.Tx.Header().Append(nil)) }

// outBody is the body as it goes on.
func (d *door) outBody() string {
	if b, ok := d.s.Tx.Body(); ok {
		return string(b)
	}
	var b strings.Builder
	d.s.Tx.Message.Body.WriteTo(&b)
	return b.String()
}

// say is a verdict as a line.
func say(v policy.Verdict) string {
	return strings.TrimSpace(v.Action.String() + " " + v.Reply.String())
}

// start runs a filter until the test ends, and returns when it answers at addr.
func start(t *testing.T, addr string, name string, args ...string) {
	t.Helper()
	f := Filter{Address: addr}
	startUntil(t, func() bool {
		l, err := f.negotiate(t.Context(), time.Now().Add(5*time.Second))
		if err == nil {
			l.quit()
		}
		return err == nil
	}, name, args...)
}

// startUntil runs a program until the test ends, and returns when it is ready.
func startUntil(t *testing.T, ready func() bool, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = time.Second
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // libmilter takes seconds to end in peace
		<-ended
		if t.Failed() {
			t.Logf("%s said:\n%s", name, out.String())
		}
	})
	for deadline := time.Now().Add(patience); !ready(); {
		select {
		case <-ended:
			t.Fatalf("%s ended: %v", name, cmd.ProcessState)
		case <-time.After(20 * time.Millisecond): // there is no event to wait for
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s does not answer", name)
		}
	}
}

// python runs one of the filters of testdata.
func python(t *testing.T, script string) (addr string) {
	t.Helper()
	const bin = "/usr/bin/python3"
	need := "import Milter"
	if script == "classic.py" {
		need = "import ctypes; ctypes.CDLL('libmilter.so.1.0.1')"
	}
	if err := exec.Command(bin, "-c", need).Run(); err != nil {
		t.Skip("python3-milter is not installed (Debian package python3-milter)")
	}
	path := t.TempDir() + "/s"
	start(t, "unix:"+path, bin, "testdata/filters/"+script, "unix:"+path)
	return "unix:" + path
}
