package script

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/gaissmai/bart"
	glua "github.com/yuin/gopher-lua"
)

// ipEntries is a set of addresses and networks.
type ipEntries struct {
	table bart.Lite
	n     int
}

func parseNetworks(words []string) (*ipEntries, error) {
	s := &ipEntries{n: len(words)}
	for i, w := range words {
		p, err := parseNetwork(w)
		if err != nil {
			return nil, fmt.Errorf("entry %d, %q, is no address or network", i+1, clip(w, 80))
		}
		s.table.Insert(p)
	}
	return s, nil
}

func parseNetwork(w string) (netip.Prefix, error) {
	if !strings.Contains(w, "/") {
		a, err := netip.ParseAddr(w)
		if err != nil {
			return netip.Prefix{}, err
		}
		a = a.Unmap().WithZone("")
		return a.Prefix(a.BitLen())
	}
	p, err := netip.ParsePrefix(w)
	if err != nil {
		return netip.Prefix{}, err
	}
	if p.Addr().Is4In6() {
		return netip.PrefixFrom(p.Addr().Unmap(), max(0, p.Bits()-96)).Masked(), nil
	}
	return p.Masked(), nil
}

func (s *ipEntries) len() int { return s.n }

// has reports whether an address is in the set; what is no address is not.
func (s *ipEntries) has(word string) bool {
	a, err := netip.ParseAddr(word)
	return err == nil && s.table.Contains(a.Unmap().WithZone(""))
}

// foundIn reports whether a text names an address of the set, as a Received
// field does: "from x ([10.1.2.3])", "[IPv6:fd00::1]".
func (s *ipEntries) foundIn(text string) bool {
	for token := range strings.FieldsFuncSeq(text, func(c rune) bool {
		return !(c >= '0' && c <= '9' || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F' || c == ':' || c == '.')
	}) {
		token = strings.Trim(token, ".")
		if len(token) < 2 || len(token) > 60 {
			continue
		}
		if s.has(token) {
			return true
		}
		// "IPv6:fd00::1" leaves "6:fd00::1".
		if rest, ok := strings.CutPrefix(token, "6:"); ok && s.has(rest) {
			return true
		}
	}
	return false
}

var ipsetClass = (&class{name: "ipset", typ: "IpSet", doc: "A set of addresses and networks, by ipset().",
	members: []*member{
		{name: "has", params: []param{{"address", "string?", "nil, and what is no address, is in no set."}}, returns: []param{{"found", "boolean", ""}},
			doc: "Whether the address is in it.",
			do: func(x *state, L *glua.LState, self any) int {
				x.Meter.Charge(10)
				s, ok := L.Get(2).(glua.LString)
				L.Push(glua.LBool(ok && self.(*listRef).has(string(s))))
				return 1
			}},
		{name: "found_in", params: []param{{"text", "string?", ""}}, returns: []param{{"found", "boolean", ""}},
			doc: "Whether a text (a Received field) names an address in it.",
			do: func(x *state, L *glua.LState, self any) int {
				s, ok := L.Get(2).(glua.LString)
				x.Meter.Charge(int64(len(s)))
				set, isSet := (*self.(*listRef).now.Load()).(*ipEntries)
				L.Push(glua.LBool(ok && isSet && set.foundIn(string(s))))
				return 1
			}},
	}}).ready()
