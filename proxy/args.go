package proxy

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/moongate/moongate/policy"
)

// Refusals of arguments. RFC 5321 4.3.2, RFC 3463 3.2 and 3.6.
var (
	badMailSyntax   = policy.Say(501, policy.Status{5, 5, 4}, "Syntax: MAIL FROM:<address>")
	badRcptSyntax   = policy.Say(501, policy.Status{5, 5, 4}, "Syntax: RCPT TO:<address>")
	badSender       = policy.Say(501, policy.Status{5, 1, 7}, "Bad sender address syntax")
	badRcpt         = policy.Say(501, policy.Status{5, 1, 3}, "Bad recipient address syntax")
	badParam        = policy.Say(501, policy.Status{5, 5, 4}, "Bad parameter")
	badTwice        = policy.Say(501, policy.Status{5, 5, 4}, "Parameter given twice")
	badUnknownParam = policy.Say(555, policy.Status{5, 5, 4}, "Unsupported parameter")
)

// parseMail reads the argument of MAIL: "FROM:<path> KEY=VALUE ...". offered
// are the keywords of our EHLO reply; nil (after HELO) means none. A reply is
// the refusal.
func parseMail(arg []byte, offered *Caps) (policy.Path, []policy.Param, *policy.Reply) {
	token, rest, ok := cutPath(arg, "FROM:")
	if !ok {
		return policy.Path{}, nil, &badMailSyntax
	}
	// SMTPUTF8 stands behind the path that it allows (RFC 6531 3.4).
	params, refusal := parseParams(rest, offered.Has("SMTPUTF8"))
	if refusal == nil {
		refusal = checkParams(params, mailParams, offered)
	}
	if refusal != nil {
		return policy.Path{}, nil, refusal
	}
	_, eai := policy.FindParam(params, "SMTPUTF8")
	if !eai && notASCII(rest) {
		return policy.Path{}, nil, &badParam
	}
	path, err := policy.ParsePath(string(token), true, eai)
	if err != nil {
		return policy.Path{}, nil, &badSender
	}
	return path, params, nil
}

// parseRcpt reads the argument of RCPT: "TO:<path> KEY=VALUE ...". eai says
// that the transaction is SMTPUTF8.
func parseRcpt(arg []byte, eai bool, offered *Caps) (policy.Path, []policy.Param, *policy.Reply) {
	token, rest, ok := cutPath(arg, "TO:")
	if !ok {
		return policy.Path{}, nil, &badRcptSyntax
	}
	path, err := policy.ParsePath(string(token), false, eai)
	if err != nil {
		return policy.Path{}, nil, &badRcpt
	}
	params, refusal := parseParams(rest, eai)
	if refusal == nil {
		refusal = checkParams(params, rcptParams, offered)
	}
	if refusal != nil {
		return policy.Path{}, nil, refusal
	}
	return path, params, nil
}

// cutPath takes the keyword and the path token from the front of arg. By
// choice blanks between the two are allowed, as many clients send them; a
// token that does not begin with "<" reaches up to the next blank and is
// refused by ParsePath.
func cutPath(arg []byte, keyword string) (token, rest []byte, ok bool) {
	if len(arg) < len(keyword) || !strings.EqualFold(string(arg[:len(keyword)]), keyword) {
		return nil, nil, false
	}
	arg = bytes.TrimLeft(arg[len(keyword):], " ")
	if len(arg) == 0 {
		return nil, nil, false
	}
	end := pathEnd(arg)
	token, rest = arg[:end], arg[end:]
	if len(rest) > 0 && rest[0] != ' ' {
		return arg, nil, true // "<a@b>c": no path; ParsePath says so
	}
	return token, rest, true
}

// pathEnd returns where the path token at the front of arg ends: behind the
// first ">" outside a quoted string.
func pathEnd(arg []byte) int {
	if arg[0] != '<' {
		if i := bytes.IndexByte(arg, ' '); i >= 0 {
			return i
		}
		return len(arg)
	}
	quoted := false
	for i := 1; i < len(arg); i++ {
		switch c := arg[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && quoted:
			i++
		case c == '>' && !quoted:
			return i + 1
		}
	}
	return len(arg)
}

// parseParams reads esmtp-params (RFC 5321 4.1.2). Values keep their encoding.
func parseParams(rest []byte, eai bool) ([]policy.Param, *policy.Reply) {
	var params []policy.Param
	for tok := range bytes.FieldsFuncSeq(rest, func(c rune) bool { return c == ' ' }) {
		raw := string(tok)
		key, value, valued := strings.Cut(raw, "=")
		if !isKeyword(key) || valued && !isValue(value, eai) {
			return nil, &badParam
		}
		key = strings.ToUpper(key)
		if _, twice := policy.FindParam(params, key); twice {
			// What counts is the first for one reader and the last for the
			// next: a policy must not be told one and the upstream another.
			return nil, &badTwice
		}
		params = append(params, policy.Param{Key: key, Value: value, Raw: raw})
	}
	return params, nil
}

// isKeyword: esmtp-keyword = (ALPHA / DIGIT) *(ALPHA / DIGIT / "-")
func isKeyword(s string) bool {
	for i := 0; i < len(s); i++ {
		c := s[i]
		if !(c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z' || c == '-' && i > 0) {
			return false
		}
	}
	return s != ""
}

// isValue: esmtp-value = 1*(%d33-60 / %d62-126), with SMTPUTF8 any UTF-8
// beyond (RFC 6531 3.3). By choice "=" passes: it cannot be misread behind the
// first one.
func isValue(s string, eai bool) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c <= ' ' || c == 0x7f || c >= 0x80 && !eai {
			return false
		}
	}
	return s != "" && utf8.ValidString(s)
}

func notASCII(b []byte) bool {
	return bytes.ContainsFunc(b, func(c rune) bool { return c >= 0x80 })
}

// A param that we know: the EHLO keyword that permits it, and its values.
type param struct {
	cap   string
	valid func(v string) bool // nil: any, or none
}

var mailParams = map[string]param{
	"SIZE":        {"SIZE", isSize},                                      // RFC 1870 6
	"BODY":        {"8BITMIME", oneOf("7BIT", "8BITMIME", "BINARYMIME")}, // RFC 6152 3; see checkParams
	"SMTPUTF8":    {"SMTPUTF8", isEmpty},                                 // RFC 6531 3.4
	"RET":         {"DSN", oneOf("FULL", "HDRS")},                        // RFC 3461 4.3
	"ENVID":       {"DSN", notEmpty},                                     // RFC 3461 4.4
	"AUTH":        {"AUTH", notEmpty},                                    // RFC 4954 5
	"REQUIRETLS":  {"REQUIRETLS", isEmpty},                               // RFC 8689 4.1
	"MT-PRIORITY": {"MT-PRIORITY", notEmpty},                             // RFC 6710 4.1
	"BY":          {"DELIVERBY", notEmpty},                               // RFC 2852 4
	"HOLDFOR":     {"FUTURERELEASE", notEmpty},                           // RFC 4865 4
	"HOLDUNTIL":   {"FUTURERELEASE", notEmpty},
}

var rcptParams = map[string]param{
	"NOTIFY": {"DSN", isNotify},  // RFC 3461 4.1
	"ORCPT":  {"DSN", notEmpty},  // RFC 3461 4.2
	"RRVS":   {"RRVS", notEmpty}, // RFC 7293 3.2
}

// checkParams refuses what our EHLO reply did not offer (555, RFC 5321
// 4.1.1.11) and values that their RFC does not know (501).
func checkParams(params []policy.Param, known map[string]param, offered *Caps) *policy.Reply {
	for _, p := range params {
		k, ok := known[p.Key]
		if !ok || !offered.Has(k.cap) {
			return &badUnknownParam
		}
		if k.valid != nil && !k.valid(p.Value) {
			return &badParam
		}
		if p.Key == "BODY" && strings.EqualFold(p.Value, "BINARYMIME") && !offered.Has("BINARYMIME") {
			return &badUnknownParam
		}
	}
	return nil
}

// declaredSize returns the SIZE of a MAIL command, 0 if it said none.
func declaredSize(params []policy.Param) int64 {
	v, _ := policy.FindParam(params, "SIZE")
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// isSize: 1*20DIGIT. What fits no int64 is refused, too.
func isSize(v string) bool {
	_, err := strconv.ParseInt(v, 10, 64)
	return err == nil && v[0] >= '0' && v[0] <= '9'
}

func isEmpty(v string) bool  { return v == "" }
func notEmpty(v string) bool { return v != "" }

func oneOf(values ...string) func(string) bool {
	return func(v string) bool {
		return slices.ContainsFunc(values, func(w string) bool { return strings.EqualFold(v, w) })
	}
}

// isNotify: NEVER, or a list of SUCCESS, FAILURE, DELAY.
func isNotify(v string) bool {
	if strings.EqualFold(v, "NEVER") {
		return true
	}
	for e := range strings.SplitSeq(v, ",") {
		if !oneOf("SUCCESS", "FAILURE", "DELAY")(e) {
			return false
		}
	}
	return true
}
