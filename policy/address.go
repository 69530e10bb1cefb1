package policy

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// Path is a reverse-path or forward-path, RFC 5321 4.1.2: the token as it
// travels, and what it means.
//
// Address is canonical: source route, needless quoting and a trailing dot are
// gone, the domain is lower case (A-labels). The null reverse-path has
// Address "" and Raw "<>". Raw goes on the wire untouched unless the policy
// rewrote the address, and then it was quoted again by [NewPath]: an unquoted
// local part never reaches a wire.
type Path struct {
	Raw     string // with the angle brackets
	Address string // canonical; "" for the null reverse-path
	Local   string // unquoted
	Domain  string // lower case, A-labels; "" for a bare local part
	Routed  bool   // the token carried a source route (RFC 5321 appendix C)
	Literal bool   // the domain is an address literal
}

// maxPath bounds a path in octets. RFC 5321 4.5.3.1.3 says 256; real senders
// use more (VERP, SRS, BATV stacked), so by choice the bound is wider.
const maxPath = 1000

// Errors of ParsePath; front-ends answer 501 5.1.3 (5.1.7 for a sender).
var (
	errBrackets = errors.New("a path stands in angle brackets")
	errAt       = errors.New("more than one unquoted @")
	errEmpty    = errors.New("empty address")
)

// ParsePath checks a path token by the grammar of RFC 5321 4.1.2, of RFC 6531
// if utf8ok (the transaction is SMTPUTF8). By choice it also takes what is in
// daily use and means one thing only: dots anywhere in a local part, an
// underscore in a domain, a trailing dot, and a bare local part (which RFC
// 5321 has for postmaster alone). The null path <> is allowed if null is.
func ParsePath(raw string, null, utf8ok bool) (Path, error) {
	if len(raw) < 2 || raw[0] != '<' || raw[len(raw)-1] != '>' {
		return Path{}, errBrackets
	}
	if len(raw) > maxPath {
		return Path{}, fmt.Errorf("path is longer than %d octets", maxPath)
	}
	p := Path{Raw: raw}
	s := raw[1 : len(raw)-1]
	if s == "" {
		if null {
			return p, nil
		}
		return Path{}, errEmpty
	}
	if s[0] == '@' { // source route: A-d-l ":" Mailbox; parsed, and ignored
		route, rest, ok := strings.Cut(s, ":")
		if !ok {
			return Path{}, errors.New("source route without a mailbox")
		}
		for hop := range strings.SplitSeq(route, ",") {
			if !strings.HasPrefix(hop, "@") {
				return Path{}, errors.New("malformed source route")
			}
			if _, _, err := parseDomain(hop[1:], utf8ok); err != nil {
				return Path{}, err
			}
		}
		s, p.Routed = rest, true
	}
	local, rest, err := parseLocal(s, utf8ok)
	if err != nil {
		return Path{}, err
	}
	p.Local = local
	p.Address = quoteLocal(local)
	if rest == "" {
		return p, nil
	}
	if rest[0] != '@' {
		return Path{}, fmt.Errorf("unexpected %q behind the local part", rest[0])
	}
	p.Domain, p.Literal, err = parseDomain(rest[1:], utf8ok)
	if err != nil {
		return Path{}, err
	}
	p.Address += "@" + p.Domain
	return p, nil
}

// NewPath makes a path from an address as a policy writes it (the canonical
// form: quoted where it must be). "" is the null reverse-path.
func NewPath(address string, utf8ok bool) (Path, error) {
	p, err := ParsePath("<"+address+">", true, utf8ok)
	if err != nil || address == "" {
		return p, err
	}
	p.Raw = "<" + p.Address + ">"
	p.Routed = false
	return p, nil
}

// Unrouted returns the token without its source route, which says how a message
// travels and not whose it is.
func (p Path) Unrouted() string {
	if !p.Routed {
		return p.Raw
	}
	_, mailbox, _ := strings.Cut(p.Raw, ":") // no hop has a colon: parseDomain
	return "<" + mailbox
}

// IsNull reports the null reverse-path.
func (p Path) IsNull() bool { return p.Address == "" }

// IsPostmaster reports <postmaster>, bare or at any domain, in any case.
// RFC 5321 4.5.1.
func (p Path) IsPostmaster() bool { return strings.EqualFold(p.Local, "postmaster") }

// parseLocal reads a local part from the front of s and returns it unquoted,
// with what follows it.
func parseLocal(s string, utf8ok bool) (local, rest string, err error) {
	if s != "" && s[0] == '"' {
		return parseQuoted(s, utf8ok)
	}
	i := 0
	for i < len(s) && s[i] != '@' {
		if c := s[i]; c != '.' && !isAtext(c) && (c < 0x80 || !utf8ok) {
			return "", "", badOctet(c)
		}
		i++
	}
	if i == 0 {
		return "", "", errEmpty
	}
	if utf8ok && !utf8.ValidString(s[:i]) {
		return "", "", errors.New("local part is no valid UTF-8")
	}
	return s[:i], s[i:], nil
}

func parseQuoted(s string, utf8ok bool) (local, rest string, err error) {
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		c := s[i]
		switch {
		case c == '"':
			if b.Len() == 0 {
				return "", "", errEmpty
			}
			if utf8ok && !utf8.ValidString(b.String()) {
				return "", "", errors.New("local part is no valid UTF-8")
			}
			return b.String(), s[i+1:], nil
		case c == '\\': // quoted-pairSMTP: %d92 %d32-126
			i++
			if i == len(s) || s[i] < ' ' || s[i] > '~' {
				return "", "", errors.New("malformed quoted pair")
			}
			b.WriteByte(s[i])
		case c < ' ' || c == 0x7f || c >= 0x80 && !utf8ok:
			return "", "", badOctet(c)
		default:
			b.WriteByte(c)
		}
	}
	return "", "", errors.New("quoted string does not end")
}

// quoteLocal writes a local part as it must stand in a path.
func quoteLocal(local string) string {
	plain := local != ""
	for i := 0; i < len(local) && plain; i++ {
		plain = local[i] == '.' || isAtext(local[i]) || local[i] >= 0x80
	}
	if plain {
		return local
	}
	var b strings.Builder
	b.WriteByte('"')
	for i := 0; i < len(local); i++ {
		if local[i] == '"' || local[i] == '\\' {
			b.WriteByte('\\')
		}
		b.WriteByte(local[i])
	}
	b.WriteByte('"')
	return b.String()
}

// parseDomain checks a domain or address literal and returns its canonical
// form.
func parseDomain(s string, utf8ok bool) (domain string, literal bool, err error) {
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		lit := s[1 : len(s)-1]
		for i := 0; i < len(lit); i++ {
			if c := lit[i]; c <= ' ' || c > '~' || c == '[' || c == ']' || c == '\\' {
				return "", false, badOctet(c)
			}
		}
		addr := lit
		if len(lit) > 5 && strings.EqualFold(lit[:5], "IPv6:") {
			addr = lit[5:]
		}
		ip, err := netip.ParseAddr(addr)
		if err != nil || ip.Zone() != "" || ip.Is6() != (addr != lit) {
			return "", false, errors.New("malformed address literal")
		}
		return strings.ToLower(s), true, nil
	}
	s = strings.TrimSuffix(s, ".")
	if s == "" {
		return "", false, errors.New("empty domain")
	}
	if strings.IndexByte(s, '@') >= 0 {
		return "", false, errAt
	}
	ascii := true
	for i := 0; i < len(s); i++ {
		ascii = ascii && s[i] < 0x80
	}
	if !ascii {
		if !utf8ok {
			return "", false, errors.New("8-bit octet in a domain without SMTPUTF8")
		}
		if s, err = idna.Lookup.ToASCII(s); err != nil {
			return "", false, errors.New("malformed internationalised domain")
		}
	}
	if len(s) > 255 {
		return "", false, errors.New("domain is longer than 255 octets")
	}
	label := 0
	for i := 0; i <= len(s); i++ {
		if i == len(s) || s[i] == '.' {
			if label == 0 || label > 63 || s[i-1] == '-' {
				return "", false, errors.New("malformed domain")
			}
			label = 0
			continue
		}
		c := s[i]
		if !isAlnum(c) && c != '_' && (c != '-' || label == 0) {
			return "", false, badOctet(c)
		}
		label++
	}
	return strings.ToLower(s), false, nil
}

func badOctet(c byte) error { return fmt.Errorf("octet %q is not allowed here", c) }

func isAlnum(c byte) bool {
	return c >= '0' && c <= '9' || c|0x20 >= 'a' && c|0x20 <= 'z'
}

// isAtext is atext of RFC 5322 3.2.3.
func isAtext(c byte) bool {
	return isAlnum(c) || strings.IndexByte("!#$%&'*+-/=?^_`{|}~", c) >= 0
}
