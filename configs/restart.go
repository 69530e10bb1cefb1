package configs

import "slices"

// NeedsRestart says what a reload cannot take over: sockets we listen on and
// the store that limits live in. next is the file as it is now; an empty
// answer means that all else may be put to work.
func (c *Config) NeedsRestart(next *Config) []Problem {
	var problems []Problem
	changed := func(same bool, path string) {
		if !same {
			problems = append(problems, next.at(path, "`%s` has changed: this needs a restart", path))
		}
	}
	changed(slices.Equal(c.Listeners, next.Listeners), "listener")
	changed(c.Admin == next.Admin, "admin")
	changed(c.State == next.State, "state")
	changed(c.Quarantine == next.Quarantine, "quarantine")
	changed(c.Milter == next.Milter, "milter")
	return problems
}
