package script

import (
	"fmt"
	"net/netip"
	"strings"
)

type cidrEntries []row[netip.Prefix]

func parseCIDR(lines []tableLine) (entries, error) {
	var t cidrEntries
	var open []int
	for _, l := range lines {
		word, rest := cut(l.text)
		r := row[netip.Prefix]{value: rest}
		switch strings.ToLower(word) {
		case "endif":
			if len(open) == 0 {
				return nil, fmt.Errorf("line %d: endif without if", l.n)
			}
			t[open[len(open)-1]].skip = len(t)
			open = open[:len(open)-1]
			continue
		case "if":
			r.isIf = true
			word, r.value = cut(rest)
			open = append(open, len(t))
		}
		word, r.not = strings.CutPrefix(word, "!")
		p, err := parseNetwork(word)
		if err != nil {
			return nil, fmt.Errorf("line %d: %q is no address or network", l.n, clip(word, 80))
		}
		if !r.isIf && r.value == "" {
			return nil, fmt.Errorf("line %d: %s has no value", l.n, p)
		}
		r.test = p
		t = append(t, r)
	}
	if len(open) > 0 {
		return nil, errNoEndif
	}
	return t, nil
}

func (t cidrEntries) len() int { return len(t) }

func (t cidrEntries) has(key string) bool { _, ok := t.get(key); return ok }

func (t cidrEntries) get(key string) (string, bool) {
	a, err := netip.ParseAddr(key)
	if err != nil {
		return "", false
	}
	a = a.Unmap().WithZone("")
	for i := 0; i < len(t); i++ {
		r := &t[i]
		switch matches := r.test.Contains(a) != r.not; {
		case r.isIf && !matches:
			i = r.skip - 1
		case !r.isIf && matches:
			return r.value, true
		}
	}
	return "", false
}
