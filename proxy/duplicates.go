package proxy

import (
	"slices"

	"github.com/moongate/moongate/policy"
)

// An address that an edit names beside another mention of it is told to the
// upstream once: not every upstream sees that two RCPT mean one mailbox, and it
// would get the message twice. What the client says himself is never left out,
// as often as he says it. docs/mail.md 10.

// distinct returns the recipients that go on, and marks those who do so with
// another of the same address.
func distinct(tx *policy.Transaction) []*policy.Recipient {
	live := tx.Recipients()
	if !tx.EnvelopeEdited() {
		return live
	}
	stands := make(map[string]*policy.Recipient, len(live)) // the mention of an address that does
	for _, r := range live {
		a := mailbox(&r.Out)
		if first := stands[a]; first == nil || mentionOf(r) < mentionOf(first) {
			stands[a] = r
		}
	}
	return slices.DeleteFunc(live, func(r *policy.Recipient) bool {
		r.Duplicate = mentionOf(r) != asSaid && stands[mailbox(&r.Out)] != r
		return r.Duplicate
	})
}

// duplicates reports a recipient under judgement whom an edit gave the address
// of one that the client named before: it need not be told at all.
func duplicates(tx *policy.Transaction, r *policy.Recipient) bool {
	return mentionOf(r) != asSaid && slices.ContainsFunc(tx.Rcpts, func(o *policy.Recipient) bool {
		return o.Live() && !o.Added && mailbox(&o.Out) == mailbox(&r.Out)
	})
}

// mention says how an address came into the envelope. The lowest one stands,
// the first of equals, with its parameters: the client's own are what he asked
// for that very address, and what may be refused alone binds least.
type mention int

const (
	asSaid mention = iota // by the client
	byReplacing
	byAdding
	byAddingOptional
)

func mentionOf(r *policy.Recipient) mention {
	switch {
	case r.Added && r.Optional:
		return byAddingOptional
	case r.Added:
		return byAdding
	case r.Out.Raw != r.In.Raw:
		return byReplacing
	}
	return asSaid
}

// mailbox is a path as it is compared: the local part exactly (RFC 5321 2.4),
// the domain in any case. One with a source route, which an upstream may
// follow, is like itself alone.
func mailbox(p *policy.Path) string {
	if p.Routed {
		return p.Raw
	}
	return p.Address
}
