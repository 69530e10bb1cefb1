package policy

// putOff keeps the refusal in s.now until RCPT: of connect and helo for the
// session, of mail for the transaction.
func (s *Session) putOff(h Hook) {
	if h <= Helo {
		s.delayed[h] = s.now
		return
	}
	v := s.now
	s.Tx.delayed = &v
}

// delayedVerdict gives at rcpt what connect, helo and mail rules with
// at = "rcpt" decided: not to a client that has logged in, not for postmaster,
// not after bypass(). It is nil if there is none.
func (s *Session) delayedVerdict(ev *Event) *Verdict {
	if ev.Hook != Rcpt || s.User != "" || s.bypassed || s.Tx.bypassed || ev.Rcpt.In.IsPostmaster() {
		return nil
	}
	for i := range s.delayed {
		if s.delayed[i].Decided() {
			return &s.delayed[i]
		}
	}
	return s.Tx.delayed
}
