// Package postfix runs a private Postfix for a test: queue, data, log and configuration in a temporary
// directory, one SMTP listener on a free port of 127.0.0.1, nothing delivered outside.
//
//	mta := postfix.Start(t, postfix.Options{})       // stock settings; trusts 127.0.0.0/8 as Debian's does
//	... speak SMTP to mta.Addr ...
//	msgs := mta.Messages(1)                          // what was delivered, byte for byte
//
// Postfix hands each message by LMTP to a sink in the test's own process. There are two: Inside gets
// what is addressed to the local domain, example.org, and Outside what Postfix would have sent to the
// world. A test for an open relay asserts that Outside stays empty.
//
// The mail system needs root (master binds, daemons become the user postfix). Where it is not installed
// or the test is not root, Start skips the test and says so.
package postfix
