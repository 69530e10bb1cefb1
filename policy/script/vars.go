package script

import (
	"net/netip"

	glua "github.com/yuin/gopher-lua"

	"github.com/moongate/moongate/policy"
)

// connVars is what a session keeps for scripts, in Session.Vars: the object
// conn with its data, and strings that were made Lua values once.
type connVars struct {
	ud     glua.LUserData
	x      *state
	data   data
	remote netip.AddrPort // of ip and net

	id, ip, net, ptr, helo, user, listener boxed
}

// msgVars is the same for a transaction, in Transaction.Vars.
type msgVars struct {
	ud   glua.LUserData
	x    *state
	tx   *policy.Transaction
	data data
	rcpt rcptVars

	id, from, fromDomain, senderKey boxed
}

// rcptVars is the object rcpt: one for a transaction, it stands for whoever is
// judged.
type rcptVars struct {
	ud                    glua.LUserData
	x                     *state
	r                     *policy.Recipient
	address, user, domain boxed
}

func (v *connVars) in() *state { return v.x }
func (v *msgVars) in() *state  { return v.x }
func (v *rcptVars) in() *state { return v.x }

// boxed is a string with its Lua value, which costs an allocation to make.
type boxed struct {
	s string
	v glua.LValue
}

func (b *boxed) of(s string) glua.LValue {
	if b.v == nil || b.s != s {
		b.s, b.v = s, glua.LString(s)
	}
	return b.v
}

// orNil is of, but nil for what is not known.
func (b *boxed) orNil(s string) glua.LValue {
	if s == "" {
		return glua.LNil
	}
	return b.of(s)
}

func newConnVars() *connVars {
	v := &connVars{}
	v.ud.Value, v.ud.Metatable = v, connClass.meta
	return v
}

// connOf is the session's conn; a shadow rule gets a copy, as it must change
// nothing.
func connOf(s *policy.Session, shadow bool) *connVars {
	v, _ := s.Vars.(*connVars)
	if v == nil {
		v = newConnVars()
		if !shadow {
			s.Vars = v
		}
		return v
	}
	if !shadow {
		return v
	}
	twin := newConnVars()
	twin.data.table = copyData(v.data.table, 0)
	return twin
}

// msgOf is the transaction's msg; a fork gets a copy.
func msgOf(s *policy.Session, shadow bool) *msgVars {
	v, _ := s.Tx.Vars.(*msgVars)
	if v != nil && v.tx == s.Tx {
		return v
	}
	twin := &msgVars{tx: s.Tx}
	twin.ud.Value, twin.ud.Metatable = twin, msgClass.meta
	twin.rcpt.ud.Value, twin.rcpt.ud.Metatable = &twin.rcpt, rcptClass.meta
	if v != nil {
		twin.data.table = copyData(v.data.table, 0)
	}
	s.Tx.Vars = twin
	return twin
}

// network is the client's /24 or /64.
func network(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	ip, bits := a.Addr().Unmap().WithZone(""), 64
	if ip.Is4() {
		bits = 24
	}
	p, err := ip.Prefix(bits)
	if err != nil {
		return ""
	}
	return p.String()
}

func addr(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.Addr().Unmap().String()
}
