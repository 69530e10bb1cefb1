//go:build race

package lua

// Under the race detector an honest instruction takes microseconds.
func init() { dearAfter *= 10 }
