package milter

import (
	"testing"

	"github.com/emersion/go-milter"

	"github.com/moongate/moongate/milter/wire"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/policytest"
)

// A certificate's subject is the client's name only where the MTA says that it
// verified it: Sendmail gives the subject of any that was presented.
func TestVerifiedPeer(t *testing.T) {
	for _, tc := range []struct {
		name, version, verify string
		want                  string
	}{
		{"Postfix gives only the subject of a trusted one", "Postfix 3.7.11", "", "mx"},
		{"Sendmail, verified", "8.17.1.9", "OK", "mx"},
		{"Sendmail, self-signed", "8.17.1.9", "FAIL", ""},
		{"Sendmail, none asked for", "8.17.1.9", "NOT", ""},
		{"Sendmail that does not say", "8.11", "", ""},
		{"nobody says who the MTA is", "", "", ""},
	} {
		var peer, version string
		srv, _ := serverOf(policytest.Rule(policy.Helo, func(s *policy.Session, _ *policy.Event) (policy.Verdict, error) {
			if s.TLS != nil {
				peer, version = s.TLS.Peer, s.TLS.Version
			}
			return policy.Verdict{}, nil
		}))
		m := dial(t, srv, all)
		m.send(wire.Macros{For: milter.CodeConn, Pairs: []string{"v", tc.version}})
		m.want("c", wire.Connect{Host: "client.example", Family: milter.FamilyInet, Port: 25000, Addr: "192.0.2.1"})
		tls := []string{"{tls_version}", "TLSv1.3", "{cert_subject}", "mx"}
		if tc.verify != "" {
			tls = append(tls, "{verify}", tc.verify)
		}
		m.send(wire.Macros{For: milter.CodeHelo, Pairs: tls})
		m.want("c", wire.Helo{Name: "client.example"})
		if peer != tc.want || version != "TLSv1.3" {
			t.Errorf("%s: peer %q over %s, want %q", tc.name, peer, version, tc.want)
		}
	}
}

// What we ask the MTA for, to the letter: a macro that is missing here is a
// fact that no rule ever sees.
func TestSymbols(t *testing.T) {
	srv, _ := serverOf()
	want := map[milter.Stage]string{
		milter.StageConnect:  "j v {daemon_name} {daemon_addr} {daemon_port} {if_addr} {client_resolve}",
		milter.StageHelo:     "{tls_version} {cipher} {cert_subject} {verify}",
		milter.StageMailFrom: "i r {auth_authen}",
		milter.StageRcptTo:   "i",
		milter.StageData:     "i",
		milter.StageEOM:      "i",
	}
	got := dial(t, srv, all).got.Symbols
	for _, s := range got {
		if want[s.Stage] != s.Names {
			t.Errorf("stage %d: %q, want %q", s.Stage, s.Names, want[s.Stage])
		}
	}
	if len(got) != len(want) {
		t.Errorf("%d lists, want %d", len(got), len(want))
	}
}
