//go:build !race

package moongate

const raceEnabled = false
