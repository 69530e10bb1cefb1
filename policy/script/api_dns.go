package script

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	glua "github.com/yuin/gopher-lua"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/lua"
)

// maxLookup is the longest that one lookup waits; it ends 200 ms before its
// rule does, so that the rule can still decide.
const (
	maxLookup   = 1500 * time.Millisecond
	leftForRule = 200 * time.Millisecond
)

var errTemporary = errors.New("temporary")

// lookup asks the world. What goes wrong is "temporary": the author can do
// nothing about the difference, and the log has it.
func (x *state) lookup(ctx context.Context, q policy.Query) ([]string, error) {
	a, err := x.s.World.Lookup(ctx, q)
	if err != nil {
		return nil, errTemporary
	}
	return a.Values, nil
}

// waiting is the context of a lookup. At most three quarters of the states may
// wait at a time: with a dead resolver the others go on serving rules that ask
// nobody. Who comes too late gets what is known already, else "temporary".
func (x *state) waiting(L *glua.LState) (context.Context, context.CancelFunc) {
	if x.s == nil || x.s.World == nil {
		L.RaiseError("the DNS is asked in a hook: nothing is asked while a file is loaded")
	}
	end := time.Now().Add(maxLookup)
	if d := x.ev.Deadline; !d.IsZero() && d.Add(-leftForRule).Before(end) {
		end = d.Add(-leftForRule)
	}
	n := &x.p.pool.asking
	if n.Add(1) > int64(max(1, x.p.pool.max*3/4)) {
		end = time.Time{}
	}
	x.Meter.Rest()
	ctx, cancel := context.WithDeadline(x.Meter.Context(), end)
	return ctx, func() { cancel(); n.Add(-1) }
}

var dnsValues = []param{{"values", "string[]?", "Empty if there is no such name or record; nil if that cannot be said now."}, {"err", "string?", `"temporary".`}}

func dnsFunction(name, typ, doc string) *function {
	return &function{name: name, doc: doc, params: []param{{"name", "string", "A domain."}}, returns: dnsValues,
		do: func(x *state, L *glua.LState) int {
			domain, err := policy.NewPath("x@"+strings.TrimSuffix(checkString(L, 1, "dns."+name), "."), true)
			if err != nil || domain.Literal { // what strangers call a domain: no such name
				L.Push(lua.NewList(L, 0))
				return 1
			}
			return x.dns(L, typ, domain.Domain)
		}}
}

var dnsLibrary = &library{name: "dns", doc: "Questions to the DNS. Answers are cached; a question waits at most 1.5 s.",
	functions: []*function{
		dnsFunction("a", "A", "IPv4 addresses of a name."),
		dnsFunction("aaaa", "AAAA", "IPv6 addresses of a name."),
		dnsFunction("mx", "MX", "Mail exchangers of a domain, the preferred one first."),
		dnsFunction("txt", "TXT", "Text records of a name."),
		{name: "ptr", doc: "Names of an address.", params: []param{{"ip", "string", "An address."}}, returns: dnsValues,
			do: func(x *state, L *glua.LState) int {
				a, err := netip.ParseAddr(checkString(L, 1, "dns.ptr"))
				if err != nil {
					L.Push(lua.NewList(L, 0))
					return 1
				}
				return x.dns(L, "PTR", a.Unmap().WithZone("").String())
			}},
	}}

func (x *state) dns(L *glua.LState, typ, name string) int {
	x.Meter.Charge(500)
	ctx, cancel := x.waiting(L)
	defer cancel()
	values, err := x.lookup(ctx, policy.Query{Service: "dns", Type: typ, Name: name})
	if err != nil {
		L.Push(glua.LNil)
		L.Push(glua.LString(err.Error()))
		return 2
	}
	if typ == "MX" {
		values = exchangers(values)
	}
	values = values[:min(len(values), 100)]
	t := lua.NewList(L, len(values))
	for _, v := range values {
		t.Append(x.text(L, v))
	}
	L.Push(t)
	return 1
}

// exchangers sorts "10 mail.example" and leaves the names.
func exchangers(values []string) []string {
	type mx struct {
		pref int
		host string
	}
	all := make([]mx, 0, len(values))
	for _, v := range values {
		pref, host, _ := strings.Cut(v, " ")
		n, _ := strconv.Atoi(pref)
		all = append(all, mx{n, host})
	}
	slices.SortStableFunc(all, func(a, b mx) int { return cmp.Compare(a.pref, b.pref) })
	hosts := make([]string, len(all))
	for i, m := range all {
		hosts[i] = m.host
	}
	return hosts
}
