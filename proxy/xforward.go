package proxy

import (
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/moongate/moongate/policy"
)

// Bounds of XFORWARD and XCLIENT in Postfix's XFORWARD_README and
// XCLIENT_README: a command of 512 octets with its CRLF, a value of 255.
const (
	maxXCommand = 510
	maxXValue   = 255
)

// Values of attributes that are not known. The second one, of names that could
// not be looked up now, exists in XCLIENT alone.
const (
	unavailable = "[UNAVAILABLE]"
	tempUnavail = "[TEMPUNAVAIL]"
)

// xforward queues what the upstream is to log of the client. Postfix forgets
// it behind each message, so it goes out before every MAIL, in the same write.
func (c *conn) xforward() {
	offered, _ := c.caps.Arg("XFORWARD")
	line := ""
	for _, a := range forwardAttrs(c.facts, c.id) {
		if !hasWord(offered, a[0]) {
			continue
		}
		attr := a[0] + "=" + a[1]
		if line != "" && len("XFORWARD ")+len(line)+1+len(attr) > maxXCommand {
			c.queue(owed{verb: "XFORWARD", own: true}, []byte(line))
			line = ""
		}
		line = strings.TrimPrefix(line+" "+attr, " ")
	}
	if line != "" {
		c.queue(owed{verb: "XFORWARD", own: true}, []byte(line))
	}
}

// forwardAttrs are the attributes and what they are for this client, encoded. A
// client that is not known at all (no Begin) is a stranger.
func forwardAttrs(f *policy.Facts, id string) [][2]string {
	if f == nil {
		f = &policy.Facts{Stranger: true}
	}
	source := "LOCAL"
	if f.Stranger {
		source = "REMOTE"
	}
	return [][2]string{
		{"NAME", xtext(hostName(f.PTR))},
		{"ADDR", xtext(xaddr(f.Remote))},
		{"PORT", xtext(xport(f.Remote))},
		{"PROTO", xtext(f.Proto)},
		{"HELO", xtext(f.Helo)},
		{"IDENT", xtext(id)},
		{"SOURCE", source},
	}
}

func xaddr(a netip.AddrPort) string {
	ip := a.Addr().Unmap().WithZone("")
	switch {
	case !ip.IsValid():
		return ""
	case ip.Is6():
		return "IPV6:" + ip.String()
	}
	return ip.String()
}

func xport(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return strconv.Itoa(int(a.Port()))
}

// xtext encodes an attribute's value: whatever a client put into its HELO or
// its DNS, it stays one value. What is empty or too long is not available.
func xtext(s string) string {
	if s == "" || len(s) > maxXValue {
		return unavailable
	}
	var buf [3 * maxXValue]byte
	x := policy.AppendXtext(buf[:0], s, plainX)
	if len(x) > maxXValue {
		return unavailable
	}
	return string(x)
}

// plainX are the octets of a value that are not encoded: fewer than in RFC 3461
// 4, by choice. Postfix cuts the command into words with quotes, brackets and
// comments in mind, and a HELO with one double quote in it would swallow the
// attributes that follow, SOURCE=REMOTE among them.
func plainX(c byte) bool {
	return c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9' || strings.IndexByte(".-_:@/", c) >= 0
}

// hostName returns a name from the DNS if a Postfix would take it for one; it
// refuses the whole command otherwise.
func hostName(s string) string {
	if len(s) > maxXValue {
		return ""
	}
	letters := false
	for label := range strings.SplitSeq(s, ".") {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return ""
		}
		for i := 0; i < len(label); i++ {
			c := label[i]
			letter := c|0x20 >= 'a' && c|0x20 <= 'z' || c == '-' || c == '_'
			if !letter && (c < '0' || c > '9') {
				return ""
			}
			letters = letters || letter
		}
	}
	if !letters {
		return ""
	}
	return s
}

func hasWord(list, word string) bool {
	return slices.ContainsFunc(strings.Fields(list), func(w string) bool { return strings.EqualFold(w, word) })
}
