package policy

import "slices"

// Fork returns a twin for a shadow rule: the same In and message, its own Out,
// Edits, Vars and holds. What is done to it changes nothing. rcpt is mapped to
// its twin.
func (tx *Transaction) Fork(rcpt *Recipient) (*Transaction, *Recipient) {
	t := *tx
	t.fork = true
	t.Edits, t.Skip = slices.Clone(tx.Edits), slices.Clone(tx.Skip)
	t.holds, t.Steps = nil, nil
	t.Rcpts = make([]*Recipient, len(tx.Rcpts))
	var twin *Recipient
	for i, r := range tx.Rcpts {
		c := *r
		c.holds = nil
		t.Rcpts[i] = &c
		if r == rcpt {
			twin = &c
		}
	}
	if rcpt != nil && twin == nil {
		c := *rcpt
		c.holds = nil
		twin = &c
	}
	if t.header != nil {
		t.header = t.header.Clone()
	}
	return &t, twin
}
