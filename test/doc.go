// Package test holds what tests the program as a whole: it imports everything and nothing imports it.
//
//	report/     what make test prints: failures, skips with their reasons, the closing lines
//	upstream/   a scripted mail server that behaves as badly as its script says, and records each byte
//	postfix/    a private Postfix in a temporary directory, stock or with any setting
//	netns/      the test binary again in a network of its own, where clients have public addresses
//	relay/      a wire that can be cut at any octet
//	clients/    real clients: swaks, curl, Python's smtplib
//	moongate/   the program itself, as a child process
//	dialogue/   conversations as data files, spoken over real sockets
//	deploy/     the deployments that we ship: the pieces of configs/postfix in a real Postfix
//	milter/     a real Postfix and Sendmail that ask our milter, real filters that we ask
//
// What lies in this directory itself are the laws of the house (the import test) and the whole-program
// tests: the built binary between real clients and a real Postfix.
package test
