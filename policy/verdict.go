package policy

import "time"

// Verdict is the answer to one question. The zero value means "no opinion".
type Verdict struct {
	Action Action
	Reply  Reply         // for Reject and Tempfail: what the peer hears
	Delay  time.Duration // wait this long before the reply goes out
	Close  bool          // close the connection after the reply
	Reason string        // for the log only, never sent
	Rule   *Rule         // who decided; nil when nobody did

	// Failed is set when the verdict stands for a rule that failed (its
	// on_error), not for something that its author decided.
	Failed bool

	// Shadow is set by a filter that is asked and not obeyed; Watched is what it
	// would have decided.
	Shadow  bool
	Watched Action
}

// Refuses reports whether the peer is to hear a 4xx or 5xx.
func (v Verdict) Refuses() bool { return v.Action == Reject || v.Action == Tempfail }

// Swallows reports whether the message is to be taken with a 250 of our own
// and told to no upstream. The audit line says so.
func (v Verdict) Swallows() bool { return v.Action == Discard || v.Action == Quarantine }

// Decided reports whether the verdict ends its stage.
func (v Verdict) Decided() bool { return v.Action != Continue }
