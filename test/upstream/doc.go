// Package upstream is a scripted mail server for tests: it answers as its script says, well or badly,
// and records every byte that it was sent.
//
// A script is text, one rule a line, the first that fits is taken; what no rule fits is answered as an
// honest server would:
//
//	# event [/regexp of the line/] [#occurrence] [@connection]  reply [!then]
//	connect        220 up.example ESMTP
//	EHLO           250-up.example|250-PIPELINING|250 8BITMIME
//	RCPT /<bad@/   550-5.1.1 no such user|550 5.1.1 look it up
//	MAIL #2        451 4.3.0 the second MAIL of all
//	DATA @2        421 4.3.2 going down !close
//	.              250 2.0.0 Ok: queued as U{n}
//	NOOP           raw:25
//	body 100       !reset
//	input 17       !close
//	idle 50ms      421 4.4.2 idle !close
//
// Events are the verb of a command, and
//
//	connect   a client has connected
//	.         the end of a message
//	body N    N octets of a message have come
//	input N   N octets have come on this connection, commands and all: nothing further is read
//	idle D    nothing came for the duration D while a command was awaited
//	proxy     before the greeting: a PROXY header, version 1 or 2, is read and recorded first
//
// In a reply, | ends a line; every line gets CRLF, unless the reply begins with "raw:", which is sent
// as it is. The escapes \r \n \t \\ \xNN may be used; {n} is the number of the message, {conn} that of
// the connection, {arg} the command's argument. An empty reply says nothing. What may follow:
//
//	!close   close the connection          !reset   close it with a RST
//	!hang    read and record, never answer again
//	!stop    as if the whole server were killed: every connection and the listener are closed
package upstream
