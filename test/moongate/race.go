//go:build race

package moongate

// raceEnabled: tests under the race detector run a program that has it, too.
const raceEnabled = true
