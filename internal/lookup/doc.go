// Package lookup is the live [policy.World]: the one door through which a rule
// asks DNS and its kin, so that there is one cache, one deadline and one set of
// metrics.
//
// Services:
//
//   - "dns": Type A, AAAA, MX, TXT or PTR, Name a domain (for PTR an address).
//     A name that does not exist is an empty answer, not an error; trouble is
//     an error.
//   - "dnsbl": Type the zone, Name the full name to ask; the A records. A zone
//     that fails its test points (RFC 5782 5) is switched off: its answers are
//     errors until it behaves. [World.Watch] says which zones are looked after.
//
// A query waits at most 1.5 s, or as long as the caller's context allows.
// Callers of the same question share one query. Answers are kept for 300 s,
// empty ones for 60 s, trouble for 5 s, so that a dead resolver costs each
// session at most one wait.
package lookup
