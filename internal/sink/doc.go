// Package sink is an upstream that needs no installation: an SMTP server on
// go-smtp that stores every message into a Maildir. The commands sink and demo
// use it; it is for trying moongate out, not for mail that matters.
//
// What it says is true all the same: 250 after the dot means that the message
// is on disk, byte for byte as it came (the line ends stay CRLF, nothing is
// added), under the name in the reply.
//
// A trap of the library is closed by our own net.Conn (conn.go): after a read
// timeout inside DATA it answers 554 and then takes the rest of the body for
// commands, so here the first failed read closes the connection.
package sink
