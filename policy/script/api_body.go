package script

import (
	"io"
	"strings"

	glua "github.com/yuin/gopher-lua"

	"github.com/moongate/moongate/policy"
)

// defaultBody is how much of a body a rule reads unless it asks for more: what
// a large message costs is for the author to decide.
const defaultBody = 1 << 20

var bodyMembers = []*member{
	{name: "body", from: policy.Message,
		params:  []param{{"max", "integer?", "At most so many octets, by default 1 MiB."}},
		returns: []param{{"text", "string", "As it goes on: lines end in CRLF, encodings are left as they are."}, {"cut", "boolean", "Whether there is more."}},
		doc:     "The body as text. It counts against the rule's memory.",
		do: func(x *state, L *glua.LState, self any) int {
			m := self.(*msgVars)
			most := optCount(L, 2, "body", defaultBody)
			r, size := m.bodyReader(L)
			n := min(size, most)
			x.Meter.Alloc(L, 2*n)
			b := make([]byte, n)
			if _, err := io.ReadFull(r, b); err != nil {
				L.RaiseError("body: %s", err.Error())
			}
			L.Push(glua.LString(b))
			L.Push(glua.LBool(n < size))
			return 2
		}},
	{name: "replace_body", from: policy.Message,
		params: []param{{"text", "string", "Line ends of any kind become CRLF. Octets that are no ASCII need a message that is 8BITMIME or has some already."}},
		doc:    "Replaces the whole body. The header says how a body is to be read (Content-Type, Content-Transfer-Encoding): that is for the author to keep right.",
		do: func(x *state, L *glua.LState, self any) int {
			m := self.(*msgVars)
			text := checkString(L, 2, "replace_body")
			kind, _ := policy.FindParam(m.tx.In.Params, "BODY")
			switch {
			case strings.EqualFold(kind, "BINARYMIME"): // RFC 3030 3: it has no lines
				L.RaiseError("replace_body: a BINARYMIME body is never changed")
			case !ascii(text) && !strings.EqualFold(kind, "8BITMIME") && !m.eightBit(L):
				L.RaiseError("replace_body: the text has octets that are no ASCII, and the message is 7bit")
			}
			x.Meter.Alloc(L, 2*int64(len(text)))
			x.do(L, "replace_body", policy.Edit{Kind: policy.ReplaceBody, Body: crlf(text)})
			return 0
		}},
}

// bodyReader reads the body as it goes on.
func (m *msgVars) bodyReader(L *glua.LState) (io.Reader, int64) {
	if b, replaced := m.tx.Body(); replaced {
		return strings.NewReader(string(b)), int64(len(b))
	}
	if m.tx.Message == nil || m.tx.Message.Body == nil {
		L.RaiseError("this message ended before its body was here")
	}
	return m.tx.Message.Body.Reader(), m.tx.Message.Body.Len()
}

// eightBit reports whether the body has octets that are no ASCII.
func (m *msgVars) eightBit(L *glua.LState) bool {
	r, size := m.bodyReader(L)
	m.x.Meter.Work(L, size>>6)
	buf := make([]byte, 32<<10)
	for {
		n, err := r.Read(buf)
		for _, c := range buf[:n] {
			if c >= 0x80 {
				return true
			}
		}
		if err != nil {
			return false
		}
	}
}

// crlf writes every line end, of whatever kind, as CRLF, and ends the last
// line.
func crlf(s string) []byte {
	b := make([]byte, 0, len(s)+len(s)/32+2)
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\r' && i+1 < len(s) && s[i+1] == '\n':
		case c == '\r' || c == '\n':
			b = append(b, '\r', '\n')
		default:
			b = append(b, c)
		}
	}
	if n := len(b); n > 0 && b[n-1] != '\n' {
		b = append(b, '\r', '\n')
	}
	return b
}
