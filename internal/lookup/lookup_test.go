package lookup

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/dns/dnsmessage"

	"github.com/moongate/moongate/policy"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("net.(*Resolver).goLookupIPCNAMEOrder.func3.1"), // ends by its deadline
		goleak.IgnoreAnyFunction("net.(*Resolver).lookupIPAddr.func2"))
}

// server is a DNS server on loopback. Records are "TYPE name." to values; the
// value "SERVFAIL" is trouble, "SILENCE" no answer at all.
type server struct {
	conn    net.PacketConn
	records map[string][]string
	asked   atomic.Int64
	done    sync.WaitGroup
}

func serve(t *testing.T, records map[string][]string) *server {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &server{conn: conn, records: records}
	s.done.Add(1)
	go s.run()
	t.Cleanup(func() { conn.Close(); s.done.Wait() })
	return s
}

func (s *server) run() {
	defer s.done.Done()
	buf := make([]byte, 1500)
	for {
		n, from, err := s.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if reply := s.answer(buf[:n]); reply != nil {
			s.conn.WriteTo(reply, from)
		}
	}
}

func (s *server) answer(query []byte) []byte {
	var p dnsmessage.Parser
	h, err := p.Start(query)
	if err != nil {
		return nil
	}
	q, err := p.Question()
	if err != nil {
		return nil
	}
	s.asked.Add(1)
	key := strings.TrimPrefix(q.Type.String(), "Type") + " " + strings.ToLower(q.Name.String())
	values, found := s.records[key]
	code := dnsmessage.RCodeSuccess
	switch {
	case !found:
		code = dnsmessage.RCodeNameError
	case slices.Equal(values, []string{"SERVFAIL"}):
		code, values = dnsmessage.RCodeServerFailure, nil
	case slices.Equal(values, []string{"SILENCE"}):
		return nil
	}
	b := dnsmessage.NewBuilder(nil, dnsmessage.Header{ID: h.ID, Response: true, RecursionAvailable: true, RCode: code})
	b.StartQuestions()
	b.Question(q)
	b.StartAnswers()
	rh := dnsmessage.ResourceHeader{Name: q.Name, Class: q.Class, TTL: 60}
	for _, v := range values {
		switch q.Type {
		case dnsmessage.TypeA:
			b.AResource(rh, dnsmessage.AResource{A: netip.MustParseAddr(v).As4()})
		case dnsmessage.TypeTXT:
			b.TXTResource(rh, dnsmessage.TXTResource{TXT: []string{v}})
		case dnsmessage.TypeMX:
			b.MXResource(rh, dnsmessage.MXResource{Pref: 10, MX: dnsmessage.MustNewName(v)})
		case dnsmessage.TypePTR:
			b.PTRResource(rh, dnsmessage.PTRResource{PTR: dnsmessage.MustNewName(v)})
		}
	}
	msg, _ := b.Finish()
	return msg
}

// patience is the time of a query that is answered. It is generous: a busy
// machine is no bug.
const patience = time.Minute

func world(t *testing.T, s *server, timeout time.Duration) *World {
	w := New(Options{Servers: []string{s.conn.LocalAddr().String()}, Timeout: timeout})
	t.Cleanup(func() { w.Close() })
	return w
}

func TestDNS(t *testing.T) {
	s := serve(t, map[string][]string{
		"A mail.example.":              {"192.0.2.1", "192.0.2.2"},
		"TXT example.":                 {"v=spf1 -all"},
		"MX example.":                  {"mail.example."},
		"PTR 1.2.0.192.in-addr.arpa.":  {"Mail.Example."},
		"PTR 9.2.0.192.in-addr.arpa.":  {"mail.example."}, // does not confirm
		"A broken.example.":            {"SERVFAIL"},
		"PTR 10.2.0.192.in-addr.arpa.": {"broken.example."},
	})
	w := world(t, s, patience)
	for _, tt := range []struct {
		kind, name, want string
		err              error
	}{
		{"A", "mail.example", "192.0.2.1 192.0.2.2", nil},
		{"A", "mail.example.", "192.0.2.1 192.0.2.2", nil},
		{"TXT", "example", "v=spf1 -all", nil},
		{"MX", "example", "10 mail.example", nil},
		{"PTR", "192.0.2.1", "Mail.Example", nil},
		{"A", "nothing.example", "", nil},
		{"A", "broken.example", "", ErrTemporary},
	} {
		a, err := w.Lookup(t.Context(), policy.Query{Service: "dns", Type: tt.kind, Name: tt.name})
		if got := strings.Join(a.Values, " "); got != tt.want || !errors.Is(err, tt.err) {
			t.Errorf("%s %s: %q, %v", tt.kind, tt.name, got, err)
		}
	}
	for _, bad := range []policy.Query{{Service: "dns", Type: "SRV", Name: "x"}, {Service: "dns", Type: "PTR", Name: "x"}, {Service: "carrier pigeon"}} {
		if a, err := w.Lookup(t.Context(), bad); err == nil {
			t.Errorf("%v: %v", bad, a)
		}
	}
	asked := s.asked.Load()
	w.Lookup(t.Context(), policy.Query{Service: "dns", Type: "TXT", Name: "example"})
	if n := s.asked.Load(); n != asked {
		t.Errorf("a cached answer was asked %d times more", n-asked)
	}
	for ip, want := range map[string]string{"192.0.2.1": "mail.example", "::ffff:192.0.2.1": "mail.example", "192.0.2.9": "", "192.0.2.77": ""} {
		if name, err := w.PTR(t.Context(), netip.MustParseAddr(ip)); name != want || err != nil {
			t.Errorf("PTR %s: %q, %v", ip, name, err)
		}
	}
	if name, err := w.PTR(t.Context(), netip.MustParseAddr("192.0.2.10")); name != "" || !errors.Is(err, ErrTemporary) {
		t.Errorf("%q, %v", name, err)
	}
}

// A client with many silent names waits no longer than for two queries.
func TestManySilentNames(t *testing.T) {
	s := serve(t, map[string][]string{
		"PTR 1.2.0.192.in-addr.arpa.": {"a.example.", "b.example.", "c.example."},
		"A a.example.":                {"SILENCE"}, "A b.example.": {"SILENCE"}, "A c.example.": {"SILENCE"},
	})
	w := world(t, s, 100*time.Millisecond)
	if name, err := w.PTR(t.Context(), netip.MustParseAddr("192.0.2.1")); name != "" || !errors.Is(err, ErrTemporary) {
		t.Errorf("%q, %v", name, err)
	}
	if n := s.asked.Load(); n > 1+2*4 { // the third name was not asked
		t.Errorf("%d queries", n)
	}
}

// Many callers of one question wait for one query; each only as long as its
// own context allows; and a dead resolver is asked once.
func TestDeadResolver(t *testing.T) {
	s := serve(t, map[string][]string{"A slow.example.": {"SILENCE"}})
	w := world(t, s, 300*time.Millisecond)
	var wg sync.WaitGroup
	for range 1000 {
		wg.Go(func() {
			if _, err := w.Lookup(t.Context(), policy.Query{Service: "dns", Type: "A", Name: "slow.example"}); !errors.Is(err, ErrTemporary) {
				t.Errorf("error %v", err)
			}
		})
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Lookup(gone, policy.Query{Service: "dns", Type: "A", Name: "slow.example"}); !errors.Is(err, ErrTemporary) {
		t.Errorf("error %v", err)
	}
	wg.Wait()
	if n := s.asked.Load(); n > 4 {
		t.Errorf("%d queries for one question", n)
	}
}

// TestNoTimeNoQuestion asks with a context that has ended: what is not known is temporary, and nobody is asked.
func TestNoTimeNoQuestion(t *testing.T) {
	s := serve(t, map[string][]string{"A known.example.": {"192.0.2.1"}})
	w := world(t, s, patience)
	q := func(name string) policy.Query { return policy.Query{Service: "dns", Type: "A", Name: name} }
	if _, err := w.Lookup(t.Context(), q("known.example")); err != nil {
		t.Fatal(err)
	}
	for range cap(w.places) { // a question would wait here
		w.places <- struct{}{}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	if a, err := w.Lookup(ended, q("known.example")); err != nil || len(a.Values) != 1 {
		t.Errorf("what is known: %v, %v", a, err)
	}
	if _, err := w.Lookup(ended, q("other.example")); !errors.Is(err, ErrTemporary) {
		t.Errorf("what is not known: %v", err)
	}
	if _, _, shared := w.flight.Do("dns A other.example", func() (any, error) {
		for range cap(w.places) {
			<-w.places
		}
		return cached{}, nil
	}); shared {
		t.Error("a question is under way")
	}
}
