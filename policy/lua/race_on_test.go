//go:build race

package lua

const raceEnabled = true

// The detector makes an honest instruction take microseconds.
func init() { dearAfter *= 10 }
