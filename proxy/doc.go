// Package proxy is the SMTP front door: it speaks to clients, asks the policy
// and forwards each transaction to the upstream that owns the queue.
//
// # The way of a message
//
// [Server.Serve] accepts and hands each connection to one goroutine, which
// owns the session to its end. The session (session.go) reads a command,
// finds it in the table (commands.go) and does three things in this order:
//
//	check -> ask -> do     syntax and state; policy.Session.Ask; the upstream
//
// Whatever the client hears (answer.go) leaves through one reply buffer
// (replies.go), which is flushed before every wait, and every answer is told to
// the policy. MAIL and RCPT go upstream as they come (relay.go), a pipelined
// group as a group (collect.go). DATA (data.go) reads the header and has it
// judged (intake.go), the envelope is settled (envelope.go, duplicates.go), and
// the body takes one of three ways with one method table: it flows through to
// the upstream (stream.go), it is held until the policy has seen it whole
// (hold.go), or it is read and forgotten, because the answer is known.
//
// The wire has one reader (lines.go), one decoder of bodies (decode.go), one
// encoder (encode.go) and one reader of replies (wirereply.go). The upstream
// is a [Hop]: dialled lazily, one conversation at a time (upstream.go), pooled
// where the upstream does not know the client (pool.go).
//
// # Laws owned here
//
//   - Our 250 after the dot is a copy of the upstream's own 2xx, or an
//     explicit, logged discard or quarantine (data.go).
//   - Bare CR, bare LF, CR CR LF, dot-stuffing, line length: one place decides
//     (decode.go), fuzzed. What stood behind a doubtful end of a message is
//     never taken for commands.
//   - After any read error in a body the connection is dead: the rest is never
//     parsed as commands (data.go).
//   - An abandoned upstream DATA is ended by closing the socket: never by a
//     dot, RSET or QUIT (upstream.go).
//   - An upstream that sends bytes nobody asked for, or a malformed reply, is
//     dropped; the bytes are never taken for a reply (wirereply.go).
//   - Addresses are checked by the grammar, then travel as the raw token
//     (args.go).
//   - Outages and bugs are 4xx; a 5xx is a decision of the policy, of a stated
//     limit or of the upstream (replies.go).
//   - A stranger relays nowhere (guard.go).
//   - Client gone: the session's context is cancelled, the upstream closed, the
//     spool freed (sweep.go).
//
// # Memory and waiting
//
// An idle session holds no buffer. While a session waits for the policy or the
// upstream it does not read; one sweeper per server looks at the sockets of
// sessions that wait long and cancels those whose client is gone.
package proxy
