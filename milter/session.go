package milter

import (
	"context"
	"net/netip"
	"strconv"
	"strings"

	"github.com/emersion/go-milter"

	"github.com/moongate/moongate/milter/wire"
	"github.com/moongate/moongate/policy"
)

// connect begins a session. A second one on the same connection is a new
// session: K is not the only way in which an MTA says so.
func (c *conn) connect(cmd wire.Connect) error {
	said := c.justSaid(milter.CodeConn)
	c.endSession("")
	c.macros.set(milter.CodeConn, said)
	c.s = c.env.NewSession(c.ctx, c.facts(cmd))
	// Postfix plays the client for what pickup takes (non_smtpd_milters), and
	// has no port for it.
	c.submits = c.s.Remote.IsValid() && c.s.Remote.Addr().IsLoopback() && cmd.Port == 0 && c.isPostfix()
	ev := policy.Event{Hook: policy.Connect}
	return c.answer(&ev, "CONNECT", c.ask(&ev))
}

// facts are what CONNECT and its macros say of the client.
func (c *conn) facts(cmd wire.Connect) policy.Facts {
	f := policy.Facts{Listener: c.name, Local: c.local()}
	switch cmd.Family {
	case milter.FamilyInet, milter.FamilyInet6:
		addr, err := netip.ParseAddr(strings.TrimPrefix(cmd.Addr, "IPv6:"))
		if err != nil {
			f.Stranger = true
			break
		}
		f.Remote = netip.AddrPortFrom(addr.Unmap(), cmd.Port)
		f.Stranger = c.srv.stranger(addr.Unmap())
	case milter.FamilyUnknown:
		f.Stranger = true
	}
	// Postfix gives a name only if it is forward-confirmed, and "[address]" or
	// "unknown" without one. Sendmail gives any, and says in a macro what it is.
	resolved := c.macros.get("client_resolve")
	if !strings.HasPrefix(cmd.Host, "[") && cmd.Host != "unknown" && (resolved == "" || resolved == "OK") {
		f.PTR = strings.ToLower(strings.TrimSuffix(cmd.Host, "."))
	}
	return f
}

// local is the address at which the MTA took the client, where it says so.
func (c *conn) local() netip.AddrPort {
	name := c.macros.get("daemon_addr")
	if name == "" {
		name = c.macros.get("if_addr")
	}
	addr, err := netip.ParseAddr(strings.TrimPrefix(name, "IPv6:"))
	if err != nil {
		return netip.AddrPort{}
	}
	port, _ := strconv.ParseUint(c.macros.get("daemon_port"), 10, 16)
	return netip.AddrPortFrom(addr.Unmap(), uint16(port))
}

// helo takes HELO and EHLO, which the protocol does not tell apart. Behind
// STARTTLS it comes with the TLS macros.
func (c *conn) helo(cmd wire.Helo) error {
	c.abort("a new HELO")
	c.s.Helo = cmd.Name
	if v := c.macros.get("tls_version"); v != "" && c.s.TLS == nil {
		c.s.TLS = &policy.TLS{Version: v, Cipher: c.macros.get("cipher"), Peer: c.verified()}
		c.s.Tell(&policy.Event{Hook: policy.StartTLS})
	}
	c.s.Proto = c.proto(nil)
	ev := policy.Event{Hook: policy.Helo}
	return c.answer(&ev, "HELO", c.ask(&ev))
}

// proto is ESMTP where something tells that the client said EHLO: extensions
// that it uses, or Sendmail, which says so at MAIL.
func (c *conn) proto(args []string) string {
	if c.s.TLS != nil || c.s.User != "" || len(args) > 0 || strings.HasPrefix(c.macros.get("r"), "ESMTP") {
		return "ESMTP"
	}
	return "SMTP"
}

// verified is the subject of a client certificate that the MTA trusts. Postfix
// names no other; Sendmail names what was presented, and says in {verify} what
// it thinks of it.
func (c *conn) verified() string {
	if v := c.macros.get("verify"); v == "OK" || v == "" && c.isPostfix() {
		return c.macros.get("cert_subject")
	}
	return ""
}

func (c *conn) isPostfix() bool { return strings.HasPrefix(c.macros.get("v"), "Postfix") }

func (c *conn) unknown(cmd wire.Unknown) error {
	ev := policy.Event{Hook: policy.Unknown, Line: []byte(cmd.Line)}
	v := c.ask(&ev)
	if !v.Refuses() {
		return c.goOn(policy.Unknown) // the MTA says its own 500
	}
	return c.answer(&ev, "", v)
}

// endSession tells the policy that the client has gone.
func (c *conn) endSession(cause string) {
	if c.s != nil {
		c.abort(cause)
		c.tellEnd(&policy.Event{Hook: policy.Disconnect, Cause: cause})
		c.s = nil
	}
	c.behind, c.owed = 0, 0
	c.macros.endSession()
}

// tellEnd tells of the end of a transaction or session. Its log rules run also
// when the MTA is gone, which has cancelled all else.
func (c *conn) tellEnd(ev *policy.Event) {
	if c.ctx.Err() != nil {
		c.s.Ctx = context.WithoutCancel(c.ctx)
	}
	c.s.Tell(ev)
	c.s.Ctx = c.ctx
}

// ok is what is noted where the MTA's own reply is not known to us.
var ok = policy.Say(250, policy.NoStatus, "Ok")

// answer tells the MTA what was decided of a command, then the policy what was
// answered.
func (c *conn) answer(ev *policy.Event, verb string, v policy.Verdict) error {
	told := policy.Event{Hook: policy.Answered, Rcpt: ev.Rcpt, Verb: verb, Line: ev.Line, Reply: ok, By: policy.ByUpstream}
	var err error
	if v.Refuses() {
		told.Reply, told.By, told.Meant = c.s.Refusal(v.Reply), source(v), v.Reply.Code
		err = c.refuse(ev.Hook, told.Reply)
	} else {
		err = c.goOn(ev.Hook)
	}
	// A connection that is let in is no command, and DATA is answered when the
	// message is.
	if err == nil && (v.Refuses() || verb != "CONNECT" && verb != "DATA") {
		c.s.Tell(&told)
	}
	return err
}

// source is who stands behind a verdict.
func source(v policy.Verdict) policy.Source {
	if v.Rule == nil {
		return policy.ByFilter
	}
	return policy.ByPolicy
}

// goOn says continue, unless the MTA does not wait for it.
func (c *conn) goOn(h policy.Hook) error {
	if c.silent(h) {
		return nil
	}
	return c.act(milter.ActContinue)
}

// silent reports whether the MTA goes on without our answer at this hook.
func (c *conn) silent(h policy.Hook) bool { return c.options.Protocol&noReply[h] != 0 }

// refuse gives a 4xx or 5xx in the policy's own words.
func (c *conn) refuse(h policy.Hook, r policy.Reply) error {
	if c.silent(h) {
		// What decides here was negotiated for, so this is a bug of ours. The
		// MTA must not go on: it hears of a broken connection.
		return errUnheard
	}
	f, err := replyFrame(r)
	if err != nil {
		return err
	}
	return c.send(f)
}

// replyFrame is a reply as a packet: each line with its status, RFC 2034 4.
func replyFrame(r policy.Reply) (wire.Frame, error) {
	lines := make([]string, len(r.Text))
	for i, t := range r.Text {
		st := policy.StatusText(r.Status)
		if st != "" && t != "" {
			st += " "
		}
		lines[i] = st + t
	}
	return wire.Reply(r.Code, lines)
}
