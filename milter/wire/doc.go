// Package wire is the milter protocol as bytes: frames, the commands an MTA
// sends, and the answers a filter gives. It knows neither sockets nor policy,
// so that both faces of milter, and the tests that play the other side, speak
// through the same few lines.
//
// Everything here that reads is given to hostile peers. The rules are few: a
// frame is at most MaxFrame octets and never empty; a field that should end in
// NUL does, or the frame is refused; nothing that was read is trusted to be
// text. An error from this package ends that connection and nothing else.
//
// The constants are those of github.com/emersion/go-milter; the few that it
// lacks stand in codes.go. The protocol itself is told in protocol.md, in the
// folder above.
package wire
