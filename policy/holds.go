package policy

// settle moves the holds of an event to what they belong to: the recipient,
// else the message, else they are kept at once.
func (s *Session) settle(ev *Event) {
	if len(ev.holds) == 0 {
		return
	}
	switch {
	case ev.Hook == Rcpt:
		ev.Rcpt.holds = append(ev.Rcpt.holds, ev.holds...)
		s.Tx.reserved = append(s.Tx.reserved, ev.Rcpt)
	case ev.Hook >= Mail && ev.Hook <= Message && s.Tx != nil:
		s.Tx.holds = append(s.Tx.holds, ev.holds...)
	default:
		for _, h := range ev.holds {
			h.Keep()
		}
	}
	ev.holds = nil
}

// release gives back what was not kept, also for a recipient that was asked
// about and never answered: MAIL, sent beside it, was refused, or the session
// ended.
func (tx *Transaction) release() {
	release(&tx.holds)
	for _, r := range tx.reserved {
		release(&r.holds)
	}
}

func keep(holds *[]Hold) {
	for _, h := range *holds {
		h.Keep()
	}
	*holds = nil
}

func release(holds *[]Hold) {
	for _, h := range *holds {
		h.Release()
	}
	*holds = nil
}
