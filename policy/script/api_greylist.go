package script

import (
	"context"
	"fmt"
	"net/netip"
	"strconv"
	"time"

	glua "github.com/yuin/gopher-lua"

	"github.com/moongate/moongate/policy"
)

// greylist is what greylist declares: a client, sender and recipient that were
// never seen together are told to come back; who comes back passes, and a
// client that did so five times is known.
type greylist struct {
	name                string
	delay, window, keep time.Duration
	bits4, bits6        int
}

// enough passes make a client known.
const enoughPasses = 5

type greylistRef struct {
	x *state
	*greylist
}

func (g *greylistRef) in() *state { return g.x.alive() }

var greylistFunction = &function{name: "greylist", top: true,
	params: []param{{"name", "string", "Its name; the same in every version of the policy."},
		{"options", "{delay: string?, window: string?, keep: string?, net: integer[]?}?", `delay ("5m"): not before; window ("24h"): not after; keep ("36d"): how long one that came back is known; net ({24, 64}): how much of an address is the client.`}},
	returns: []param{{"", "Greylist", ""}},
	doc:     "Greylisting: strangers are asked to come back, as every honest server does.",
	do: func(x *state, L *glua.LState) int {
		g := &greylist{name: checkName(L, 1, "greylist"), delay: 5 * time.Minute, window: 24 * time.Hour, keep: 36 * 24 * time.Hour, bits4: 24, bits6: 64}
		if o := optTable(L, 2, "greylist"); o != nil {
			g.options(L, o)
		}
		d := x.declare(L, "greylist", g.name, fmt.Sprint(*g), func() (any, error) { return g, nil })
		L.Push(greylistClass.userdata(&greylistRef{x, d.(*greylist)}))
		return 1
	}}

func (g *greylist) options(L *glua.LState, o *glua.LTable) {
	checkOptions(L, "greylist", o, "delay", "window", "keep", "net")
	for key, d := range map[string]*time.Duration{"delay": &g.delay, "window": &g.window, "keep": &g.keep} {
		v := o.RawGetString(key)
		if v == glua.LNil {
			continue
		}
		t, err := parseDuration(v.String())
		if err != nil {
			L.RaiseError("greylist: %s: %s", key, err.Error())
		}
		*d = t
	}
	if g.window <= g.delay {
		L.RaiseError("greylist: the window ends before the delay does")
	}
	if v := o.RawGetString("net"); v != glua.LNil {
		t, _ := v.(*glua.LTable)
		if t != nil {
			a, _ := t.RawGetInt(1).(glua.LNumber)
			b, _ := t.RawGetInt(2).(glua.LNumber)
			g.bits4, g.bits6 = int(a), int(b)
		}
		if t == nil || g.bits4 < 8 || g.bits4 > 32 || g.bits6 < 16 || g.bits6 > 128 {
			L.RaiseError("greylist: net is {24, 64}: bits of an IPv4 and of an IPv6 address")
		}
	}
}

// client is the network that counts as one client.
func (g *greylist) client(a netip.Addr) string {
	a = a.Unmap().WithZone("")
	bits := g.bits6
	if a.Is4() {
		bits = g.bits4
	}
	p, err := a.Prefix(bits)
	if err != nil {
		return "local"
	}
	return p.String()
}

// key is who is asked to come back. The null sender and postmaster are
// everyone's, so there only the client counts.
func (g *greylist) key(client string, from policy.Path, r *policy.Recipient) string {
	if from.IsNull() || r.Out.IsPostmaster() {
		return client
	}
	return foldKey(client + " " + from.Address + " " + r.Out.Address)
}

var passed = []byte("passed")

// check asks and notes. What the store cannot say counts as seen: an outage of
// ours must not keep mail away.
func (g *greylist) check(ctx context.Context, st policy.Store, now time.Time, client, key string, shadow bool) (pass bool, wait time.Duration) {
	cache, clients := "greylist "+g.name, "greylist clients "+g.name
	if n, err := st.Add(ctx, now, clients, client, 0, g.keep); err != nil || n >= enoughPasses {
		return true, 0
	}
	old, err := st.Get(ctx, now, cache, key)
	if err != nil {
		return true, 0
	}
	set := func(value []byte, ttl time.Duration) {
		if !shadow {
			st.Set(ctx, now, cache, key, value, ttl, false)
		}
	}
	switch {
	case old == nil:
		set(strconv.AppendInt(nil, now.Unix(), 10), g.window)
		return false, g.delay
	case string(old) == string(passed):
		set(passed, g.keep)
		return true, 0
	}
	first, err := strconv.ParseInt(string(old), 10, 64)
	if left := time.Unix(first, 0).Add(g.delay).Sub(now); err == nil && left > 0 {
		return false, left
	}
	set(passed, g.keep)
	if !shadow {
		st.Add(ctx, now, clients, client, 1, g.keep)
	}
	return true, 0
}

var greylistClass = (&class{name: "greylist", typ: "Greylist", doc: "Greylisting, by greylist().",
	members: []*member{
		{name: "check", from: policy.Rcpt,
			params:  []param{{"conn", "Conn", ""}, {"msg", "Msg", ""}, {"rcpt", "Rcpt", ""}},
			returns: []param{{"pass", "boolean", "true for a client that came back, or is known, or if the store is away."}, {"wait", "integer?", "Seconds until it passes."}},
			doc:     "Whether this recipient may pass; if not, `return tempfail(...)`.",
			do: func(x *state, L *glua.LState, self any) int {
				g := self.(*greylistRef)
				for i, want := range []glua.LValue{&x.conn.ud, &x.msg.ud, &x.msg.rcpt.ud} {
					if L.Get(i+2) != want {
						L.RaiseError("check: the arguments are conn, msg, rcpt")
					}
				}
				if x.ev.Rcpt == nil {
					L.RaiseError("check: greylisting is for 'rcpt'")
				}
				x.Meter.Charge(200)
				client := g.client(x.s.Remote.Addr())
				pass, wait := g.greylist.check(x.Meter.Context(), x.store(L), x.s.World.Now(), client, g.key(client, x.msg.tx.Out.From, x.ev.Rcpt), x.rule.desc.Shadow)
				L.Push(glua.LBool(pass))
				if pass {
					return 1
				}
				L.Push(glua.LNumber((wait + time.Second - 1) / time.Second))
				return 2
			}},
	}}).ready()
