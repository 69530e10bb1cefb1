package policy

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/moongate/moongate/policy/message"
)

// Param is one ESMTP parameter of MAIL or RCPT, RFC 5321 4.1.2, as the client
// wrote it: values stay encoded.
type Param struct {
	Key   string // upper case
	Value string // raw; "" where there is none
	Raw   string // the token as it came: Key=Value
}

// FindParam returns the value of a parameter. key is upper case.
func FindParam(params []Param, key string) (value string, ok bool) {
	for _, p := range params {
		if p.Key == key {
			return p.Value, true
		}
	}
	return "", false
}

// Envelope is the sender's half of an envelope; the recipients are in the
// Transaction, each with its own In and Out.
type Envelope struct {
	From   Path
	Params []Param
}

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

	holds []Hold
}

// Live reports whether the recipient is to get the message.
func (r *Recipient) Live() bool { return r.State == RcptAccepted }

// Transaction is one message, from MAIL to the final reply. What the client
// said is in In and in each Recipient's In, and never changes; what goes on is
// in Out. The session's goroutine owns it.
type Transaction struct {
	ID      string
	Session *Session
	Rules   *Rules // pinned at MAIL
	Start   time.Time
	In, Out Envelope
	Rcpts   []*Recipient     // every recipient, refused ones too, in order
	Message *message.Message // as received; nil before the end of the header
	Edits   []Edit           // every change, in order
	Vars    any              // the evaluator's own
	Filters []FilterResult   // what the filters said, in order
	Skip    []string         // filters that a rule at mail left out of this message

	EOL      int    // stray CR and LF that were normalised
	Upstream string // the address of the next hop, once it is known
	Steps    []Step // what was decided, in order
	Stages   [NumAsked]time.Duration

	header   *message.Header // Out; nil before the end of the header, shared with Message until an edit
	body     []byte          // Out, if replaced
	replaced bool
	fork     bool
	bypassed bool
	delayed  *Verdict // at mail, to be given at rcpt
	hook     Hook     // where edits are being recorded now
	rule     *Rule
	by       string
	holds    []Hold
	reserved []*Recipient // that have holds
	open     bool         // its MAIL was answered 2xx
	swallows bool         // discarded or quarantined at MAIL
	done     bool
}

// Swallowed reports that the message was discarded or quarantined at MAIL: what
// comes of it is asked about and goes nowhere.
func (tx *Transaction) Swallowed() bool { return tx.swallows }

// Step is one decision of a rule or filter.
type Step struct {
	Hook    Hook
	Rule    *Rule
	By      string // the filter's name where there is no rule
	Verdict Verdict
	Took    time.Duration
	Shadow  bool
}

// FilterResult is what a filter said of this message.
type FilterResult struct {
	Name    string
	Verdict Verdict
	Err     error
}

// word is what the audit line says of it: that it failed, whatever its on_error
// made of that, or what it decided; of a shadow, what it would have.
func (f *FilterResult) word() string {
	switch {
	case f.Err != nil:
		return "failed"
	case f.Verdict.Watched != Continue:
		return "shadow:" + f.Verdict.Watched.String()
	}
	return f.Verdict.Action.String()
}

// SMTPUTF8 reports whether the client asked for RFC 6531.
func (tx *Transaction) SMTPUTF8() bool {
	_, ok := FindParam(tx.In.Params, "SMTPUTF8")
	return ok
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

// SetMessage hands over the message: at the end of the header (its Body is nil
// then) and again when the body is here. Header edits recorded before are
// applied now.
func (tx *Transaction) SetMessage(m *message.Message) {
	first := tx.Message == nil
	tx.Message = m
	if !first {
		return
	}
	tx.header = m.Header
	for i := range tx.Edits {
		if tx.Edits[i].Kind.IsHeader() {
			tx.applyHeader(&tx.Edits[i])
		}
	}
}

// Header returns the header as it goes on; nil before the end of the header.
// The caller must not change it: edits go through Do.
func (tx *Transaction) Header() *message.Header { return tx.header }

// Body returns the replaced body, and whether the policy replaced it.
func (tx *Transaction) Body() ([]byte, bool) { return tx.body, tx.replaced }

// EnvelopeEdited reports whether the policy changed what MAIL and RCPT said.
func (tx *Transaction) EnvelopeEdited() bool {
	return slices.ContainsFunc(tx.Edits, func(e Edit) bool { return e.Kind.IsEnvelope() })
}

// HeaderEdited reports whether the header goes on other than it came.
func (tx *Transaction) HeaderEdited() bool {
	return slices.ContainsFunc(tx.Edits, func(e Edit) bool { return e.Kind.IsHeader() })
}

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

// replaced is params with those of by in the place of their namesakes. params,
// which may be what the client said, stays as it is.
func replaced(params, by []Param) []Param {
	if len(by) == 0 {
		return params
	}
	out := slices.DeleteFunc(slices.Clone(params), func(p Param) bool {
		_, ok := FindParam(by, p.Key)
		return ok
	})
	return append(out, by...)
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
		if !h.Remove(e.Name, e.Index) {
			return fmt.Errorf("there is no %s field number %d", e.Name, e.Index)
		}
	}
	return nil
}

// FindRcpt returns the live recipient of that canonical address, nil if there
// is none. The local part is compared without regard to ASCII case, as a rule
// that removes a recipient must not miss a spelling.
func (tx *Transaction) FindRcpt(address string) *Recipient {
	for _, r := range tx.Rcpts {
		if r.Live() && strings.EqualFold(r.Out.Address, address) {
			return r
		}
	}
	return nil
}

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
