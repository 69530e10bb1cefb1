package script

import (
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	glua "github.com/yuin/gopher-lua"

	"github.com/moongate/moongate/policy"
)

// Only these answers of a list say "listed", unless the author says otherwise;
// 127.255.255.0/24 is how a list says that it will not answer.
var (
	listedAnswers  = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/16")}
	refusedAnswers = netip.MustParsePrefix("127.255.255.0/24")
)

// dnsList is what dnsbl declares.
type dnsList struct {
	zones   []dnsZone // in the order given, or by name
	answers []netip.Prefix
}

type dnsZone struct {
	name   string
	weight float64
}

type dnsListRef struct {
	x *state
	*dnsList
}

func (d *dnsListRef) in() *state { return d.x.alive() }

var dnsblFunction = &function{name: "dnsbl", top: true,
	params: []param{{"zone", "string|string[]|table<string, number>", `"zen.example.org", several of them, or weights for score: { ["a.example"] = 3, ["b.example"] = -2 }.`},
		{"options", "{answers: string[]?}?", `answers: addresses or networks that mean "listed"; by default 127.0.0.0/16.`}},
	returns: []param{{"", "Dnsbl", ""}},
	doc:     "DNS lists of addresses or domains. Zones are asked in parallel; one in trouble is passed over.",
	do:      (*state).dnsbl}

func (x *state) dnsbl(L *glua.LState) int {
	d := &dnsList{answers: listedAnswers}
	add := func(zone string, weight float64) {
		p, err := policy.NewPath("x@"+zone, false)
		if err != nil || p.Literal || !strings.Contains(zone, ".") {
			L.RaiseError("dnsbl: %q is no zone", clip(zone, 80))
		}
		d.zones = append(d.zones, dnsZone{p.Domain, weight})
	}
	switch v := L.Get(1).(type) {
	case glua.LString:
		add(string(v), 1)
	case *glua.LTable:
		for i := 1; i <= min(v.Len(), 20); i++ {
			add(v.RawGetInt(i).String(), 1)
		}
		v.ForEach(func(k, w glua.LValue) {
			if zone, ok := k.(glua.LString); ok {
				n, ok := w.(glua.LNumber)
				if !ok {
					L.RaiseError("dnsbl: the weight of %s is %s", string(zone), typeName(w))
				}
				add(string(zone), float64(n))
			}
		})
		if v.Len() == 0 {
			slices.SortFunc(d.zones, func(a, b dnsZone) int { return strings.Compare(a.name, b.name) })
		}
	}
	if len(d.zones) == 0 || len(d.zones) > 20 {
		L.RaiseError("dnsbl: 1 to 20 zones")
	}
	if o := optTable(L, 2, "dnsbl"); o != nil {
		checkOptions(L, "dnsbl", o, "answers")
		if t, ok := o.RawGetString("answers").(*glua.LTable); ok {
			d.answers = nil
			for i := 1; i <= min(t.Len(), 100); i++ {
				p, err := parseNetwork(t.RawGetInt(i).String())
				if err != nil || !p.Addr().Is4() {
					L.RaiseError("dnsbl: answer %q is no IPv4 address or network", t.RawGetInt(i).String())
				}
				d.answers = append(d.answers, p)
			}
		}
	}
	L.Push(dnsblClass.userdata(&dnsListRef{x, d}))
	return 1
}

// dnsHit is what one zone said.
type dnsHit struct {
	zone   dnsZone
	name   string // that was asked
	answer string // "" if it is not listed
}

// ask asks all zones at once and gives the hits in the order of the zones.
func (d *dnsListRef) ask(L *glua.LState, ctx context.Context) []dnsHit {
	x := d.x
	what, ok := L.Get(2).(glua.LString)
	prefix := ""
	if ok {
		prefix = dnsblName(string(what))
	}
	if prefix == "" {
		return nil // no address (a unix socket), no domain: listed nowhere
	}
	x.Meter.Charge(int64(500 * len(d.zones)))
	hits := make([]dnsHit, len(d.zones))
	done := make(chan struct{}, len(d.zones))
	for i, z := range d.zones {
		hits[i] = dnsHit{zone: z, name: prefix + "." + z.name}
		one := func() {
			defer func() {
				recover() // a goroutine of ours must not end the process: this zone is in trouble
				done <- struct{}{}
			}()
			values, err := x.lookup(ctx, policy.Query{Service: "dnsbl", Type: z.name, Name: hits[i].name})
			if err == nil {
				hits[i].answer = d.listed(values)
			}
		}
		if len(d.zones) == 1 {
			one()
		} else {
			go one()
		}
	}
	for range d.zones {
		<-done // each ends with ctx
	}
	return slices.DeleteFunc(hits, func(h dnsHit) bool { return h.answer == "" })
}

// listed is the first answer that means "listed". One that means "I do not
// answer you" makes all of them worthless.
func (d *dnsList) listed(values []string) string {
	found := ""
	for _, v := range values {
		a, err := netip.ParseAddr(v)
		if err != nil || refusedAnswers.Contains(a) {
			return ""
		}
		if found == "" && slices.ContainsFunc(d.answers, func(p netip.Prefix) bool { return p.Contains(a) }) {
			found = v
		}
	}
	return found
}

// dnsblName is how a list wants an address (RFC 5782 2.1, 2.4) or a domain
// written.
func dnsblName(what string) string {
	a, err := netip.ParseAddr(what)
	if err != nil {
		p, err := policy.NewPath("x@"+what[strings.LastIndexByte(what, '@')+1:], true)
		if err != nil || p.Literal {
			return ""
		}
		return p.Domain
	}
	return reversed(a.Unmap().WithZone(""))
}

func reversed(a netip.Addr) string {
	b := a.AsSlice()
	parts := make([]string, 0, 32)
	for i := len(b) - 1; i >= 0; i-- {
		if a.Is4() {
			parts = append(parts, strconv.Itoa(int(b[i])))
			continue
		}
		parts = append(parts, strconv.FormatInt(int64(b[i]&15), 16), strconv.FormatInt(int64(b[i]>>4), 16))
	}
	return strings.Join(parts, ".")
}

var dnsblClass = (&class{name: "dnsbl", typ: "Dnsbl", doc: "DNS lists, by dnsbl().",
	members: []*member{
		{name: "check", params: []param{{"what", "string?", "An address, or a domain (or mail address) for a list of domains."}},
			returns: []param{{"hit", "{zone: string, reason: string, answer: string}?", "The first list that has it; nil if none has, or none can be asked."}},
			doc:     "Whether it is listed.",
			do: func(x *state, L *glua.LState, self any) int {
				d := self.(*dnsListRef)
				ctx, cancel := x.waiting(L)
				defer cancel()
				hits := d.ask(L, ctx)
				if len(hits) == 0 {
					L.Push(glua.LNil)
					return 1
				}
				h := hits[0]
				reason := "listed"
				if values, err := x.lookup(ctx, policy.Query{Service: "dns", Type: "TXT", Name: h.name}); err == nil && len(values) > 0 {
					reason = printable(values[0])
				}
				t := L.NewTable()
				t.RawSetString("zone", glua.LString(h.zone.name))
				t.RawSetString("answer", glua.LString(h.answer))
				t.RawSetString("reason", x.text(L, reason))
				L.Push(t)
				return 1
			}},
		{name: "score", params: []param{{"what", "string?", "As for check."}}, returns: []param{{"score", "number", "The weights of the lists that have it, added up."}},
			doc: "How badly it is listed.",
			do: func(x *state, L *glua.LState, self any) int {
				d := self.(*dnsListRef)
				ctx, cancel := x.waiting(L)
				defer cancel()
				sum := 0.0
				for _, h := range d.ask(L, ctx) {
					sum += h.zone.weight
				}
				L.Push(glua.LNumber(sum))
				return 1
			}},
	}}).ready()

// printable makes text from the DNS fit for a reply.
func printable(s string) string {
	return clip(strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, s), 300)
}
