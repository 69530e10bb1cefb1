package milter

import (
	"net/netip"
	"strconv"
	"strings"

	"github.com/emersion/go-milter"

	"github.com/moongate/moongate/milter/wire"
	"github.com/moongate/moongate/policy"
)

// clientOf is the client as CONNECT names it. One on a unix socket is
// "unknown": the library leaves the port of a unix address out, which
// libmilter and rspamd take for a broken packet. Filters take that for the own
// machine (opendkim signs its mail), so a stranger whose address is not known
// has one that is nobody's.
func clientOf(f *policy.Facts) (host string, family milter.ProtoFamily, port uint16, addr string) {
	switch {
	case f.Remote.IsValid():
	case f.Stranger:
		return "unknown", milter.FamilyInet, 0, "0.0.0.0"
	default:
		return "localhost", milter.FamilyUnknown, 0, ""
	}
	a := f.Remote.Addr().Unmap()
	family = milter.FamilyInet
	if a.Is6() {
		family = milter.FamilyInet6
	}
	host = f.PTR
	if host == "" {
		host = "[" + a.String() + "]"
	}
	return host, family, f.Remote.Port(), a.String()
}

func nameOf(f *policy.Facts) string {
	if f.PTR == "" {
		return "unknown"
	}
	return f.PTR
}

func addrText(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return a.Addr().Unmap().String()
}

func portText(a netip.AddrPort) string {
	if !a.IsValid() {
		return ""
	}
	return strconv.Itoa(int(a.Port()))
}

// pairs leaves out macros without a value and values that hold a NUL.
func pairs(kv ...string) []string {
	out := make([]string, 0, len(kv))
	for i := 0; i+1 < len(kv); i += 2 {
		if kv[i+1] != "" && strings.IndexByte(kv[i+1], 0) < 0 {
			out = append(out, kv[i], kv[i+1])
		}
	}
	return out
}

func (c *conversation) helo(s *policy.Session, ev *policy.Event) (*milter.Action, error) {
	c.link.c.until(c.f.commandTime(), ev.Deadline)
	if err := c.abort(); err != nil { // EHLO ends a message
		return nil, err
	}
	if t := s.TLS; t != nil {
		if err := c.link.Macros(milter.CodeHelo, pairs("{tls_version}", t.Version, "{cipher}", t.Cipher, "{cert_subject}", t.Peer)...); err != nil {
			return nil, err
		}
	}
	act, err := c.link.Helo(noNUL(s.Helo))
	// A name that was refused is said again, and refused again, with the next
	// message.
	c.greeted = err == nil && act.Code != milter.ActReject && act.Code != milter.ActTempFail && act.Code != milter.ActReplyCode
	return act, err
}

func (c *conversation) mail(s *policy.Session, ev *policy.Event) (*milter.Action, error) {
	c.link.c.until(c.f.commandTime(), ev.Deadline)
	from := s.Tx.In.From
	auth := ""
	if s.User != "" {
		auth = "PLAIN" // which mechanism it was is not known here; filters ask whether there was one
	}
	err := c.link.Macros(milter.CodeMail, pairs("i", s.Tx.ID, "{mail_addr}", from.Address, "{mail_host}", from.Domain,
		"{mail_mailer}", "smtp", "{auth_authen}", s.User, "{auth_type}", auth)...)
	if err != nil {
		return nil, err
	}
	c.content = true
	return c.link.Mail(unbracketed(from.Raw), rawParams(s.Tx.In.Params))
}

func (c *conversation) rcpt(s *policy.Session, ev *policy.Event) (*milter.Action, error) {
	c.link.c.until(c.f.commandTime(), ev.Deadline)
	to := ev.Rcpt.In
	err := c.link.Macros(milter.CodeRcpt, pairs("i", s.Tx.ID, "{rcpt_addr}", to.Address, "{rcpt_host}", to.Domain, "{rcpt_mailer}", "smtp")...)
	if err != nil {
		return nil, err
	}
	return c.link.Rcpt(unbracketed(to.Raw), rawParams(ev.Rcpt.Params))
}

// data says DATA, which the library cannot, to a filter that has such a command.
func (c *conversation) data(s *policy.Session, ev *policy.Event) (*milter.Action, error) {
	if c.link.c.version() < 4 || c.link.ProtocolOption(milter.OptNoData) {
		return nil, errNothing
	}
	c.link.c.until(c.f.commandTime(), ev.Deadline)
	if err := c.link.Macros(milter.CodeData, "i", s.Tx.ID); err != nil {
		return nil, err
	}
	return c.link.raw(wire.Signal{Code: milter.CodeData}, milter.OptNoDataReply)
}

func (c *conversation) unknown(ev *policy.Event) (*milter.Action, error) {
	if c.link.c.version() < 3 || c.link.ProtocolOption(milter.OptNoUnknown) {
		return nil, errNothing
	}
	c.link.c.until(c.f.commandTime(), ev.Deadline)
	return c.link.raw(wire.Unknown{Line: noNUL(string(ev.Line))}, milter.OptNoUnknownReply)
}

func rawParams(params []policy.Param) (args []string) {
	for _, p := range params {
		args = append(args, p.Raw)
	}
	return args
}

// unbracketed is a path as the library wants it: it puts the brackets back.
func unbracketed(raw string) string {
	return strings.TrimSuffix(strings.TrimPrefix(raw, "<"), ">")
}

// noNUL takes NULs out of what becomes a C-string.
func noNUL(s string) string {
	if strings.IndexByte(s, 0) < 0 {
		return s
	}
	return strings.ReplaceAll(s, "\x00", "")
}

// headerWord makes a name fit for a header value.
func headerWord(s string) string {
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' {
			return '_'
		}
		return r
	}, s)
}
