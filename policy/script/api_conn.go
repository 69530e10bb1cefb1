package script

import (
	glua "github.com/yuin/gopher-lua"

	"github.com/moongate/moongate/policy"
)

var connClass = (&class{name: "conn", typ: "Conn", doc: "The client's connection.",
	members: []*member{
		{name: "id", typ: "string", doc: "Id of the session, as in the log.",
			get: conn(func(x *state, c *connVars) glua.LValue { return c.id.of(x.s.ID) })},
		{name: "ip", typ: "string?", doc: `Address of the client, "192.0.2.1" or "2001:db8::1"; nil on a unix socket.`,
			get: conn(func(x *state, c *connVars) glua.LValue {
				return c.address(x).ip.v
			})},
		{name: "net", typ: "string?", doc: `Its network, "192.0.2.0/24" or "2001:db8::/64".`,
			get: conn(func(x *state, c *connVars) glua.LValue {
				return c.address(x).net.v
			})},
		{name: "port", typ: "integer?", doc: "The client's port.",
			get: conn(func(x *state, c *connVars) glua.LValue {
				if !x.s.Remote.IsValid() {
					return glua.LNil
				}
				return glua.LNumber(x.s.Remote.Port())
			})},
		{name: "ptr", typ: "string?", doc: "Its name by DNS, if that name leads back to the address.",
			get: conn(func(x *state, c *connVars) glua.LValue { return c.ptr.orNil(x.s.PTR) })},
		{name: "helo", typ: "string?", doc: `Name given with EHLO or HELO; nil before it. "" from mail on, if an MTA that asks us or forwards clients to us let one go without.`,
			get: conn(heloOf)},
		{name: "tls", typ: "Tls?", doc: "nil in clear.",
			get: conn(func(x *state, c *connVars) glua.LValue {
				if x.s.TLS == nil {
					return glua.LNil
				}
				return tlsClass.userdata(&tlsObject{x, x.s.TLS})
			})},
		{name: "user", typ: "string?", doc: "Login name; nil if the client has not logged in.",
			get: conn(func(x *state, c *connVars) glua.LValue { return c.user.orNil(x.s.User) })},
		{name: "listener", typ: "string", doc: "Where the client connected.",
			get: conn(func(x *state, c *connVars) glua.LValue { return c.listener.of(x.s.Listener) })},
		{name: "caps", planned: "what the upstream offers"},
		{name: "data", typ: "table", doc: "Yours, as long as the connection lives: text, numbers, booleans, tables of them; 64 KiB.",
			get: conn(func(x *state, c *connVars) glua.LValue { return c.data.value() })},
	}}).ready()

func conn(get func(x *state, c *connVars) glua.LValue) func(*state, any) glua.LValue {
	return func(x *state, self any) glua.LValue { return get(x, self.(*connVars)) }
}

// heloOf is conn.helo. An MTA may let its clients send mail without a HELO, where
// the door does not: the rules that it asks are those of the door, and find text.
func heloOf(x *state, c *connVars) glua.LValue {
	if x.s.Helo == "" && (x.hook == policy.Helo || x.s.Tx != nil) {
		return c.helo.of("")
	}
	return c.helo.orNil(x.s.Helo)
}

// address makes ip and net Lua values, once for an address.
func (c *connVars) address(x *state) *connVars {
	if c.ip.v == nil || c.remote != x.s.Remote {
		c.remote = x.s.Remote
		c.ip.v, c.net.v = textOrNil(addr(c.remote)), textOrNil(network(c.remote))
	}
	return c
}

type tlsObject struct {
	x *state
	*policy.TLS
}

func (t *tlsObject) in() *state { return t.x.alive() }

// alive is the state while a call runs, else nil.
func (x *state) alive() *state {
	if x == nil || x.s == nil {
		return nil
	}
	return x
}

func tlsField(get func(*policy.TLS) string) func(*state, any) glua.LValue {
	return func(_ *state, self any) glua.LValue { return textOrNil(get(self.(*tlsObject).TLS)) }
}

var tlsClass = (&class{name: "tls", typ: "Tls", doc: "An encrypted connection.",
	members: []*member{
		{name: "version", typ: "string", doc: `"TLSv1.3".`, get: tlsField(func(t *policy.TLS) string { return t.Version })},
		{name: "cipher", typ: "string", doc: "The cipher suite.", get: tlsField(func(t *policy.TLS) string { return t.Cipher })},
		{name: "sni", typ: "string?", doc: "The name the client asked for.", get: tlsField(func(t *policy.TLS) string { return t.SNI })},
		{name: "peer", typ: "string?", doc: "Subject of the verified client certificate.", get: tlsField(func(t *policy.TLS) string { return t.Peer })},
	}}).ready()

// attempt is an AUTH command.
type attempt struct {
	x *state
	*policy.Attempt
}

func (a *attempt) in() *state { return a.x.alive() }

func attemptField(get func(*policy.Attempt) string) func(*state, any) glua.LValue {
	return func(_ *state, self any) glua.LValue { return textOrNil(get(self.(*attempt).Attempt)) }
}

var attemptClass = (&class{name: "attempt", typ: "Attempt", doc: "A login under way.",
	members: []*member{
		{name: "mech", typ: "string", doc: "The mechanism, upper case.", get: attemptField(func(a *policy.Attempt) string { return a.Mech })},
		{name: "user", typ: "string?", doc: "The login name, where the mechanism shows it.", get: attemptField(func(a *policy.Attempt) string { return a.User })},
		{name: "pass", typ: "string?", doc: "The password, where the mechanism shows it.", get: attemptField(func(a *policy.Attempt) string { return a.Pass })},
	}}).ready()

// outcome is how a transaction ended.
type outcome struct {
	x *state
	*policy.Outcome
}

func (o *outcome) in() *state { return o.x.alive() }

func outcomeField(get func(*policy.Outcome) glua.LValue) func(*state, any) glua.LValue {
	return func(_ *state, self any) glua.LValue { return get(self.(*outcome).Outcome) }
}

var outcomeClass = (&class{name: "outcome", typ: "Outcome", doc: "How a message ended.",
	members: []*member{
		{name: "action", typ: "string", doc: `"accepted", "rejected", "tempfailed", "discarded", "quarantined" or "aborted".`,
			get: outcomeField(func(o *policy.Outcome) glua.LValue { return glua.LString(o.Word()) })},
		{name: "by", typ: "string", doc: `Who decided: "policy", "filter", "upstream", "moongate", "client".`,
			get: outcomeField(func(o *policy.Outcome) glua.LValue { return glua.LString(o.By) })},
		{name: "code", typ: "integer?", doc: "Code of the final reply; nil if there was none.",
			get: outcomeField(func(o *policy.Outcome) glua.LValue {
				if o.Reply.Code == 0 {
					return glua.LNil
				}
				return glua.LNumber(o.Reply.Code)
			})},
		{name: "reply", typ: "string?", doc: "The final reply.",
			get: outcomeField(func(o *policy.Outcome) glua.LValue { return textOrNil(o.Reply.String()) })},
		{name: "rule", typ: "string?", doc: "The rule that decided, file:line and name, as in the log.",
			get: func(x *state, self any) glua.LValue {
				return textOrNil(x.s.Tx.Decider(self.(*outcome).Outcome).String())
			}},
		{name: "reason", typ: "string?", doc: "Its reason, as in the log.",
			get: outcomeField(func(o *policy.Outcome) glua.LValue { return textOrNil(o.Verdict.Reason) })},
		{name: "cause", typ: "string?", doc: "Why it was aborted or failed.",
			get: outcomeField(func(o *policy.Outcome) glua.LValue { return textOrNil(o.Cause) })},
		{name: "queued_as", typ: "string?", doc: "The upstream's queue id.",
			get: outcomeField(func(o *policy.Outcome) glua.LValue { return textOrNil(o.QueuedAs) })},
		{name: "size", typ: "integer", doc: "Octets received.",
			get: outcomeField(func(o *policy.Outcome) glua.LValue { return glua.LNumber(o.Size) })},
	}}).ready()
