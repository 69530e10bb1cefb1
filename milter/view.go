package milter

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/emersion/go-milter"
	"go.uber.org/zap"

	"github.com/moongate/moongate/policy"
)

// A view is the header as one filter is shown it, beside the header as it goes
// on. A filter counts fields as it saw them, an edit counts them as they are
// now; the view is kept in step and translates.
type view struct {
	fields []field // in the order of the header as it goes on
}

// A field of a view.
type field struct {
	name, body string
	hidden     bool // in the header as it goes on, not shown: a rule or we put it there
	gone       bool // not in the header as it goes on (any more)
	lost       bool // gone, and by a rule: what a filter says of it has no object
	own        bool // the place of the Received field that an MTA has on top
}

// viewOf makes the view of a filter. A signing filter sees what goes on. A
// verifying one sees the message as received: what rules did to the header
// before it is not shown, so that signatures verify. Where filters before it
// and rules both changed the header, it sees what goes on, too.
func viewOf(tx *policy.Transaction, signs bool) *view {
	ours, theirs := false, false
	for i := range tx.Edits {
		if e := &tx.Edits[i]; e.Kind.IsHeader() {
			if e.Rule != nil || e.By == "moongate" {
				ours = true
			} else {
				theirs = true
			}
		}
	}
	out := tx.Header().Fields()
	v := &view{fields: make([]field, 0, len(out)+4)}
	v.fields = append(v.fields, field{hidden: true, gone: true, own: true})
	if signs || !ours || theirs {
		for _, f := range out {
			v.fields = append(v.fields, field{name: f.Name(), body: bodyIfField(f.IsField(), f.Body)})
		}
		return v
	}
	in := tx.Message.Header.Fields()
	at := 0
	for _, f := range out {
		if f.IsField() && f.Origin() == 0 {
			v.fields = append(v.fields, field{name: f.Name(), body: f.Body(), hidden: true})
			continue
		}
		// Fields received come in the order in which they were received; those
		// between that are not there any more were removed.
		for ; at < len(in); at++ {
			g := in[at]
			same := g.IsField() == f.IsField() && g.Origin() == f.Origin() && strings.EqualFold(g.Name(), f.Name())
			v.fields = append(v.fields, field{name: g.Name(), body: bodyIfField(g.IsField(), g.Body), gone: !same, lost: !same})
			if same {
				at++
				break
			}
		}
	}
	for _, g := range in[at:] {
		v.fields = append(v.fields, field{name: g.Name(), body: bodyIfField(g.IsField(), g.Body), gone: true, lost: true})
	}
	return v
}

// bodyIfField spares an mbox line, which has no body.
func bodyIfField(is bool, body func() string) string {
	if !is {
		return ""
	}
	return body()
}

// find returns the place in the view of the k-th field of that name among
// those shown, notThere if there is none, lost if a rule took it away. A field that the filter itself has removed
// keeps its number; where that is all a number leads to, the k-th of those
// left is meant, as with an MTA that counts so.
func (v *view) find(name string, k int) int {
	seen, left := 0, 0
	second := notThere
	for i, f := range v.fields {
		if f.hidden || f.name == "" || !strings.EqualFold(f.name, name) {
			continue
		}
		if seen++; seen == k && f.lost {
			return lost
		} else if seen == k && !f.gone {
			return i
		}
		if !f.gone {
			if left++; left == k {
				second = i
			}
		}
	}
	if seen >= k {
		return second
	}
	return notThere
}

// What find returns besides a place.
const (
	notThere = -1
	lost     = -2
)

// occurrence is the number of field i among those of its name in the header as
// it goes on.
func (v *view) occurrence(i int) int {
	n := 0
	for _, f := range v.fields[:i+1] {
		if !f.gone && strings.EqualFold(f.name, v.fields[i].name) {
			n++
		}
	}
	return n
}

// place is where an insertion at index n stands: in the header as it goes on,
// and in the view. A filter counts the fields it was shown and that are still
// there, and the Received field that an MTA puts on top and does not show.
func (v *view) place(n int) (index, slot int) {
	for ; slot < len(v.fields) && n > 0; slot++ {
		f := v.fields[slot]
		if f.own || !f.hidden && !f.gone {
			n--
		}
		if !f.gone {
			index++
		}
	}
	return index, slot
}

func (v *view) insert(slot int, f field) {
	v.fields = slices.Insert(v.fields, slot, f)
}

// apply makes the edits that a filter asks for. What cannot be made is a
// failure of the filter: it is not dropped.
func (c *conversation) apply(s *policy.Session, v *view, mods []milter.ModifyAction) (policy.Verdict, error) {
	tx := s.Tx
	d := dialect{leadSpace: c.link.ProtocolOption(milter.OptHeaderLeadingSpace)}
	var body []byte
	replaced := false
	verdict := policy.Verdict{}
	for i := range mods {
		m := &mods[i]
		var err error
		switch m.Code {
		case milter.ActAddHeader, milter.ActInsertHeader, milter.ActChangeHeader:
			err = v.edit(tx, m, d)
		case milter.ActAddRcpt:
			err = addRcpt(tx, m.Rcpt)
		case milter.ActDelRcpt:
			err = removeRcpt(tx, m.Rcpt)
		case milter.ActChangeFrom:
			err = changeFrom(tx, m.From)
		case milter.ActReplBody:
			body, replaced = append(body, m.Body...), true
		case milter.ActQuarantine:
			if s.Env.Keeper == nil && s.Face == policy.SMTP {
				err = errors.New("it wants to quarantine, and there is no quarantine")
			}
			verdict = policy.Verdict{Action: policy.Quarantine, Reason: "filter " + c.f.Name() + ": " + clean(m.Reason)}
		}
		if err != nil {
			return policy.Verdict{}, fmt.Errorf("%w: %q: %w", errChange, byte(m.Code), err)
		}
	}
	if replaced {
		if err := tx.Do(policy.Edit{Kind: policy.ReplaceBody, Body: crlf(body)}); err != nil {
			return policy.Verdict{}, fmt.Errorf("%w: %w", errChange, err)
		}
	}
	if len(mods) > 0 {
		s.Env.Log.Debug("filter changed", zap.String(policy.KeyID, tx.ID), zap.String(policy.KeyFilter, c.f.Name()), zap.Int(policy.KeyEdits, len(mods)))
	}
	return verdict, nil
}

// edit makes one change of the header.
func (v *view) edit(tx *policy.Transaction, m *milter.ModifyAction, d dialect) error {
	body := noNUL(d.decode(m.HeaderValue))
	e := policy.Edit{Kind: policy.AddHeader, Name: m.HeaderName, Value: body}
	slot := len(v.fields)
	switch m.Code {
	case milter.ActInsertHeader:
		e.Kind = policy.InsertHeader
		e.Index, slot = v.place(int(min(m.HeaderIndex, 1<<20)))
	case milter.ActChangeHeader:
		at := v.find(m.HeaderName, int(min(max(m.HeaderIndex, 1), 1<<20)))
		switch {
		case at == lost, at == notThere && m.HeaderValue == "": // nothing to change or remove
			return nil
		case at == notThere: // what is not there is added, says libmilter
		default:
			e.Kind, e.Index = policy.ChangeHeader, v.occurrence(at)
			if m.HeaderValue == "" {
				e.Kind, e.Value = policy.RemoveHeader, ""
			}
			if err := tx.Do(e); err != nil {
				return err
			}
			v.fields[at].gone = e.Kind == policy.RemoveHeader
			return nil
		}
	}
	if err := tx.Do(e); err != nil {
		return err
	}
	v.insert(slot, field{name: e.Name, body: body})
	return nil
}

func addRcpt(tx *policy.Transaction, addr string) error {
	p, err := policy.ParsePath(bracketed(addr), false, tx.SMTPUTF8())
	if err != nil {
		return err
	}
	return tx.Do(policy.Edit{Kind: policy.AddRcpt, Path: p})
}

// removeRcpt takes away every recipient of that address; one that is not there
// is no error, says libmilter.
func removeRcpt(tx *policy.Transaction, addr string) error {
	p, err := policy.ParsePath(bracketed(addr), false, tx.SMTPUTF8())
	if err != nil {
		return err
	}
	for r := tx.FindRcpt(p.Address); r != nil; r = tx.FindRcpt(p.Address) {
		if err := tx.Do(policy.Edit{Kind: policy.RemoveRcpt, Rcpt: r}); err != nil {
			return err
		}
	}
	return nil
}

func changeFrom(tx *policy.Transaction, addr string) error {
	p, err := policy.ParsePath(bracketed(addr), true, tx.SMTPUTF8())
	if err != nil {
		return err
	}
	return tx.Do(policy.Edit{Kind: policy.SetSender, Path: p})
}

// crlf makes the line ends of a body CRLF: filters may send LF.
func crlf(b []byte) []byte {
	b = bytes.ReplaceAll(b, []byte("\r\n"), []byte("\n"))
	b = bytes.ReplaceAll(b, []byte("\r"), []byte(" "))
	return bytes.ReplaceAll(b, []byte("\n"), []byte("\r\n"))
}

// clean makes a filter's reason fit for a log line.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, s)
}
