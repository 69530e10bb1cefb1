package milter

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/emersion/go-milter"
	"go.uber.org/zap"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/message"
)

// apply makes the changes that a filter asks for: all, or none. What cannot be
// made is a failure of the filter and not dropped, and of a filter that failed
// nothing may go on with the message, so they are made on a twin first.
func (c *conversation) apply(s *policy.Session, v *view, mods []milter.ModifyAction) (policy.Verdict, error) {
	if len(mods) == 0 {
		return policy.Verdict{}, nil
	}
	ch := changes{mods: mods, dialect: dialect{leadSpace: c.link.ProtocolOption(milter.OptHeaderLeadingSpace)}}
	verdict := c.held(mods)
	if verdict.Decided() && s.Env.Keeper == nil && s.Face == policy.SMTP {
		return policy.Verdict{}, fmt.Errorf("%w: it wants to quarantine, and there is no quarantine", errChange)
	}
	if slices.ContainsFunc(mods, func(m milter.ModifyAction) bool { return m.Code == milter.ActReplBody }) {
		ch.replaced, ch.body = true, newBody(mods)
	}
	twin, _ := s.Tx.Fork(nil)
	if err := ch.make(twin, v.clone()); err != nil {
		return policy.Verdict{}, err
	}
	if n := twin.Header().Size(); n > c.f.maxHeader() && n > s.Tx.Header().Size() {
		return policy.Verdict{}, fmt.Errorf("%w: it makes a header of %d octets, and %d are the most", errChange, n, c.f.maxHeader())
	}
	if n := twin.Header().Len(); n > message.MaxFields && n > s.Tx.Header().Len() {
		return policy.Verdict{}, fmt.Errorf("%w: it makes a header of %d fields, and %d are the most", errChange, n, message.MaxFields)
	}
	if err := ch.make(s.Tx, v); err != nil {
		return policy.Verdict{}, err
	}
	s.Env.Log.Debug("filter changed", zap.String(policy.KeyID, s.Tx.ID), zap.String(policy.KeyFilter, c.f.Name()), zap.Int(policy.KeyEdits, len(mods)))
	return verdict, nil
}

// held is the verdict of a filter among whose changes is a quarantine.
func (c *conversation) held(mods []milter.ModifyAction) (v policy.Verdict) {
	for i := range mods {
		if m := &mods[i]; m.Code == milter.ActQuarantine {
			v = policy.Verdict{Action: policy.Quarantine, Reason: "filter " + c.f.Name() + ": " + clean(m.Reason)}
		}
	}
	return v
}

// changes are what a filter asks for behind the end of a message.
type changes struct {
	mods     []milter.ModifyAction
	dialect  dialect
	body     []byte
	replaced bool
}

// make makes them. v is the header as the filter was shown it.
func (c *changes) make(tx *policy.Transaction, v *view) error {
	for i := range c.mods {
		m := &c.mods[i]
		var err error
		switch m.Code {
		case milter.ActAddHeader, milter.ActInsertHeader, milter.ActChangeHeader:
			err = v.edit(tx, m, c.dialect)
		case milter.ActAddRcpt:
			err = addRcpt(tx, m.Rcpt)
		case milter.ActDelRcpt:
			err = removeRcpt(tx, m.Rcpt)
		case milter.ActChangeFrom:
			err = changeFrom(tx, m.From, m.FromArgs)
		}
		if err != nil {
			return fmt.Errorf("%w: %q: %w", errChange, byte(m.Code), err)
		}
	}
	if c.replaced {
		if err := tx.Do(policy.Edit{Kind: policy.ReplaceBody, Body: c.body}); err != nil {
			return fmt.Errorf("%w: %w", errChange, err)
		}
	}
	return nil
}

// lineEnds is what one fold is made of, or the end: a line with nothing but blanks
// may be taken for the end of the header.
var lineEnds = regexp.MustCompile(`[\r\n][ \t\r\n]*$|(?:[\r\n]+[ \t]*)*[\r\n]+`)

// edit makes one change of the header.
func (v *view) edit(tx *policy.Transaction, m *milter.ModifyAction, d dialect) error {
	body := foldLong(m.HeaderName, noNUL(d.decode(lineEnds.ReplaceAllString(m.HeaderValue, "\n"))))
	e := policy.Edit{Kind: policy.AddHeader, Name: m.HeaderName, Value: body}
	slot := len(v.fields)
	switch m.Code {
	case milter.ActInsertHeader:
		e.Kind = policy.InsertHeader
		e.Index, slot = v.place(int(min(m.HeaderIndex, 1<<20)))
	case milter.ActChangeHeader:
		at, now := v.find(m.HeaderName, int(min(max(m.HeaderIndex, 1), 1<<20)))
		switch {
		case at == lost, at == notThere && m.HeaderValue == "": // nothing to change or remove
			return nil
		case at == notThere: // what is not there is added, says libmilter
		default:
			e.Kind, e.Index = policy.ChangeHeader, now
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
// is no error, says libmilter. The filter was told what the client said, so one
// that a rule has replaced is meant by its first address, too.
func removeRcpt(tx *policy.Transaction, addr string) error {
	p, err := policy.ParsePath(bracketed(addr), false, tx.SMTPUTF8())
	if err != nil {
		return err
	}
	for _, r := range tx.Recipients() {
		told := !r.Added && strings.EqualFold(r.In.Address, p.Address)
		if !told && !strings.EqualFold(r.Out.Address, p.Address) {
			continue
		}
		if err := tx.Do(policy.Edit{Kind: policy.RemoveRcpt, Rcpt: r}); err != nil {
			return err
		}
	}
	return nil
}

func changeFrom(tx *policy.Transaction, addr string, args []string) error {
	if addr == "" { // the empty sender is <>
		return errors.New("no sender")
	}
	p, err := policy.ParsePath(bracketed(addr), true, tx.SMTPUTF8())
	if err != nil {
		return err
	}
	params, err := senderParams(args)
	if err != nil {
		return err
	}
	return tx.Do(policy.Edit{Kind: policy.SetSender, Path: p, Params: params})
}

// senderParams reads the ESMTP parameters of a new sender: RET and ENVID, which
// say what becomes of reports to it (RFC 3461 4.3, 4.4). All others tell of the
// message and are not the filter's to change. libmilter has one string for all
// of them; the library adds an empty one for its end.
func senderParams(args []string) (params []policy.Param, err error) {
	for _, raw := range strings.Fields(strings.Join(args, " ")) {
		key, value, _ := strings.Cut(raw, "=")
		key = strings.ToUpper(key)
		switch {
		case key == "RET" && (strings.EqualFold(value, "FULL") || strings.EqualFold(value, "HDRS")):
		case key == "ENVID" && value != "" && len(value) <= 100 && isXtext(value):
		default:
			return nil, fmt.Errorf("parameter %q of the sender", clean(raw))
		}
		if _, twice := policy.FindParam(params, key); twice {
			return nil, fmt.Errorf("parameter %s of the sender twice", key)
		}
		params = append(params, policy.Param{Key: key, Value: value, Raw: key + "=" + value})
	}
	return params, nil
}

// isXtext: RFC 3461 4.
func isXtext(s string) bool {
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c < '!' || c > '~' || c == '=':
			return false
		case c == '+':
			if i+2 >= len(s) || strings.Trim(s[i+1:i+3], "0123456789ABCDEF") != "" {
				return false
			}
		}
	}
	return true
}

// maxLine is the longest line of a header, RFC 5322 2.1.1.
const maxLine = 998

// foldLong breaks lines of a field body that are longer at the last blank that
// is not; where there is none the line stays as the filter wants it.
func foldLong(name, body string) string {
	if len(name)+1+len(body) <= maxLine || len(name) > maxLine/2 { // a name that no field may have
		return body
	}
	lines := strings.Split(body, "\r\n")
	var b strings.Builder
	for i, line := range lines {
		room := maxLine
		if i > 0 {
			b.WriteString("\r\n")
		} else {
			room -= len(name) + 1
		}
		for len(line) > room {
			at := foldPoint(line, room)
			if at < 0 {
				break
			}
			b.WriteString(line[:at] + "\r\n")
			line, room = line[at:], maxLine
		}
		b.WriteString(line)
	}
	return b.String()
}

// foldPoint is where a line that is too long is best broken: at the last blank
// within the room, else at the first behind it; -1 if there is none. No line may
// become blank by it, RFC 5322 3.2.2.
func foldPoint(line string, room int) int {
	at := strings.LastIndexAny(line[:room+1], " \t")
	if at < 0 || isBlank(line[:at]) {
		if at = strings.IndexAny(line[room:], " \t"); at < 0 {
			return -1
		}
		at += room
	}
	if isBlank(line[at:]) {
		return -1
	}
	return at
}

func isBlank(s string) bool { return strings.Trim(s, " \t") == "" }

// newBody is the body that a filter has sent in pieces, whose line ends are CRLF
// then: filters may send LF. The pieces are given up, as they may be large.
func newBody(mods []milter.ModifyAction) []byte {
	size, last := 0, byte(0)
	for i := range mods {
		if mods[i].Code == milter.ActReplBody {
			for _, c := range mods[i].Body {
				if size++; c == '\n' && last != '\r' {
					size++
				}
				last = c
			}
		}
	}
	out := make([]byte, 0, size)
	for i := range mods {
		if mods[i].Code != milter.ActReplBody {
			continue
		}
		for _, c := range mods[i].Body {
			n := len(out)
			switch cr := n > 0 && out[n-1] == '\r'; {
			case c == '\n' && !cr:
				out = append(out, '\r')
			case c != '\n' && cr: // a bare CR is no line end, and goes on over no wire
				out[n-1] = ' '
			}
			out = append(out, c)
		}
		mods[i].Body = nil
	}
	if n := len(out); n > 0 && out[n-1] == '\r' {
		out[n-1] = ' '
	}
	return out
}

// clean makes text of a peer or a rule fit for a log line and a packet.
func clean(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(s, ""))
}
