package configs

import (
	"cmp"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/net/idna"
)

// Validate says what makes no sense in a Config whose values are all readable.
// It is asked by Load; who builds a Config by hand asks it himself.
func (c *Config) Validate() []Problem {
	var problems []Problem
	add := func(path, format string, args ...any) {
		table, _, _ := strings.Cut(path, ".")
		if !c.bad[path] && !c.bad[table] { // no second word about what could not be read
			problems = append(problems, c.at(path, format, args...))
		}
	}
	c.checkNames(add)
	c.checkAddresses(add)
	c.checkLoop(add)
	c.checkRelay(add)
	c.checkPolicy(add)
	return problems
}

type adder func(path, format string, args ...any)

func (c *Config) checkNames(add adder) {
	if _, err := asciiDomain(c.Hostname); err != nil {
		add("hostname", "`hostname`: %q is not a host name", c.Hostname)
	}
	for i, domain := range c.Domains {
		if _, err := asciiDomain(domain); err != nil {
			add(elementPath("domains", i), "`domains`: %q is not a domain%s", domain, domainHint(domain))
		}
	}
	for i, l := range c.Listeners {
		for j, network := range l.XForward {
			if network.Bits() == 0 {
				path := elementPath("listener", i) + ".xforward"
				add(elementPath(path, j), "`%s`: %s is everyone: whoever connects could claim any address", path, network)
			}
		}
	}
	for i, network := range c.Networks {
		if network.Bits() == 0 {
			add(elementPath("networks", i), "`networks`: %s is everyone: with it nobody is a stranger, and moongate an open relay", network)
		}
	}
}

// asciiDomain is the A-label form in lower case, or an error if it is no
// domain of two-letter-or-longer LDH labels by RFC 1123 and RFC 5890.
func asciiDomain(s string) (string, error) {
	if len(s) > 253 {
		return "", errNoDomain
	}
	ascii, err := idna.Lookup.ToASCII(s)
	if err != nil || ascii == "" || strings.HasPrefix(ascii, ".") || strings.Contains(ascii, "..") || longLabel(ascii) || strings.HasSuffix(ascii, ".") || strings.ContainsAny(ascii, "@:/[]*_ ") {
		return "", errNoDomain
	}
	if _, err := netip.ParseAddr(ascii); err == nil {
		return "", errNoDomain
	}
	return strings.ToLower(ascii), nil
}

// longLabel reports a label of more than 63 octets (RFC 1035 2.3.4).
func longLabel(ascii string) bool {
	for label := range strings.SplitSeq(ascii, ".") {
		if len(label) > 63 {
			return true
		}
	}
	return false
}

func domainHint(s string) string {
	switch {
	case strings.Contains(s, "@"):
		return "; write the part behind the @"
	case strings.HasPrefix(s, "."), strings.HasPrefix(s, "*"):
		return "; name each domain: a subdomain is a domain of its own"
	}
	return ""
}

func (c *Config) checkAddresses(add adder) {
	if len(c.Listeners) == 0 && c.Milter.Address == "" {
		add("listener", "nothing to serve: there is neither a [[listener]] nor a [milter] address")
	}
	taken := map[string]string{}
	claim := func(path string, a Address) {
		if a == "" || c.bad[path] {
			return
		}
		network, addr := a.Split()
		if _, port, ok := a.hostPort(); ok && port == "0" { // the system chooses: never the same twice
			return
		}
		if other, ok := taken[network+addr]; ok {
			add(path, "`%s`: %s is already taken by `%s`", path, a, other)
		}
		taken[network+addr] = path
	}
	for i, l := range c.Listeners {
		path := elementPath("listener", i) + ".address"
		if l.Address == "" {
			add(path, "this [[listener]] has no `address`")
		}
		claim(path, l.Address)
	}
	claim("milter.address", c.Milter.Address)
	claim("admin.address", c.Admin.Address)

	if len(c.Filters) > 0 && len(c.Listeners) == 0 && c.Milter.Address != "" {
		// Its operator has seen it start, and takes his mail for scanned.
		add(elementPath("filter", 0), "`filter[0]`: filters are asked about what comes in at a [[listener]], and there is none: no message would reach this one; give it to the MTA that asks [milter]")
	}
	names := map[string]string{}
	for i, f := range c.Filters {
		path := elementPath("filter", i)
		if f.Address == "" {
			add(path+".address", "this [[filter]] has no `address`")
		}
		name := cmp.Or(f.Name, string(f.Address))
		switch other, ok := names[name]; {
		case !ok || name == "":
			names[name] = path
		case f.Name == "":
			add(path+".address", "`filter`: without a `name` this one is called %q, as `%s` is: give it another", name, other)
		default:
			add(path+".name", "`filter`: the name %q is already taken by `%s`", name, other)
		}
	}
	for i, a := range c.DNS.Servers {
		host, port, ok := a.hostPort()
		if !ok || host == "" || len(literals(host)) == 0 || portNumber(port) == 0 {
			add(elementPath("dns.servers", i), "`dns.servers`: %s is not an address and port of a resolver", a)
		}
	}

	for i, l := range c.Listeners {
		checkSocket(add, elementPath("listener", i), l.Address, l.Mode, l.Group)
	}
	checkSocket(add, "milter", c.Milter.Address, c.Milter.Mode, c.Milter.Group)
	if c.Upstream.Address == "" {
		if len(c.Listeners) > 0 {
			add("upstream.address", "`upstream.address` is missing: where do messages go?")
		}
		return
	}
	host, port, ok := c.Upstream.Address.hostPort()
	if ok && (portNumber(port) == 0 || host == "") {
		add("upstream.address", "`upstream.address`: %s cannot be dialled", c.Upstream.Address)
	}
}

// checkSocket checks what is said of the file of a unix socket. Whether there is
// such a group, and a directory for it, is a matter of the machine.
func checkSocket(add adder, table string, a Address, mode, group string) {
	m, err := strconv.ParseUint(mode, 8, 32)
	switch {
	case err != nil || m > 0o777:
		add(table+".mode", "`%s.mode`: %q is no mode such as \"0660\"", table, mode)
	case m&0o222 == 0:
		add(table+".mode", "`%s.mode`: with %q nobody can connect: who may write may", table, mode)
	}
	if _, _, tcp := a.hostPort(); !tcp {
		return
	}
	if group != "" {
		add(table+".group", "`%s.group`: only a unix socket has a group, and %s is none", table, a)
	}
	if err == nil && m != 0o660 {
		add(table+".mode", "`%s.mode`: only a unix socket has a mode, and %s is none", table, a)
	}
}

// checkLoop refuses an upstream that is one of our own listeners: the first
// message would go round until every connection is taken.
func (c *Config) checkLoop(add adder) {
	for i, l := range c.Listeners {
		if sameSocket(l.Address, c.Upstream.Address) {
			add("upstream.address", "`upstream.address`: %s is our own `%s.address`; every message would come back to us", c.Upstream.Address, elementPath("listener", i))
		}
	}
}

// sameSocket reports whether dialling "to" reaches the listener "at". Names are
// not looked up: what they lead to may be another host tomorrow.
func sameSocket(at, to Address) bool {
	if at == "" || to == "" {
		return false
	}
	host, port, ok := at.hostPort()
	toHost, toPort, toOK := to.hostPort()
	switch {
	case ok != toOK:
		return false
	case !ok:
		return samePath(at, to)
	case portNumber(port) != portNumber(toPort) || portNumber(port) == 0:
		return false
	case strings.EqualFold(host, toHost):
		return true
	}
	for _, target := range literals(toHost) {
		if target.IsUnspecified() { // dialled, it is this host
			target = loopback4
		}
		for _, addr := range literals(host) {
			if addr == target || addr.IsUnspecified() && (target.IsLoopback() || isOurs(target)) {
				return true
			}
		}
	}
	return false
}

func samePath(a, b Address) bool {
	_, p := a.Split()
	_, q := b.Split()
	p, errP := filepath.Abs(p)
	q, errQ := filepath.Abs(q)
	return errP == nil && errQ == nil && p == q
}

func portNumber(s string) int {
	n, _ := strconv.Atoi(s)
	return n
}

var (
	loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	loopback6 = netip.IPv6Loopback()
)

// literals are the addresses that a host is without a question to the DNS.
func literals(host string) []netip.Addr {
	switch {
	case host == "": // ":25"
		return []netip.Addr{netip.IPv6Unspecified()}
	case strings.EqualFold(host, "localhost"):
		return []netip.Addr{loopback4, loopback6}
	}
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr.Unmap()}
	}
	return nil
}

func isOurs(target netip.Addr) bool {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range addrs {
		if ipnet, ok := a.(*net.IPNet); ok && ipnet.IP.Equal(target.AsSlice()) {
			return true
		}
	}
	return false
}

// checkRelay is the rule that moongate never starts as an open relay. The
// upstream trusts us, as a stock Postfix trusts 127.0.0.1; where it cannot
// judge the client we must know whom strangers may write to. With proxy and
// xclient it judges the client itself.
func (c *Config) checkRelay(add adder) {
	if len(c.Domains) > 0 || c.bad["domains"] || c.bad["upstream.identity"] {
		return
	}
	if c.Upstream.Identity == "proxy" || c.Upstream.Identity == "xclient" {
		return // it knows the client, which every dial proves, and judges him itself
	}
	for i, l := range c.Listeners {
		if l.Address != "" && l.Public() {
			add(elementPath("listener", i)+".address",
				"open relay: with upstream identity %q the upstream takes every client for us, and this listener is public; set `domains` to the domains that strangers may send to, or listen on loopback",
				c.Upstream.Identity)
		}
	}
}

func (c *Config) checkPolicy(add adder) {
	if c.Policy.Scripts == "" && !c.Policy.AllowEmpty {
		add("policy.scripts", "there is no policy: set `policy.scripts` to a directory of *.lua, or `policy.allow_empty = true` to let everything pass")
	}
	for _, r := range c.Policy.ReplyFooter {
		if r < ' ' || r > '~' {
			add("policy.reply_footer", "`policy.reply_footer` must be printable ASCII: it stands in SMTP replies")
			break
		}
	}
	if len(c.Policy.ReplyFooter) > 200 {
		add("policy.reply_footer", "`policy.reply_footer` is longer than 200 octets")
	}
}
