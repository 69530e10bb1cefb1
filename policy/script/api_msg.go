package script

import (
	"strings"

	glua "github.com/yuin/gopher-lua"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/lua"
)

var msgClass = (&class{name: "msg", typ: "Msg", doc: "One message, from MAIL to the final reply. It shows what goes on: a rule reads what the rules before it changed.",
	members: append([]*member{
		{name: "conn", typ: "Conn", doc: "The client's connection.",
			get: func(x *state, _ any) glua.LValue { return &x.conn.ud }},
		{name: "id", typ: "string", doc: "Id of the message, as in the log and in our replies.",
			get: msg(func(x *state, m *msgVars) glua.LValue { return m.id.of(m.tx.ID) })},
		{name: "from", typ: "string", doc: `Envelope sender, canonical; "" for bounces.`,
			get: msg(func(x *state, m *msgVars) glua.LValue { return m.from.of(m.tx.Out.From.Address) })},
		{name: "from_domain", typ: "string", doc: `Its domain, lower case; "" for bounces.`,
			get: msg(func(x *state, m *msgVars) glua.LValue { return m.fromDomain.of(m.tx.Out.From.Domain) })},
		{name: "sender_key", typ: "string", doc: "Key for limits: the sender, or for bounces <> and the client's network, as the null sender is everyone's.",
			get: msg(func(x *state, m *msgVars) glua.LValue {
				if m.tx.Out.From.IsNull() {
					return m.senderKey.of("<> " + network(x.s.Remote))
				}
				return m.from.of(m.tx.Out.From.Address)
			})},
		{name: "size", typ: "integer?", doc: "Octets of the message as it came; nil until it is here.",
			get: msg(func(x *state, m *msgVars) glua.LValue {
				if m.tx.Message == nil {
					return glua.LNil
				}
				n, ok := m.tx.Message.Size()
				if !ok {
					return glua.LNil
				}
				return glua.LNumber(n)
			})},
		{name: "params", typ: "table<string, string>", doc: `Parameters of MAIL, as the client wrote them: msg.params.SIZE; "" where there is no value.`,
			get: msg(func(x *state, m *msgVars) glua.LValue { return paramTable(x, m.tx.In.Params) })},
		{name: "rcpts", typ: "string[]", doc: "Addresses that are to get the message; a new table each time.",
			get: msg(func(x *state, m *msgVars) glua.LValue {
				t := lua.NewList(x.L, len(m.tx.Rcpts))
				for _, r := range m.tx.Rcpts {
					if r.Live() {
						t.Append(x.text(x.L, r.Out.Address))
					}
				}
				return t
			})},
		{name: "filters", typ: "table<string, Filter>", doc: `What the verifying filters said, at message: local f = msg.filters.rspamd; nil for one that was not asked. A rule's refusal replaces a filter's; accept() and silence let it stand.`,
			get: msg(func(x *state, m *msgVars) glua.LValue { return filterTable(x, m) })},
		{name: "data", typ: "table", doc: "Yours, as long as the message lives: text, numbers, booleans, tables of them; 64 KiB.",
			get: msg(func(x *state, m *msgVars) glua.LValue { return m.data.value() })},
	}, append(envelopeMembers, append(headerMembers, append(bodyMembers, plannedMembers...)...)...)...)}).ready()

func msg(get func(x *state, m *msgVars) glua.LValue) func(*state, any) glua.LValue {
	return func(x *state, self any) glua.LValue { return get(x, self.(*msgVars)) }
}

// plannedMembers are in the language and not in this release.
var plannedMembers = []*member{
	{name: "text", planned: "MIME"}, {name: "html", planned: "MIME"}, {name: "parts", planned: "MIME"},
	{name: "attachments", planned: "MIME"},
	{name: "add_footer", planned: "MIME"}, {name: "spf", planned: "authentication"}, {name: "dkim", planned: "authentication"},
	{name: "dmarc", planned: "authentication"}, {name: "route", planned: "more than one upstream"}, {name: "would_break", planned: "DKIM"},
}

func paramTable(x *state, params []policy.Param) glua.LValue {
	t := lua.NewRecord(x.L, len(params))
	for _, p := range params {
		t.RawSetString(p.Key, x.text(x.L, p.Value))
	}
	return t
}

var rcptClass = (&class{name: "rcpt", typ: "Rcpt", doc: "The recipient under judgement.",
	members: []*member{
		{name: "address", typ: "string", doc: "The address, canonical.",
			get: rcpt(func(x *state, r *rcptVars) glua.LValue { return r.address.of(r.r.Out.Address) })},
		{name: "user", typ: "string", doc: "Its local part, unquoted.",
			get: rcpt(func(x *state, r *rcptVars) glua.LValue { return r.user.of(r.r.Out.Local) })},
		{name: "domain", typ: "string", doc: `Its domain, lower case; "" for a bare local part.`,
			get: rcpt(func(x *state, r *rcptVars) glua.LValue { return r.domain.of(r.r.Out.Domain) })},
		{name: "postmaster", typ: "boolean", doc: "Whether it is postmaster, bare or at any domain, in any case.",
			get: rcpt(func(x *state, r *rcptVars) glua.LValue { return glua.LBool(r.r.Out.IsPostmaster()) })},
		{name: "params", typ: "table<string, string>", doc: "Parameters of RCPT, as the client wrote them.",
			get: rcpt(func(x *state, r *rcptVars) glua.LValue { return paramTable(x, r.r.Params) })},
		{name: "class", typ: "string?", doc: "Yours to set: recipients of different classes can be brought apart (one_class_per_message).",
			get: rcpt(func(x *state, r *rcptVars) glua.LValue { return textOrNil(r.r.Class) }),
			set: func(x *state, L *glua.LState, self any, v glua.LValue) {
				s, ok := v.(glua.LString)
				if !ok {
					L.RaiseError("rcpt.class is text, and here it is %s", typeName(v))
				}
				self.(*rcptVars).r.Class = clip(string(s), 64)
			}},
	}}).ready()

func rcpt(get func(x *state, r *rcptVars) glua.LValue) func(*state, any) glua.LValue {
	return func(x *state, self any) glua.LValue { return get(x, self.(*rcptVars)) }
}

// envelopeMembers change who sends and who gets the message.
var envelopeMembers = []*member{
	{name: "set_from", from: policy.Mail,
		params: []param{{"address", "string", `The new envelope sender; "" for none.`}, {"options", "{bounce: boolean?}?", "bounce = true allows it on or to the null sender."}},
		doc:    "Replaces the envelope sender. Bounces go to it, so a bounce keeps its null sender unless options.bounce is true.",
		do: func(x *state, L *glua.LState, self any) int {
			tx := self.(*msgVars).tx
			to := checkString(L, 2, "set_from")
			bounce := false
			if o := optTable(L, 3, "set_from"); o != nil {
				bounce = glua.LVAsBool(o.RawGetString("bounce"))
			}
			if (to == "" || tx.Out.From.IsNull()) && !bounce {
				L.RaiseError("set_from on or to the null sender needs {bounce=true}: bounces of bounces are mail loops")
			}
			x.do(L, "set_from", policy.Edit{Kind: policy.SetSender, Path: x.path(L, "set_from", to)})
			return 0
		}},
	{name: "add_rcpt", from: policy.Mail,
		params: []param{{"address", "string", "Who is to get the message, too."},
			{"options", "{optional: boolean?, notify: string?}?", `optional = true: the upstream may refuse it alone; without it, such a refusal refuses the message. notify is the DSN NOTIFY parameter, by default "NEVER": an archive must not bounce to the outside.`}},
		doc: "Adds a recipient.",
		do: func(x *state, L *glua.LState, self any) int {
			e := policy.Edit{Kind: policy.AddRcpt, Path: x.path(L, "add_rcpt", checkString(L, 2, "add_rcpt"))}
			notify := "NEVER"
			if o := optTable(L, 3, "add_rcpt"); o != nil {
				e.Optional = glua.LVAsBool(o.RawGetString("optional"))
				if s, ok := o.RawGetString("notify").(glua.LString); ok {
					notify = strings.ToUpper(string(s))
				}
			}
			if !validNotify(notify) {
				L.RaiseError("add_rcpt: notify is NEVER, or of SUCCESS, FAILURE, DELAY with commas (RFC 3461 4.1)")
			}
			e.Params = []policy.Param{{Key: "NOTIFY", Value: notify, Raw: "NOTIFY=" + notify}}
			x.do(L, "add_rcpt", e)
			return 0
		}},
	{name: "skip_filter", from: policy.Mail, only: true,
		params: []param{{"name", "string", "The filter's name; its address if [[filter]] gives it none. check warns of one that is none."}},
		doc:    "Leaves a filter out of this message.",
		do: func(x *state, L *glua.LState, self any) int {
			if x.hook != policy.Mail {
				L.RaiseError("skip_filter is not possible at '%s', only at mail", stageName(x.hook))
			}
			tx := self.(*msgVars).tx
			tx.Skip = append(tx.Skip, checkString(L, 2, "skip_filter"))
			return 0
		}},
	{name: "remove_rcpt", from: policy.Rcpt,
		params:  []param{{"address", "string", "Whom, in any spelling."}},
		returns: []param{{"found", "boolean", "false if it is none of msg.rcpts."}},
		doc:     "Takes a recipient away that was accepted before, as often as the client named it. At rcpt, drop() is for the one under judgement.",
		do: func(x *state, L *glua.LState, self any) int {
			address := x.canonical(checkString(L, 2, "remove_rcpt"))
			found := x.msg.tx.FindRcpts(address)
			if len(found) == 0 && x.judges(address) {
				L.RaiseError("remove_rcpt: %s is under judgement: 'return drop()'", address)
			}
			return x.onRcpts(L, "remove_rcpt", found, policy.Edit{Kind: policy.RemoveRcpt})
		}},
	{name: "replace_rcpt", from: policy.Rcpt,
		params:  []param{{"who", "string|Rcpt", "The recipient under judgement, or an address in any spelling."}, {"address", "string", "The new address."}},
		returns: []param{{"found", "boolean", "false if it is none of msg.rcpts, nor under judgement."}},
		doc:     "Sends a recipient's copy to another address. An address means all of msg.rcpts that have it, and the one under judgement.",
		do: func(x *state, L *glua.LState, self any) int {
			var found []*policy.Recipient
			if ud, ok := L.Get(2).(*glua.LUserData); ok {
				v, ok := ud.Value.(*rcptVars)
				if !ok || v.x != x {
					L.RaiseError("replace_rcpt: the first argument is rcpt or an address")
				}
				found = append(found, v.r)
			} else {
				address := x.canonical(checkString(L, 2, "replace_rcpt"))
				if found = x.msg.tx.FindRcpts(address); x.judges(address) {
					found = append(found, x.ev.Rcpt)
				}
			}
			return x.onRcpts(L, "replace_rcpt", found, policy.Edit{Kind: policy.ReplaceRcpt, Path: x.path(L, "replace_rcpt", checkString(L, 3, "replace_rcpt"))})
		}},
}

// canonical is an address of a script as it is compared. What is none is no
// recipient's.
func (x *state) canonical(address string) string {
	p, err := policy.NewPath(address, x.msg.tx.SMTPUTF8())
	if err != nil {
		return address
	}
	return p.Address
}

// judges reports whether the recipient under judgement has that address.
func (x *state) judges(address string) bool {
	return x.ev.Rcpt != nil && strings.EqualFold(x.ev.Rcpt.Out.Address, address)
}

// onRcpts makes an edit of each of these recipients, and says whether there are
// any.
func (x *state) onRcpts(L *glua.LState, what string, found []*policy.Recipient, e policy.Edit) int {
	for _, r := range found {
		e.Rcpt = r
		x.do(L, what, e)
	}
	L.Push(glua.LBool(len(found) > 0))
	return 1
}

// path reads an address that a script wrote.
func (x *state) path(L *glua.LState, what, address string) policy.Path {
	p, err := policy.NewPath(address, x.msg.tx.SMTPUTF8())
	if err != nil {
		L.RaiseError("%s: %q is no address: %s", what, clip(address, 100), err.Error())
	}
	return p
}

// do records an edit; what cannot be done is raised.
func (x *state) do(L *glua.LState, what string, e policy.Edit) {
	x.Meter.Alloc(L, int64(len(e.Name)+len(e.Value))+256)
	if h := x.msg.tx.Header(); h != nil && e.Kind.IsHeader() {
		x.walk(L, h)
	}
	if err := x.msg.tx.Do(e); err != nil {
		L.RaiseError("%s: %s", what, err.Error())
	}
}

func validNotify(s string) bool {
	if s == "NEVER" {
		return true
	}
	for w := range strings.SplitSeq(s, ",") {
		if w != "SUCCESS" && w != "FAILURE" && w != "DELAY" {
			return false
		}
	}
	return true
}
