// Package milter is both faces of the milter protocol.
//
// # Our policy for any MTA: Server
//
// A Postfix or Sendmail keeps port 25 and asks us. The MTA's connection is one
// SMTP session, so it is one policy.Session; MAIL to end of message is one
// Transaction. The questions are those of the SMTP door, the answers are told
// in packets (stage.go): a refusal is a reply of our own, and what the policy
// changed is computed at the end of the message from In against Out
// (modify.go), because a filter may change things only there.
//
// We never say ACCEPT before the end of a message: it would end the MTA's
// questions for the whole of it, and with them limits, log rules and the audit
// line. What no rule needs is negotiated away instead (negotiate.go): commands
// that need no answer cost the MTA one write and no wait. What they take comes
// off the MTA's next wait (wait.go).
//
// What the peer sends is hostile until proven otherwise: a frame that makes no
// sense ends that connection, a panic too, and the MTA's milter_default_action
// takes over for that one session.
//
// # Their filters for our door: Filter
//
// Filter is a policy.Filter over go-milter's ClientSession: rspamd, opendkim,
// clamav-milter and the rest are asked as an MTA would ask them
// (conversation.go, over the connection of transport.go).
// The library is used behind an adapter that closes each of its traps; every
// one has a comment at its line and a test.
//
// A goroutine that has served a connection serves the next (crew.go).
//
// The bytes themselves are in the folder wire; protocol.md tells the protocol.
package milter
