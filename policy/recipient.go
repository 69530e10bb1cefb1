package policy

import (
	"strings"
	"unicode/utf8"
)

// RcptState is what became of a recipient.
type RcptState uint8

const (
	RcptAsked    RcptState = iota // under judgement
	RcptAccepted                  // the client heard 2xx and it goes on
	RcptRefused                   // the client heard 4xx or 5xx
	RcptDropped                   // the client heard 250, the upstream never hears of it
	RcptRemoved                   // taken away by an edit after it was accepted
)

// Recipient is one recipient of a transaction.
type Recipient struct {
	In     Path    // as the client said it; zero for one that the policy added
	Out    Path    // as it goes on
	Params []Param // as the client said them
	State  RcptState
	Class  string // the policy's own, for one_class_per_message
	Reply  Reply  // what the client heard; the upstream's refusal for an added one

	Added     bool // by an edit
	Optional  bool // an added one that may be refused by the upstream alone
	Duplicate bool // an edit gave it the address of another, with which it goes on

	// The rule that dropped it, if one did, and why; for the audit line.
	rule   *Rule
	reason string

	holds []Hold
}

// Drop drops a recipient that v or an edit of its stage took away: the client
// hears 250, and the audit line who wanted it, and why.
func (r *Recipient) Drop(v Verdict) {
	r.State = RcptDropped
	if v.Action == Drop {
		r.rule, r.reason = v.Rule, v.Reason
	}
}

// Live reports whether the recipient is to get the message.
func (r *Recipient) Live() bool { return r.State == RcptAccepted }

// Orcpt returns the parameter that goes with the address that an edit put in
// the place of the client's, so that a report names the recipient that the
// sender knows (RFC 3461 4.2). It is "" where the client gave one himself, and
// for an address that the type rfc822 cannot say: without a domain, or beyond
// ASCII (RFC 6533).
func (r *Recipient) Orcpt() string {
	if _, given := FindParam(r.Params, "ORCPT"); given || r.Added || r.In.Domain == "" || !isASCII(r.In.Address) {
		return ""
	}
	return string(AppendXtext([]byte("ORCPT=rfc822;"), r.In.Address, nil))
}

func isASCII(s string) bool {
	return !strings.ContainsFunc(s, func(c rune) bool { return c >= utf8.RuneSelf })
}

// Recipients returns those that are to get the message.
func (tx *Transaction) Recipients() []*Recipient {
	live := make([]*Recipient, 0, len(tx.Rcpts))
	for _, r := range tx.Rcpts {
		if r.Live() {
			live = append(live, r)
		}
	}
	return live
}

// FindRcpts returns the live recipients of that canonical address: a client may
// name one more often than once. The local part is compared without regard to
// ASCII case, as a rule that removes a recipient must not miss a spelling.
func (tx *Transaction) FindRcpts(address string) []*Recipient {
	var found []*Recipient
	for _, r := range tx.Rcpts {
		if r.Live() && strings.EqualFold(r.Out.Address, address) {
			found = append(found, r)
		}
	}
	return found
}
