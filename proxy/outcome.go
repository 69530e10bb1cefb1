package proxy

import (
	"errors"

	"github.com/moongate/moongate/policy"
)

// outcome is the end of a transaction, or of a command, by its reply.
func outcome(r policy.Reply, by policy.Source, cause string) *policy.Outcome {
	o := &policy.Outcome{Reply: r, By: by, Cause: cause}
	switch r.Code / 100 {
	case 2:
		o.Action = policy.Accept
	case 4:
		o.Action = policy.Tempfail
	case 5:
		o.Action = policy.Reject
	}
	return o
}

// hopFailed is what an error of the upstream means to the client.
func hopFailed(err error) *policy.Outcome {
	var he *HopError
	if !errors.As(err, &he) || !he.Reply.Refuses() {
		return outcome(replyTrouble, policy.ByMoongate, err.Error())
	}
	by := policy.ByMoongate
	if he.Reply.Raw != nil {
		by = policy.ByUpstream
	}
	o := outcome(he.Reply, by, he.Error())
	o.Ambiguous = he.Ambiguous
	return o
}

// hopSaid is what a refusal of the upstream means to the client: word for
// word, but for refusals that tell of a fault between the two of us.
// docs/mail.md 11 and 20.
func (s *session) hopSaid(r policy.Reply) *policy.Outcome {
	switch {
	case r.Code == 421 && !s.set.Hop.Identity.Knows():
		return outcome(hopBusy, policy.ByMoongate, r.String())
	case r.Code < 400 && r.Code/100 != 2, ourFault(r.Code):
		return outcome(replyTrouble, policy.ByMoongate, "upstream: "+r.String())
	}
	return outcome(r, policy.ByUpstream, "")
}
