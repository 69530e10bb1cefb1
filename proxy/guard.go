package proxy

import (
	"strings"

	"github.com/moongate/moongate/policy"
)

// guarded reports whether a recipient is not for this client: it is a stranger,
// the upstream cannot know that (it sees us, whom it trusts), and the recipient
// is not plainly one of ours. It is asked for each recipient, behind the
// policy, whatever the policy said.
//
// The form is strict by choice. A stock Postfix that trusts our address
// delivered each of these to the outside: v%ext@local, "v@ext"@local,
// "v%ext"@local, ext!v@local, v@ext@local, @local:v@ext, v%ext and
// v%ext@[127.0.0.1].
func (s *Settings) guarded(f *policy.Facts, p *policy.Path) bool {
	if !f.Stranger || f.User != "" || s.Hop.KnowsClient() {
		return false
	}
	if p.Routed || p.Literal {
		return true
	}
	if p.Domain == "" { // RFC 5321 4.5.1: <postmaster>, and nobody else
		return !p.IsPostmaster()
	}
	if !s.domains[p.Domain] {
		return true
	}
	return strings.IndexFunc(p.Local, func(c rune) bool {
		return c <= ' ' || c == 0x7f || c == '@' || c == '%' || c == '!'
	}) >= 0
}
