package milter

import (
	"net"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/policytest"
)

// The scripts of testdata/miltertest are run by OpenDKIM's miltertest, which
// speaks the MTA's side with its own code.
func TestMiltertest(t *testing.T) {
	bin, err := exec.LookPath("miltertest")
	if err != nil {
		t.Skip("miltertest is not installed (Debian package miltertest)")
	}
	scripts, err := filepath.Glob("testdata/miltertest/*.lua")
	if err != nil || len(scripts) == 0 {
		t.Fatalf("scripts: %v, %v", scripts, err)
	}
	for _, script := range scripts {
		t.Run(filepath.Base(script), func(t *testing.T) {
			rules := []*policy.Rule{policytest.Always(policy.Unknown, policytest.Reject("no wizards"))}
			for _, h := range []policy.Hook{policy.Connect, policy.Helo, policy.Mail, policy.Data, policy.Headers} {
				rules = append(rules, policytest.Always(h, policy.Verdict{}))
			}
			n := 0
			rules = append(rules, policytest.Rule(policy.Rcpt, func(s *policy.Session, ev *policy.Event) (policy.Verdict, error) {
				if s.User != "alice" || s.Remote.Addr().String() != "192.0.2.7" || s.PTR != "client.example.net" || len(s.Tx.In.Params) != 2 {
					return policytest.Tempfail("facts are lost"), nil
				}
				switch ev.Rcpt.In.Local {
				case "bad":
					return policytest.Reject("100% unknown"), nil
				case "drop":
					return policy.Verdict{Action: policy.Drop}, nil
				}
				return policy.Verdict{}, nil
			}), policytest.Rule(policy.Message, func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
				n++
				for _, e := range []policy.Edit{
					{Kind: policy.InsertHeader, Name: "X-Top", Value: " " + strconv.Itoa(n)},
					{Kind: policy.AddHeader, Name: "X-End", Value: " end"},
					{Kind: policy.ChangeHeader, Name: "Subject", Index: 1, Value: " changed"},
					{Kind: policy.AddRcpt, Path: policytest.Path(t, "extra@example.com")},
					{Kind: policy.ReplaceBody, Body: []byte("new body\r\n")},
				} {
					if err := s.Tx.Do(e); err != nil {
						return policy.Verdict{}, err
					}
				}
				return policy.Verdict{}, nil
			}))
			srv, logs := serverOf(rules...)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			done := make(chan error, 1)
			go func() { done <- srv.Serve(l) }()
			defer func() { srv.Close(); <-done }()
			port := l.Addr().(*net.TCPAddr).Port
			out, err := exec.CommandContext(t.Context(), bin, "-D", "addr=inet:"+strconv.Itoa(port)+"@127.0.0.1", "-s", script).CombinedOutput()
			if err != nil || strings.Contains(string(out), "error") {
				t.Errorf("%v\n%s", err, out)
			}
			ended(t, srv)
			for _, e := range logs.FilterLevelExact(1).All() { // warnings
				t.Errorf("log: %s %v", e.Message, e.ContextMap())
			}
		})
	}
}
