package configs

import (
	"net/netip"
	"time"
)

// Config is one moongate.toml. Make it with Load or Default; the zero value
// is not usable. A loaded Config is never changed.
type Config struct {
	// Hostname is our name in the banner, in replies and in Received lines.
	// Default: the machine's own name.
	Hostname string `toml:"hostname"`

	// Domains are the recipient domains that strangers may send to. A stranger
	// is a client whose address is in neither Networks nor loopback. Required
	// on a public listener whose upstream cannot judge the client (upstream
	// identity none or xforward); see "No open relay" in docs/configuration.md.
	Domains []string `toml:"domains"`

	// Networks are the clients that are no strangers, besides loopback:
	// "10.0.0.0/8", "2001:db8::/32", "192.0.2.7".
	Networks []netip.Prefix `toml:"networks"`

	// Received says whether we add a Received line: "auto" adds one where the
	// upstream's own line cannot tell the client (identity none or xforward),
	// "always" and "never" do what they say.
	Received string `toml:"received" enum:"auto always never"`

	// BareNewline says what becomes of a CR or LF that stands alone in a
	// message: "normalize" makes a lone LF a line end and a lone CR a blank,
	// "reject" answers 550 5.5.2 after the dot. Neither ever ends a message.
	BareNewline string `toml:"bare_newline" enum:"normalize reject"`

	// Listeners are where clients reach us.
	Listeners []Listener `toml:"listener"`

	// Filters are the milters that we call, in this order.
	Filters []Filter `toml:"filter"`

	Upstream   Upstream   `toml:"upstream"`
	Policy     Policy     `toml:"policy"`
	Milter     Milter     `toml:"milter"`
	State      State      `toml:"state"`
	Quarantine Quarantine `toml:"quarantine"`
	DNS        DNS        `toml:"dns"`
	Admin      Admin      `toml:"admin"`
	Log        Log        `toml:"log"`
	Limits     Limits     `toml:"limits"`
	Timeouts   Timeouts   `toml:"timeouts"`

	source // where each key stands, for the checks
}

// Listener is one [[listener]]: an address at which we speak SMTP.
type Listener struct {
	// Address is "host:port" or "unix:/path". Required.
	Address Address `toml:"address"`

	// TLS is "none": the connection is plain.
	TLS string `toml:"tls" enum:"none"`

	// XForward are the peers that may name the client they speak for: a Postfix
	// with smtpd_proxy_filter. connect and helo rules are then asked at MAIL,
	// about him. Such a listener counts as public wherever it stands. At a unix
	// socket whoever may open it may do so, whatever is listed.
	XForward []netip.Prefix `toml:"xforward"`

	// Mode is the mode of a unix socket, in octal: who may write may connect.
	Mode string `toml:"mode"`

	// Group is the group of a unix socket, a name or a number; "" leaves it ours.
	Group string `toml:"group"`

	// Budget is how long a message may take from its dot to our reply, judging
	// and the upstream together. 0: 480 s (a client waits 600 s); with xforward
	// 90 s, since Postfix waits 100 s (smtpd_proxy_timeout).
	Budget time.Duration `toml:"budget"`
}

// FullBudget is the Budget of a listener without xforward.
const FullBudget = 480 * time.Second

// Wait is the Budget with its default filled in.
func (l *Listener) Wait() time.Duration {
	switch {
	case l.Budget > 0:
		return l.Budget
	case len(l.XForward) > 0:
		return 90 * time.Second
	}
	return FullBudget
}

// Public reports a listener that strangers speak at: any but loopback and unix
// sockets, and one whose peers speak for others.
func (l *Listener) Public() bool { return !l.Address.Local() || len(l.XForward) > 0 }

// Upstream is [upstream]: the MTA that owns the queue.
type Upstream struct {
	// Address is "host:port" or "unix:/path". Required if there is a listener.
	Address Address `toml:"address"`

	// Identity says how the client's identity travels: "proxy" (a PROXY v2
	// header; advised for Postfix 3.5 and later), "xclient" (XCLIENT, where the
	// login must travel, too), "xforward" (XFORWARD before every MAIL; the
	// upstream logs the client, but does not judge it) or "none" (the upstream
	// sees us). With proxy and xclient the upstream judges the client itself,
	// and each dial proves that it knows him.
	Identity string `toml:"identity" enum:"none xforward proxy xclient"`

	// Mail says when the upstream hears MAIL: "mail", at once, or "rcpt", with
	// the first recipient that policy let pass: what policy refuses then costs
	// the upstream nothing.
	Mail string `toml:"mail" enum:"mail rcpt"`

	// MaxConnections is how many connections may be open to the upstream at
	// once. A transaction waits at most 5 s for one, then hears 451 4.3.2.
	MaxConnections int `toml:"max_connections" min:"1"`

	// Idle is how long an upstream connection without a transaction is kept.
	// 0: as the identity wants it (60 s in the pool, 5 s with proxy and xclient,
	// whose connections serve one session).
	Idle time.Duration `toml:"idle"`
}

// Policy is [policy]: the operator's Lua.
type Policy struct {
	// Scripts is the directory of *.lua, read in lexical order. Without it
	// there is no policy, which AllowEmpty must then permit.
	Scripts string `toml:"scripts" path:"true"`

	// AllowEmpty lets moongate run without any rule. Otherwise a start
	// without rules and a reload to none are refused, and any script that is
	// an empty file.
	AllowEmpty bool `toml:"allow_empty"`

	// SoftBounce turns every 5xx of ours (not the upstream's) into a 4xx; the
	// log shows what was meant.
	SoftBounce bool `toml:"soft_bounce"`

	// DelayReject gives the refusals of connect and helo rules at each RCPT,
	// so that the log names the recipients. Recommended for an MX.
	DelayReject bool `toml:"delay_reject"`

	// ReplyFooter stands behind the last line of every refusal of ours; {id}
	// is the id under which the log has the reason. "" for none.
	ReplyFooter string `toml:"reply_footer"`

	// AllowShrink lets a list lose more than half of over 20 entries, all, or
	// its file, once that has stood for a minute. Otherwise it keeps the old.
	AllowShrink bool `toml:"allow_shrink"`

	// MaxStates is how many Lua states may exist, and so how many hooks can
	// run or wait at once.
	MaxStates int `toml:"max_states" min:"1"`

	// Instructions is what one call of a rule may compute, in Lua instructions;
	// string functions and patterns are charged by their work. The same on
	// every machine: no clock is involved.
	Instructions int `toml:"instructions" min:"1000"`

	// Memory is what one call of a rule may allocate in strings and tables.
	Memory Size `toml:"memory" min:"65536"`
}

// Filter is one [[filter]]: a milter (rspamd, opendkim, clamav-milter) that is
// asked about what comes in at a listener, as an MTA would ask it.
type Filter struct {
	// Name is what the log and msg.filters call it. Default: its address.
	Name string `toml:"name"`

	// Address is "host:port" or "unix:/path". Required.
	Address Address `toml:"address"`

	// Phase is "verify" (asked before the rules, about the message as it was
	// received) or "sign" (asked last, when all edits are made).
	Phase string `toml:"phase" enum:"verify sign"`

	// OnError is what becomes of a message when the filter cannot be asked:
	// "tempfail", "accept" (with a header that says so) or "reject".
	OnError string `toml:"on_error" enum:"tempfail accept reject"`

	// Mode is "enforce", or "shadow": asked and logged, not obeyed.
	Mode string `toml:"mode" enum:"enforce shadow"`

	// Connect, Command and End are how long it may take to be reached, to
	// answer one command, and to take a piece of a message or judge it when it
	// has all. A stage as a whole ends within 20 s, the message within 120 s.
	Connect time.Duration `toml:"connect" min:"1ms"`
	Command time.Duration `toml:"command" min:"1ms"`
	End     time.Duration `toml:"end" min:"1ms"`
}

// Milter is [milter]: the same policy, served to an MTA.
type Milter struct {
	// Address is "host:port" or "unix:/path". Without it there is no milter.
	Address Address `toml:"address"`

	// Mode is the mode of a unix socket, in octal: who may write may connect.
	Mode string `toml:"mode"`

	// Group is the group of a unix socket, a name or a number; "" leaves it ours.
	// For a Postfix in its chroot: "postfix".
	Group string `toml:"group"`

	// Connections is how many MTA connections may be open at once; the next one
	// is closed, and the MTA does what it does when a milter is away.
	Connections int `toml:"connections" min:"1"`
}

// State is [state]: where limits and counters live.
type State struct {
	// Store is "memory": lost at a restart, never slow.
	Store string `toml:"store" enum:"memory"`
}

// Quarantine is [quarantine]: the drawer for messages that a rule keeps back.
type Quarantine struct {
	// Path is a directory. Without it no rule can quarantine.
	Path string `toml:"path" path:"true"`
}

// DNS is [dns]: whom rules and the client's name are looked up with.
type DNS struct {
	// Servers are resolvers, "127.0.0.1:53", asked in turn. Empty: those of
	// /etc/resolv.conf. A resolver of one's own is advised for DNS lists.
	Servers []Address `toml:"servers"`
}

// Admin is [admin]: /healthz and /metrics over HTTP.
type Admin struct {
	// Address is "host:port" or "unix:/path". Without it there is none. It
	// has no password: loopback or a unix socket only, unless a firewall helps.
	Address Address `toml:"address"`
}

// Log is [log]. The log goes to standard error.
type Log struct {
	// Format is "json", or "text" for lines shaped like Postfix's.
	Format string `toml:"format" enum:"json text"`

	// Level is the least level that is written. debug has the transcript,
	// without credentials and content.
	Level string `toml:"level" enum:"debug info warn error"`

	// Quiet are networks whose connections are not logged if they give no
	// command: health checks.
	Quiet []netip.Prefix `toml:"quiet"`
}

// Limits is [limits]. Reaching one is a stated refusal, so most answer 5xx.
type Limits struct {
	// Size is the largest message, and the SIZE in our EHLO reply unless the
	// upstream's is smaller. Beyond it: 552 5.3.4.
	Size Size `toml:"size" min:"1"`

	// Recipients is the most recipients of one message; further ones hear
	// 452 4.5.3, and the client sends them another time.
	Recipients int `toml:"recipients" min:"1"`

	// Header is the largest header block that is judged. Beyond it, or with
	// more than message.MaxFields fields: 552 5.3.4.
	Header Size `toml:"header" min:"1"`

	// Line is the longest body line that passes as it is.
	Line Size `toml:"line" min:"1000"`

	// Errors is how many refused commands a session may have before 421. Beyond
	// 100 commands that lead to no message each counts as a refused one.
	Errors int `toml:"errors" min:"1"`

	// Connections is how many sessions may be open at once; the next one
	// hears 421 4.3.2.
	Connections int `toml:"connections" min:"1"`

	// PerNetwork is how many of them may come from one /24 or /64. Clients of
	// Networks and loopback are not counted. 0: no limit.
	PerNetwork int `toml:"per_network" min:"0"`

	// Memory is how many bytes of one message are held in memory; what is
	// longer goes to an unlinked temporary file.
	Memory Size `toml:"memory" min:"0"`

	// Spool is how many bytes all messages held at once may take, in memory
	// and in files; at the limit MAIL hears 452 4.3.1.
	Spool Size `toml:"spool" min:"1"`
}

// Timeouts is [timeouts].
type Timeouts struct {
	// Idle is how long a client may be silent between commands; 10 s at most
	// while nearly all connections are taken, and inside a transaction while
	// others wait for an upstream connection.
	Idle time.Duration `toml:"idle" min:"1ms"`

	// Data is how long a client may be silent inside a message. In all it may be
	// waited for ten times as long, and 1 s more for each 100 octets.
	Data time.Duration `toml:"data" min:"1ms"`

	// Connect covers the upstream's dial, its greeting and its EHLO reply. For
	// the first two it has 5 s at most.
	Connect time.Duration `toml:"connect" min:"1ms"`

	// Command is how long the upstream may take to answer a command.
	Command time.Duration `toml:"command" min:"1ms"`

	// Block is how long one write of a message to the upstream may take.
	Block time.Duration `toml:"block" min:"1ms"`

	// Final is how long the upstream may take to answer the final dot. The
	// client waits 600 s: keep it well below.
	Final time.Duration `toml:"final" min:"1ms"`

	// Hook is the wall time of one rule, waiting included.
	Hook time.Duration `toml:"hook" min:"1ms"`

	// Message is the same for a message rule, which may wait for scanners.
	Message time.Duration `toml:"message" min:"1ms"`

	// Drain is how long open transactions may go on after SIGTERM.
	Drain time.Duration `toml:"drain" min:"0"`
}
