package policy

import (
	"slices"
	"time"

	"github.com/moongate/moongate/policy/message"
)

// Envelope is the sender's half of an envelope; the recipients are in the
// Transaction, each with its own In and Out.
type Envelope struct {
	From   Path
	Params []Param
}

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

// SMTPUTF8 reports whether the client asked for RFC 6531.
func (tx *Transaction) SMTPUTF8() bool {
	_, ok := FindParam(tx.In.Params, "SMTPUTF8")
	return ok
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
