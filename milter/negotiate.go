package milter

import (
	"fmt"
	"slices"

	"github.com/emersion/go-milter"

	"github.com/moongate/moongate/milter/wire"
	"github.com/moongate/moongate/policy"
)

// symbols are the macros that a session needs; asking for them makes us
// independent of what an administrator left in the MTA's own lists.
var symbols = []wire.Symbols{
	{Stage: milter.StageConnect, Names: "j v {daemon_name} {daemon_addr} {daemon_port} {if_addr} {client_resolve}"},
	{Stage: milter.StageHelo, Names: "{tls_version} {cipher} {cert_subject} {verify}"},
	{Stage: milter.StageMailFrom, Names: "i r {auth_authen}"},
	{Stage: milter.StageRcptTo, Names: "i"},
	{Stage: milter.StageData, Names: "i"},
	{Stage: milter.StageEOM, Names: "i"},
}

// noReply pairs each asked hook with the option by which the MTA goes on
// without waiting for our answer. RCPT is always answered, whether a rule is
// asked or not: an address that the grammar refuses is refused alone, as at the
// SMTP door, and there is no other moment for it. A sender is the whole
// message's, so his refusal can be the answer to the first RCPT.
var noReply = map[policy.Hook]milter.OptProtocol{
	policy.Connect: milter.OptNoConnReply,
	policy.Helo:    milter.OptNoHeloReply,
	policy.Mail:    milter.OptNoMailReply,
	policy.Data:    milter.OptNoDataReply,
	policy.Headers: milter.OptNoEOHReply,
	policy.Unknown: milter.OptNoUnknownReply,
}

// always are the options taken whatever the policy says: no answers to single
// headers and body chunks (or, where they must be given, SKIP among them), and
// header values with the blank behind the colon, or an edit could not keep it.
const always = milter.OptNoHeaderReply | milter.OptNoBodyReply | milter.OptSkip | milter.OptHeaderLeadingSpace

// spared is what a generation of rules can do without: commands that nobody
// asks about need no answer, a body that nobody reads is not sent. Commands
// that carry facts (connect, helo, mail, rcpt, headers) are always sent.
func spared(r *policy.Rules, filters bool) milter.OptProtocol {
	p := always
	if filters {
		return p
	}
	for _, h := range []policy.Hook{policy.Connect, policy.Helo, policy.Mail, policy.Data, policy.Headers, policy.Unknown} {
		if !answersAt(r, h) {
			p |= noReply[h]
		}
	}
	if !r.Any(policy.Unknown) {
		p |= milter.OptNoUnknown
	}
	if !r.Any(policy.Data) {
		p |= milter.OptNoData
	}
	if !r.Any(policy.Message) {
		p |= milter.OptNoBody
	}
	return p
}

// answersAt reports whether the verdict of some rule of h is given at h, and not
// at RCPT. Nobody hears a shadow rule.
func answersAt(r *policy.Rules, h policy.Hook) bool {
	return slices.ContainsFunc(r.At(h), func(rule *policy.Rule) bool { return rule.At == h && !rule.Shadow })
}

// meet makes our answer to the MTA's offer: the version no higher than either
// side speaks, actions and steps that both know.
func meet(offer wire.Options, spare milter.OptProtocol) (wire.Options, error) {
	if offer.Version < wire.MinVersion {
		return wire.Options{}, fmt.Errorf("milter: the MTA speaks protocol version %d, we speak %d to %d", offer.Version, wire.MinVersion, wire.MaxVersion)
	}
	got := wire.Options{Version: min(offer.Version, wire.MaxVersion)}
	actions, protocol := wire.Limits(got.Version)
	got.Actions = offer.Actions & actions
	got.Protocol = offer.Protocol & protocol & spare
	if got.Actions&milter.OptSetSymList != 0 {
		got.Symbols = symbols
	}
	return got, nil
}

// pin is the Engine of one MTA connection. What was negotiated away cannot be
// had back, so a generation of rules that needs it takes effect on the MTA's
// next connection; until then this one keeps the last that fits.
type pin struct {
	policy.Engine
	filters bool
	spare   milter.OptProtocol // what was negotiated away
	last    *policy.Rules
}

// Rules implements policy.Engine.
func (p *pin) Rules(f *policy.Facts) *policy.Rules {
	r := p.Engine.Rules(f)
	if r == p.last {
		return r
	}
	if p.spare&^spared(r, p.filters) == 0 {
		p.last = r
	}
	return p.last
}
