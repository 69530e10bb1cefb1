// Package message holds one mail message as bytes: a raw, ordered header and a
// body spool. What is not edited goes on exactly as it came; that is this
// room's law.
//
//   - [Header] is the fields in order, each with its raw octets (folds and
//     case kept). It ends where Postfix ends it: at the first line that is
//     neither field nor continuation.
//   - [Spool] is the rest: memory first, then a file that has no name.
//   - [Message] is both.
//
// Line ends are CRLF throughout: the front-end has normalised or refused what
// was not.
package message
