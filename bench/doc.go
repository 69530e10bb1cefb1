// Package bench measures moongate against its peers: the same client load goes
// to one fast sink through nothing, HAProxy (mode tcp), Postfix as a
// smtpd_proxy_filter, and moongate with each identity, on both data paths, with
// a rule at each stage. All of them run in one session in alternating rounds,
// because a machine's speed drifts: what counts is the ratio within a round.
//
//	make bench
//
// prints a table of medians and paired ratios. Numbers without their peers in
// the same run mean nothing, and no timing ever fails a test.
package bench
