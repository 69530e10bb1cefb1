package proxy

import (
	"strings"

	"github.com/moongate/moongate/policy"
)

// queuedAs finds the queue id in the upstream's final reply, "" if there is
// none. It is for the log only.
//
//	250 2.0.0 Ok: queued as 4XyZ12             Postfix
//	250 OK id=1tBcDe-000000001Ab-2fGh          Exim
//	250 2.0.0 4AMB0x1y Message accepted        Sendmail
//	250 ok 1731000000 qp 12345                 qmail
//	250 2.6.0 <...> [InternalId=123, ...]      Exchange
func queuedAs(r policy.Reply) string {
	if len(r.Text) == 0 {
		return ""
	}
	text := r.Text[len(r.Text)-1]
	lower := strings.ToLower(text)
	for _, mark := range []string{"queued as ", "internalid=", " qp ", "id="} {
		if i := strings.Index(lower, mark); i >= 0 {
			return word(text[i+len(mark):])
		}
	}
	if i := strings.Index(lower, " message accepted"); i > 0 {
		return word(text[strings.LastIndexByte(text[:i], ' ')+1:])
	}
	return ""
}

// word is the id at the front of s.
func word(s string) string {
	end := strings.IndexFunc(s, func(c rune) bool {
		return !(c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || c == '-' || c == '_' || c == '.')
	})
	if end >= 0 {
		s = s[:end]
	}
	if len(s) > 64 {
		return ""
	}
	return strings.TrimRight(s, ".")
}
