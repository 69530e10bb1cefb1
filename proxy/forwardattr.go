package proxy

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/moongate/moongate/policy"
)

// maxProto is the longest PROTO that Postfix takes.
const maxProto = 64

// setForwarded takes one attribute; an unknown one or a malformed value is
// refused. What is not available, or longer than XFORWARD allows, is not known:
// it takes the place of what an earlier command said.
func setForwarded(f *policy.Facts, key, value string) bool {
	temporary := strings.EqualFold(value, tempUnavail)
	if temporary || strings.EqualFold(value, unavailable) || len(value) > maxXValue {
		value = ""
	}
	switch key {
	case "NAME":
		f.PTR, f.PTRTemp = neutered(value), temporary
	case "HELO":
		f.Helo = neutered(value)
	case "PROTO":
		if len(value) > maxProto || strings.ContainsFunc(value, notAtom) {
			return false
		}
		f.Proto = strings.ToUpper(value)
	case "ADDR":
		return setAddr(f, value)
	case "PORT":
		n, err := strconv.ParseUint(value, 10, 16)
		if value != "" && err != nil {
			return false
		}
		f.Remote = netip.AddrPortFrom(f.Remote.Addr(), uint16(n))
	case "SOURCE":
		// Whom the forwarder takes for local makes nobody one here: to a Postfix it
		// says whose header is completed (local_header_rewrite_clients), which is
		// the whole world with static:all, and not who may relay.
		return value == "" || strings.EqualFold(value, "LOCAL") || strings.EqualFold(value, "REMOTE")
	case "IDENT": // in front of the queue a Postfix has none
	default:
		return false
	}
	return true
}

func setAddr(f *policy.Facts, value string) bool {
	if value == "" {
		f.Remote = netip.AddrPortFrom(netip.Addr{}, f.Remote.Port())
		return true
	}
	if len(value) > 5 && strings.EqualFold(value[:5], "IPV6:") {
		value = value[5:]
	}
	a, err := netip.ParseAddr(value)
	if err != nil || a.Zone() != "" {
		return false
	}
	f.Remote = netip.AddrPortFrom(a.Unmap(), f.Remote.Port())
	return true
}

// neutered is a name that the client chose with what no name holds made "?", as
// Postfix does with blanks: it lets a client say "EHLO my computer" or "EHLO
// café", and so must we. It goes into the log, to rules, into Received lines and
// onward.
func neutered(s string) string {
	b := []byte(s)
	for i, c := range b {
		if c <= ' ' || c >= 0x7f {
			b[i] = '?'
		}
	}
	return string(b)
}

// notAtom: RFC 5321 4.1.2, RFC 5322 3.2.3.
func notAtom(c rune) bool {
	return c <= ' ' || c >= 0x7f || strings.ContainsRune(`()<>[]:;@\,."`, c)
}

// attrValue decodes a value, RFC 3461 4. A line's end in it, or a NUL, is nothing
// that a client can have said, and is refused.
func attrValue(xtext string) (string, bool) {
	value, err := policy.DecodeXtext(xtext)
	return value, err == nil && !strings.ContainsAny(value, "\r\n\x00")
}
