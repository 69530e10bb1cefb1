package milter

import (
	"slices"
	"strings"

	"github.com/emersion/go-milter"
)

// macros keeps what the MTA said, by the command it said it for. A packet
// replaces what its stage said before and nothing else: the values of connect
// are there until the session ends, those of a message until it does.
type macros map[milter.Code][]string

// order is where a macro is looked for: the newest stage first.
var order = []milter.Code{
	milter.CodeEOB, milter.CodeBody, milter.CodeEOH, milter.CodeHeader, milter.CodeData,
	milter.CodeRcpt, milter.CodeMail, milter.CodeHelo, milter.CodeConn,
}

// set notes what was said for a command; what nobody looks for is not kept, nor
// what a peer that is no MTA says for commands that there are not.
func (m macros) set(code milter.Code, pairs []string) {
	if slices.Contains(order, code) {
		m[code] = pairs
	}
}

// get returns the value of a macro; its name is without braces, as Sendmail
// writes {i} and i alike.
func (m macros) get(name string) string {
	for _, code := range order {
		pairs := m[code]
		for i := 0; i+1 < len(pairs); i += 2 {
			if bare(pairs[i]) == name {
				return pairs[i+1]
			}
		}
	}
	return ""
}

// endMessage forgets what was said of a message.
func (m macros) endMessage() {
	for _, code := range order {
		if code != milter.CodeHelo && code != milter.CodeConn {
			delete(m, code)
		}
	}
}

// endSession forgets all.
func (m macros) endSession() { clear(m) }

// justSaid returns what was said for a command that begins a session or a
// message: for this one, not for the one before, which may have been refused.
func (c *conn) justSaid(code milter.Code) []string {
	if c.said != code {
		return nil
	}
	c.said = 0
	return c.macros[code]
}

func bare(name string) string {
	return strings.TrimSuffix(strings.TrimPrefix(name, "{"), "}")
}
