package milter

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/emersion/go-milter"

	"github.com/moongate/moongate/milter/wire"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/message"
)

// A dialect is how changes travel on this connection.
type dialect struct {
	leadSpace bool // values begin with what stands behind the colon
	own       int  // fields above ours that the MTA counts and does not show: its Received
	dsn       bool // ORCPT is taken, whatever this client was offered
}

// modifications is what the policy changed, as packets: In against Out, not
// the edits one by one, so that a change of a change is one packet and two
// that cancel are none.
//
// The order is safe for Sendmail and Postfix both: a removed field keeps its
// number in the one and loses it in the other, so received fields go from the
// last to the first; then insertions from the top, so that each finds above
// itself what shall stand there; then what stands at the end.
func modifications(tx *policy.Transaction, d dialect) []wire.Modification {
	var mods []wire.Modification
	if tx.Message != nil {
		mods = headerMods(mods, tx.Message.Header, tx.Header(), d)
	}
	mods = envelopeMods(mods, tx, d)
	if body, ok := tx.Body(); ok {
		mods = bodyMods(mods, body)
	}
	return mods
}

func headerMods(mods []wire.Modification, in, out *message.Header, d dialect) []wire.Modification {
	if in == out {
		return mods
	}
	type key struct {
		name   string
		origin int
	}
	kept := make(map[key]*message.Field, out.Len())
	last := -1 // the last received field in out
	for i, f := range out.Fields() {
		if f.Origin() > 0 {
			kept[key{strings.ToLower(f.Name()), f.Origin()}] = f
		}
		if f.Origin() > 0 || !f.IsField() {
			last = i
		}
	}
	for _, f := range slices.Backward(in.Fields()) {
		if !f.IsField() {
			continue
		}
		m := wire.Modification{Code: milter.ActChangeHeader, Index: uint32(f.Origin()), Name: f.Name()}
		now, ok := kept[key{strings.ToLower(f.Name()), f.Origin()}]
		switch {
		case !ok: // an empty value removes
		case string(now.Raw()) == string(f.Raw()):
			continue
		default:
			m.Value = d.encode(now.Body())
			if m.Value == "" {
				m.Value = " " // empty, but there
			}
		}
		mods = append(mods, m)
	}
	for i, f := range out.Fields() {
		if f.Origin() > 0 || !f.IsField() {
			continue
		}
		m := wire.Modification{Code: milter.ActInsertHeader, Index: uint32(i + d.own), Name: f.Name(), Value: d.encode(f.Body())}
		if i > last {
			m.Code, m.Index = milter.ActAddHeader, 0
		}
		mods = append(mods, m)
	}
	return mods
}

// encode makes a field body ready for the MTA, which takes LF for folds and,
// unless told otherwise, puts a blank behind the colon itself.
func (d dialect) encode(body string) string {
	body = strings.ReplaceAll(body, "\r\n", "\n")
	if !d.leadSpace {
		body = strings.TrimPrefix(body, " ")
	}
	return body
}

// decode is the way back: the field body as it stands behind the colon.
func (d dialect) decode(value string) string {
	if !d.leadSpace {
		value = " " + value
	}
	return foldCRLF(value)
}

// foldCRLF makes folds of all line ends: CRLF, and a blank behind each. What
// is behind a line end without a blank would be a field of its own.
func foldCRLF(s string) string {
	if strings.IndexByte(s, '\n') < 0 && strings.IndexByte(s, '\r') < 0 {
		return s
	}
	s = strings.TrimRight(strings.ReplaceAll(s, "\r\n", "\n"), "\r\n")
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch c := s[i]; c {
		case '\r', '\n':
			b.WriteString("\r\n")
			if i+1 < len(s) && s[i+1] != ' ' && s[i+1] != '\t' {
				b.WriteByte(' ')
			}
		default:
			b.WriteByte(c)
		}
	}
	return b.String()
}

// envelopeMods says what became of sender and recipients. To an MTA these are
// sets of addresses: a removal takes every recipient of that address, and what
// is added beside its like may come twice, or not at all where the MTA
// remembers the one that was removed. So an address that was there before and
// shall be there is not touched, whichever recipient it belongs to by now.
//
// What one address is, MTAs do not agree about: Postfix takes "a"@x for a@x,
// Sendmail a@x. with its dot. Addresses are the same here if they are to any of
// them, so that no removal takes one that is to stay; and each spelling is
// removed by itself.
func envelopeMods(mods []wire.Modification, tx *policy.Transaction, d dialect) []wire.Modification {
	if tx.Out.From.Raw != tx.In.From.Raw {
		mods = append(mods, wire.Modification{Code: milter.ActChangeFrom, Addr: tx.Out.From.Raw})
	}
	live := tx.Recipients()
	wanted := make(map[string]bool, len(live))
	for _, r := range live {
		wanted[r.Out.Address] = true
	}
	there := make(map[string]bool, len(tx.Rcpts)) // addresses that the MTA knows
	gone := make(map[string]bool)                 // spellings
	for _, r := range tx.Rcpts {
		if r.Added || r.State == policy.RcptRefused {
			continue
		}
		there[r.In.Address] = true
		if spelling := toRemove(r); !wanted[r.In.Address] && !gone[spelling] {
			gone[spelling] = true
			mods = append(mods, wire.Modification{Code: milter.ActDelRcpt, Addr: spelling})
		}
	}
	for _, r := range live {
		if there[r.Out.Address] {
			continue
		}
		there[r.Out.Address] = true
		m := wire.Modification{Code: milter.ActAddRcpt, Addr: r.Out.Raw}
		if args := rcptArgs(r, d); len(args) > 0 {
			m.Code, m.Args = wire.ActAddRcptArgs, args
		}
		mods = append(mods, m)
	}
	return mods
}

// toRemove is how a recipient is named to be removed: as he was said, with his
// quoting, case and dots. Only the source route is not part of it: Postfix looks
// for what it has left of the address, without one, and Sendmail ignores it.
func toRemove(r *policy.Recipient) string { return r.In.Unrouted() }

// rcptArgs are the parameters that go with an added recipient: its own, and
// for one that was replaced who it was. RFC 3461 4.2. A Sendmail that offers no
// DSN (noreceipts) loses a recipient with ORCPT and answers the client with
// nonsense; that it does offer it is known once the client has made use of it.
func rcptArgs(r *policy.Recipient, d dialect) (args []string) {
	for _, p := range r.Params {
		if p.Key == "NOTIFY" || p.Key == "ORCPT" {
			args = append(args, p.Raw)
		}
	}
	if orcpt := r.Orcpt(); orcpt != "" && (d.dsn || len(args) > 0) && r.In.Raw != r.Out.Raw {
		args = append(args, orcpt)
	}
	return args
}

// bodyMods cuts a body into one run of chunks. An empty body is one empty
// chunk: none at all would leave the old one.
func bodyMods(mods []wire.Modification, body []byte) []wire.Modification {
	for {
		n := min(len(body), milter.MaxBodyChunk)
		mods = append(mods, wire.Modification{Code: milter.ActReplBody, Body: body[:n]})
		if body = body[n:]; len(body) == 0 {
			return mods
		}
	}
}

// errAction is a change that this MTA did not offer to make. It must not be
// lost silently: the message is refused for now.
var errAction = errors.New("milter: the MTA does not offer this change")

// need is the action that the MTA must have offered for a modification.
func need(m wire.Modification) milter.OptAction {
	switch m.Code {
	case milter.ActAddHeader:
		return milter.OptAddHeader
	case milter.ActChangeHeader, milter.ActInsertHeader:
		return milter.OptChangeHeader
	case milter.ActReplBody:
		return milter.OptChangeBody
	case milter.ActAddRcpt:
		return milter.OptAddRcpt
	case wire.ActAddRcptArgs:
		return milter.OptAddRcptWithArgs
	case milter.ActDelRcpt:
		return milter.OptRemoveRcpt
	case milter.ActChangeFrom:
		return milter.OptChangeFrom
	case milter.ActQuarantine:
		return milter.OptQuarantine
	}
	return 0
}

// permitted checks modifications against what the MTA offered. An added
// recipient's parameters are given up where the MTA takes none; insertion is
// sent as insertion even if only "add headers" was offered, as libmilter does.
func permitted(mods []wire.Modification, offered milter.OptAction) ([]wire.Modification, error) {
	for i := range mods {
		m := &mods[i]
		if offered&need(*m) != 0 {
			continue
		}
		switch {
		case m.Code == wire.ActAddRcptArgs && offered&milter.OptAddRcpt != 0:
			m.Code, m.Args = milter.ActAddRcpt, nil
		case m.Code == milter.ActInsertHeader && offered&milter.OptAddHeader != 0:
		default:
			return nil, fmt.Errorf("%w: %q", errAction, byte(m.Code))
		}
	}
	return mods, nil
}
