// Package state keeps what policies remember from one message to the next:
// limits, counters and cached values.
//
// A [Memory] is the store of one process. It has no clock: each call brings
// the time, so a test or a replay moves it as it likes. It implements the
// Store of package policy structurally and imports no room of ours.
//
// # How limits are counted
//
// A limit is the generic cell rate algorithm: for each rate one number, the
// theoretical arrival time (TAT), in whole microseconds. A rate of 60 in a
// minute has an interval of a second; taking n moves the TAT n intervals
// ahead; there is room as long as the TAT is at most burst intervals ahead of
// now. So a limit needs sixteen octets a rate, no window ever "resets", and
// what is left comes back evenly.
//
// What is taken is a Hold. Kept, it stays; released, it is given back: as much
// of it as has not drained away meanwhile, so that nobody gains room by taking
// and releasing.
//
// # Bounds
//
// Keys live in shards, each with its own lock and its own part of the memory.
// A full shard forgets the key that was used least recently. Expired keys are
// dropped by the way, a few at each call. Keys longer than 256 octets are
// replaced by their hash.
package state
