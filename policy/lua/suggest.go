package lua

import "slices"

// suggest finds the known name or visible local that a misspelt one was meant to be.
func (c *checker) suggest(name string, near []string) string {
	all := append([]string(nil), near...)
	for n := range builtins {
		all = append(all, n)
	}
	for n := range c.names.Known {
		all = append(all, n)
	}
	for n := range c.set {
		all = append(all, n)
	}
	return closest(name, all)
}

// closest gives the candidate that at most two slips away from name, or one for short names; "" if there is none.
func closest(name string, candidates []string) string {
	limit := 2
	if len(name) <= 3 {
		limit = 1
	}
	best := ""
	for _, c := range slices.Sorted(slices.Values(candidates)) { // the same answer each time; the caller's own stay as they are
		if len(c) > len(name)+limit || len(name) > len(c)+limit || c == name {
			continue
		}
		if d := distance(name, c); d <= limit && d < len(c) {
			best, limit = c, d-1
		}
	}
	return best
}

// distance counts the insertions, deletions, changes and swaps of neighbours between two names.
func distance(a, b string) int {
	prev2 := make([]int, len(b)+1)
	prev := make([]int, len(b)+1)
	row := make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		row[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			row[j] = min(prev[j]+1, row[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				row[j] = min(row[j], prev2[j-2]+1)
			}
		}
		prev2, prev, row = prev, row, prev2
	}
	return prev[len(b)]
}
