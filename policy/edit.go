package policy

import (
	"fmt"
	"strconv"
)

// EditKind says what an Edit changes.
type EditKind uint8

const (
	AddHeader    EditKind = iota // append a field behind the last
	InsertHeader                 // put a field at Index (0 = on top)
	ChangeHeader                 // replace the Index-th field of that name (1 = first)
	RemoveHeader                 // remove the Index-th field of that name, or from the Index-th to the Last
	SetSender                    // replace the reverse-path
	AddRcpt                      // one recipient more
	RemoveRcpt                   // one recipient less
	ReplaceRcpt                  // another address for a recipient
	ReplaceBody                  // the whole body

	numEdits
)

var editNames = [numEdits]string{
	"add_header", "insert_header", "change_header", "remove_header",
	"set_from", "add_rcpt", "remove_rcpt", "replace_rcpt", "replace_body",
}

// String returns the name of the edit as it stands in the audit line.
func (k EditKind) String() string {
	if k < numEdits {
		return editNames[k]
	}
	return "edit(" + strconv.Itoa(int(k)) + ")"
}

// IsHeader reports an edit of the header.
func (k EditKind) IsHeader() bool { return k <= RemoveHeader }

// IsEnvelope reports an edit of the envelope.
func (k EditKind) IsEnvelope() bool { return k >= SetSender && k <= ReplaceRcpt }

// Edit is one change to a transaction, as data. It says what it does to Out as
// the edits before it left it.
type Edit struct {
	Kind  EditKind
	Name  string // header edits: the field name
	Value string // header edits: the field body as it stands behind the colon, leading blank and folds (CRLF) included
	Index int    // InsertHeader: position, 0 is the top; ChangeHeader, RemoveHeader: 1-based occurrence of Name in Out
	Last  int    // RemoveHeader: the last of several occurrences in a row, from Index on; below Index it is that one alone

	Rcpt     *Recipient // RemoveRcpt, ReplaceRcpt: whom
	From     Path       // SetSender, RemoveRcpt, ReplaceRcpt: the address before; filled in by Do
	Path     Path       // SetSender, AddRcpt, ReplaceRcpt: the new address
	Params   []Param    // AddRcpt: its parameters (NOTIFY=NEVER unless the policy says otherwise); SetSender: those to replace
	Optional bool       // AddRcpt: may be refused by the upstream alone
	Body     []byte     // ReplaceBody: CRLF line ends

	Hook Hook   // where it was recorded
	Rule *Rule  // who recorded it; nil for a filter or for moongate itself
	By   string // who, where there is no Rule: the name of a filter, "moongate"
}

// String returns the edit for the audit line, without body and values longer
// than a line.
func (e Edit) String() string {
	by := e.By
	if e.Rule != nil {
		by = e.Rule.Place()
	}
	var what string
	switch e.Kind {
	case AddHeader:
		what = e.Name
	case InsertHeader, ChangeHeader, RemoveHeader:
		what = fmt.Sprintf("%s[%d]", e.Name, e.Index)
		if e.Kind == RemoveHeader && e.Last > e.Index {
			what = fmt.Sprintf("%s[%d-%d]", e.Name, e.Index, e.Last)
		}
	case AddRcpt:
		what = e.Path.Raw
	case RemoveRcpt:
		what = e.From.Raw
	case SetSender, ReplaceRcpt:
		what = e.From.Raw + " " + e.Path.Raw
		for _, p := range e.Params {
			what += " " + p.Raw
		}
	case ReplaceBody:
		what = strconv.Itoa(len(e.Body)) + " octets"
	}
	s := e.Kind.String() + " " + what
	if by != "" {
		s += " by " + by
	}
	return s
}

// maxHeaderEdits is how many edits of the header are told one by one: a
// stranger's message may give a rule thousands of fields to change.
const maxHeaderEdits = 100

// EditLines tells edits as the audit line does: all of the envelope and the
// body, and of the header as many as an operator reads; the others are counted
// by kind.
func EditLines(edits []Edit) []string {
	lines := make([]string, 0, min(len(edits), maxHeaderEdits+10))
	header := 0
	var more [numEdits]int
	for i := range edits {
		e := &edits[i]
		if e.Kind.IsHeader() {
			if header++; header > maxHeaderEdits {
				more[e.Kind]++
				continue
			}
		}
		lines = append(lines, clip(e.String(), 512))
	}
	for k, n := range more {
		if n > 0 {
			lines = append(lines, fmt.Sprintf("%s: %d more", EditKind(k), n))
		}
	}
	return lines
}
