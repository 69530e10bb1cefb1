package policy

import (
	"errors"
	"fmt"

	"github.com/moongate/moongate/policy/message"
)

// Do records an edit and applies it to Out, so that later reads see it. An
// edit that this face cannot honour at this hook, that names what is not there
// or that would break the wire is an error and changes nothing.
func (tx *Transaction) Do(e Edit) error {
	if tx.Session != nil && tx.Session.Face != nil && !tx.Session.Face.CanEdit(tx.hook, e.Kind) {
		return fmt.Errorf("%s is not possible at %s (%s)", e.Kind, tx.hook, tx.Session.Face.Name)
	}
	e.Hook, e.Rule = tx.hook, tx.rule
	if e.By == "" {
		e.By = tx.by
	}
	if err := tx.apply(&e); err != nil {
		return err
	}
	tx.Edits = append(tx.Edits, e)
	return nil
}

// Note records an edit that moongate itself made (a Received line); it is
// applied and listed like any other, without asking the face.
func (tx *Transaction) Note(e Edit) error {
	e.Hook = tx.hook
	if e.By == "" {
		e.By = "moongate"
	}
	if err := tx.apply(&e); err != nil {
		return err
	}
	tx.Edits = append(tx.Edits, e)
	return nil
}

var errNoBody = errors.New("the body is not here yet")

func (tx *Transaction) apply(e *Edit) error {
	switch e.Kind {
	case AddHeader, InsertHeader, ChangeHeader, RemoveHeader:
		if e.Kind != RemoveHeader {
			// A filter's long line is its own: a client's would pass, too.
			if err := message.CheckField(e.Name, e.Value); err != nil && (err != message.ErrFieldLine || e.Rule != nil) {
				return err
			}
		}
		if tx.header == nil {
			return nil // applied by SetMessage
		}
		return tx.applyHeader(e)
	case SetSender:
		e.From = tx.Out.From
		tx.Out.From = e.Path
		tx.Out.Params = replaced(tx.Out.Params, e.Params)
	case AddRcpt:
		if e.Path.IsNull() {
			return errEmpty
		}
		e.Rcpt = &Recipient{Out: e.Path, Params: e.Params, Added: true, Optional: e.Optional, State: RcptAccepted}
		tx.Rcpts = append(tx.Rcpts, e.Rcpt)
	case RemoveRcpt:
		if e.Rcpt == nil {
			return errors.New("no such recipient")
		}
		e.From = e.Rcpt.Out
		e.Rcpt.State = RcptRemoved
	case ReplaceRcpt:
		if e.Rcpt == nil {
			return errors.New("no such recipient")
		}
		if e.Path.IsNull() {
			return errEmpty
		}
		e.From = e.Rcpt.Out
		e.Rcpt.Out = e.Path
	case ReplaceBody:
		if tx.Message == nil || tx.Message.Body == nil {
			return errNoBody
		}
		tx.body, tx.replaced = e.Body, true
	}
	return nil
}

func (tx *Transaction) applyHeader(e *Edit) error {
	if tx.Message != nil && tx.header == tx.Message.Header {
		tx.header = tx.header.Clone()
	}
	h := tx.header
	switch e.Kind {
	case AddHeader:
		h.Add(e.Name, e.Value)
	case InsertHeader:
		h.Insert(e.Index, e.Name, e.Value)
	case ChangeHeader:
		if !h.Change(e.Name, e.Index, e.Value) {
			return fmt.Errorf("there is no %s field number %d", e.Name, e.Index)
		}
	case RemoveHeader:
		if last := max(e.Index, e.Last); !h.Remove(e.Name, e.Index, last) {
			return fmt.Errorf("there is no %s field number %d", e.Name, last)
		}
	}
	return nil
}
