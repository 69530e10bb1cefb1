// Package dialogue runs conversations that are written down as data files over real sockets.
//
// A file is a txtar archive. Its comment says what it shows; its files set the stage; the file
// "dialogue" is the conversation. What the stage can have:
//
//	moongate.toml   the configuration; {upstream} is replaced. A loopback door if there is none
//	policy.lua      a policy, written to scripts/10-policy.lua
//	upstream        the script of the scripted upstream, see package upstream; "postfix" in its place
//	                means a private Postfix
//	other names     are written beside the configuration
//
// The conversation, one thing a line; blank lines and lines that begin with # are skipped:
//
//	C: text         the client says a line; CRLF is added
//	C> text         the client sends exactly this
//	C+ text         a line that goes out in one write with what is said next, as a pipelining client's
//	S: pattern      the server says this line
//	S* 250          the server says a whole reply with this code, whatever its lines
//	S!              the server closes the connection, and says nothing before
//	U: pattern      the upstream was told this line, after those already matched; others may lie between
//	U! pattern      up to now the upstream was told no such line
//	N: 2            the upstream has accepted this many messages, and comes to no other number
//	M: pattern      the last accepted message has this line
//	M= text         the last accepted message is this, octet by octet
//	L: msg k=v k=v  the log has a line with this message and these fields; several are matched in order
//	L! msg k=v      up to now it has none
//	!close          the client closes its connection; !reset with a RST; !half-close its sending half
//	!client NAME    goes on as another client, which connects if it is a new one
//	!upstream stop  and start, hangup: what happens to the upstream; quiet waits until no connection to
//	                it is open
//	!policy NAME    the file NAME becomes scripts/10-policy.lua; waits until it is live
//	!broken NAME    the same for a policy that must be refused
//
// In a pattern "..." stands for any run of characters. In all texts the escapes of package upstream may
// be used: \r \n \t \0 \\ \xNN, and {N*text} repeats a text N times.
//
// A failure shows the conversation up to the line that failed.
package dialogue
