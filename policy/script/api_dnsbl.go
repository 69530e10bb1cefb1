package script

import (
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	glua "github.com/yuin/gopher-lua"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/lua"
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
		{"options", "{answers: string|string[]?}?", `answers: addresses or networks that mean "listed"; by default 127.0.0.0/16.`}},
	returns: []param{{"", "Dnsbl", ""}},
	doc:     "DNS lists of addresses or domains. Zones are asked in parallel; one in trouble is passed over.",
	do:      (*state).dnsbl}

func (x *state) dnsbl(L *glua.LState) int {
	d := &dnsList{answers: listedAnswers}
	switch v := L.Get(1).(type) {
	case glua.LString:
		d.add(L, string(v), 1)
	case *glua.LTable:
		d.addAll(L, v)
	default:
		L.RaiseError("dnsbl: argument 1 is a zone or a table of zones, and here it is %s", typeName(v))
	}
	if len(d.zones) == 0 || len(d.zones) > maxZones {
		L.RaiseError("dnsbl: 1 to %d zones, and here are %d", maxZones, len(d.zones))
	}
	if o := optTable(L, 2, "dnsbl"); o != nil {
		checkOptions(L, "dnsbl", o, "answers")
		if v := o.RawGetString("answers"); v != glua.LNil {
			d.answers = answers(L, v)
		}
	}
	x.declareZones(L, d)
	L.Push(dnsblClass.userdata(&dnsListRef{x, d}))
	return 1
}

// maxZones bounds what one check asks at once.
const maxZones = 20

func (d *dnsList) add(L *glua.LState, zone string, weight float64) {
	p, err := policy.NewPath("x@"+zone, false)
	if err != nil || p.Literal || !strings.Contains(zone, ".") {
		L.RaiseError("dnsbl: %q is no zone", clip(zone, 80))
	}
	d.zones = append(d.zones, dnsZone{p.Domain, weight})
}

// addAll reads { "a.example", "b.example" } or { ["a.example"] = 3 }.
func (d *dnsList) addAll(L *glua.LState, t *glua.LTable) {
	var weighted []string
	t.ForEach(func(k, v glua.LValue) {
		switch k := k.(type) {
		case glua.LString:
			if _, ok := v.(glua.LNumber); !ok {
				L.RaiseError("dnsbl: the weight of %s is a number, and here it is %s", clip(string(k), 80), typeName(v))
			}
			weighted = append(weighted, string(k))
		case glua.LNumber:
			zone, ok := v.(glua.LString)
			if !ok {
				L.RaiseError("dnsbl: a zone is text, and here it is %s", typeName(v))
			}
			d.add(L, string(zone), 1)
		default:
			L.RaiseError("dnsbl: a zone is text, and here it is %s", typeName(k))
		}
	})
	slices.Sort(weighted) // a table has no order, and hits want one
	for _, zone := range weighted {
		d.add(L, zone, float64(t.RawGetString(zone).(glua.LNumber)))
	}
}

// answers reads the option: one address or network, or a table of them.
func answers(L *glua.LState, v glua.LValue) (all []netip.Prefix) {
	add := func(v glua.LValue) {
		p, err := parseNetwork(v.String())
		if err != nil || !p.Addr().Is4() {
			L.RaiseError("dnsbl: answer %s is no IPv4 address or network", quoteValue(v))
		}
		all = append(all, p)
	}
	switch v := v.(type) {
	case glua.LString:
		add(v)
	case *glua.LTable:
		if v.Len() == 0 || v.Len() > 100 {
			L.RaiseError("dnsbl: answers holds 1 to 100 addresses or networks")
		}
		for i := 1; i <= v.Len(); i++ {
			add(v.RawGetInt(i))
		}
	default:
		L.RaiseError(`dnsbl: answers is a table such as { "127.0.0.2" }, and here it is %s`, typeName(v))
	}
	return all
}

// dnsHit is what one zone said.
type dnsHit struct {
	zone   dnsZone
	name   string // that was asked
	answer string // "" if it is not listed
	failed bool   // it could not be asked
}

// ask asks all zones at once and gives the hits in the order of the zones.
// failed says that another one might have hit: a zone gave no usable answer.
func (d *dnsListRef) ask(L *glua.LState, ctx context.Context) (hits []dnsHit, failed bool) {
	x := d.x
	what, ok := L.Get(2).(glua.LString)
	prefix := ""
	if ok {
		prefix = dnsblName(string(what))
	}
	if prefix == "" {
		return nil, false // no address (a unix socket), no domain: listed nowhere
	}
	x.Meter.Charge(int64(500 * len(d.zones)))
	hits = make([]dnsHit, len(d.zones))
	done := make(chan struct{}, len(d.zones))
	for i, z := range d.zones {
		hits[i] = dnsHit{zone: z, name: prefix + "." + z.name, failed: true}
		one := func() {
			defer func() {
				recover() // a goroutine of ours must not end the process: this zone is in trouble
				done <- struct{}{}
			}()
			values, err := x.lookup(ctx, policy.Query{Service: "dnsbl", Type: z.name, Name: hits[i].name})
			if err == nil {
				hits[i].answer, hits[i].failed = d.listed(values)
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
	failed = slices.ContainsFunc(hits, func(h dnsHit) bool { return h.failed })
	return slices.DeleteFunc(hits, func(h dnsHit) bool { return h.answer == "" }), failed
}

// listed is the first answer that means "listed", "" if none does. One that
// means "I do not answer you" makes all of them worthless.
func (d *dnsList) listed(values []string) (found string, refused bool) {
	for _, v := range values {
		a, err := netip.ParseAddr(v)
		if err != nil || refusedAnswers.Contains(a) {
			return "", true
		}
		if found == "" && slices.ContainsFunc(d.answers, func(p netip.Prefix) bool { return p.Contains(a) }) {
			found = v
		}
	}
	return found, false
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

var troubleValue = param{"err", "string?", `"temporary" if a list could not be asked that might have changed this.`}

var dnsblClass = (&class{name: "dnsbl", typ: "Dnsbl", doc: "DNS lists, by dnsbl().",
	members: []*member{
		{name: "check", params: []param{{"what", "string?", "An address, or a domain (or mail address) for a list of domains."}},
			returns: []param{{"hit", "{zone: string, reason: string, answer: string}?", "The first list that has it; nil if none has, or none can be asked."}, troubleValue},
			doc:     "Whether it is listed.",
			do:      func(x *state, L *glua.LState, self any) int { return self.(*dnsListRef).check(L) }},
		{name: "score", params: []param{{"what", "string?", "As for check."}},
			returns: []param{{"score", "number", "The weights of the lists that have it, added up."}, troubleValue},
			doc:     "How badly it is listed.",
			do:      func(x *state, L *glua.LState, self any) int { return self.(*dnsListRef).score(L) }},
	}}).ready()

func (d *dnsListRef) check(L *glua.LState) int {
	x := d.x
	ctx, cancel := x.waiting(L)
	defer cancel()
	hits, failed := d.ask(L, ctx)
	if len(hits) == 0 {
		L.Push(glua.LNil)
		return 1 + pushTrouble(L, failed)
	}
	h := hits[0]
	reason := "listed"
	if values, err := x.lookup(ctx, policy.Query{Service: "dns", Type: "TXT", Name: h.name}); err == nil && len(values) > 0 {
		reason = printable(values[0])
	}
	t := lua.NewRecord(L, 3)
	t.RawSetString("zone", glua.LString(h.zone.name))
	t.RawSetString("answer", glua.LString(h.answer))
	t.RawSetString("reason", x.text(L, reason))
	L.Push(t)
	return 1
}

func (d *dnsListRef) score(L *glua.LState) int {
	ctx, cancel := d.x.waiting(L)
	defer cancel()
	hits, failed := d.ask(L, ctx)
	sum := 0.0
	for _, h := range hits {
		sum += h.zone.weight
	}
	L.Push(glua.LNumber(sum))
	return 1 + pushTrouble(L, failed)
}

// pushTrouble pushes the second value of an answer that may be incomplete.
func pushTrouble(L *glua.LState, failed bool) int {
	if !failed {
		return 0
	}
	L.Push(glua.LString(errTemporary.Error()))
	return 1
}

// printable makes text from the DNS fit for a reply.
func printable(s string) string {
	return clip(strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f {
			return ' '
		}
		return c
	}, s), 300)
}
