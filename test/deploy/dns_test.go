package deploy

import (
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/dns/dnsmessage"
)

// dnsServer answers PTR questions with names as they are, good or bad, and confirms each.
type dnsServer struct {
	addr string
	conn net.PacketConn
	done sync.WaitGroup

	mu   sync.Mutex // guards what follows
	ptr  map[string][]byte
	back map[string]net.IP
	bad  map[string]dnsmessage.RCode
	seen map[string]int // questions, by name
}

// silence is no answer at all.
const silence dnsmessage.RCode = 0xfff

func serveDNS(t *testing.T) *dnsServer {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &dnsServer{addr: conn.LocalAddr().String(), conn: conn, ptr: map[string][]byte{}, back: map[string]net.IP{}, bad: map[string]dnsmessage.RCode{}, seen: map[string]int{}}
	s.done.Go(s.serve)
	t.Cleanup(func() { conn.Close(); s.done.Wait() })
	return s
}

// set gives an IPv4 address a name in wire form.
func (s *dnsServer) set(ip net.IP, name []byte) {
	ip = ip.To4()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ptr[fmt.Sprintf("%d.%d.%d.%d.in-addr.arpa.", ip[3], ip[2], ip[1], ip[0])] = name
	var text strings.Builder
	for rest := name; len(rest) > 1; rest = rest[1+rest[0]:] {
		text.Write(rest[1 : 1+rest[0]])
		text.WriteByte('.')
	}
	s.back[strings.ToLower(text.String())] = ip
}

// fail answers questions for these names with trouble.
func (s *dnsServer) fail(code dnsmessage.RCode, names ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range names {
		s.bad[name] = code
	}
}

// asked says how often a name was asked for.
func (s *dnsServer) asked(name string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[name]
}

func (s *dnsServer) serve() {
	buf := make([]byte, 1500)
	for {
		n, from, err := s.conn.ReadFrom(buf)
		if err != nil {
			return
		}
		if answer := s.answer(buf[:n]); answer != nil {
			s.conn.WriteTo(answer, from)
		}
	}
}

func (s *dnsServer) answer(packet []byte) []byte {
	var m dnsmessage.Message
	if m.Unpack(packet) != nil || len(m.Questions) != 1 {
		return nil
	}
	q := m.Questions[0]
	m.Response, m.Authoritative, m.Additionals = true, true, nil
	s.mu.Lock()
	defer s.mu.Unlock()
	var data []byte
	name := strings.ToLower(q.Name.String())
	s.seen[name]++
	if code, ok := s.bad[name]; ok {
		if code == silence {
			return nil
		}
		m.RCode = code
		out, _ := m.Pack()
		return out
	}
	switch q.Type {
	case dnsmessage.TypePTR:
		data = s.ptr[name]
	case dnsmessage.TypeA:
		data = s.back[name]
	}
	if data == nil {
		m.RCode = dnsmessage.RCodeNameError
		out, _ := m.Pack()
		return out
	}
	// The library would not write a bad name, so the answer is appended by hand.
	out, err := m.Pack()
	if err != nil {
		return nil
	}
	out[7] = 1                                                      // one answer
	out = append(out, 0xc0, 12, 0, byte(q.Type), 0, 1, 0, 0, 0, 60) // the name asked for, type, class, TTL
	return append(append(out, byte(len(data)>>8), byte(len(data))), data...)
}
