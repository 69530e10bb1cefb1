package configs

import "slices"

// NeedsRestart says what a reload cannot take over: sockets we listen on, and
// what all sessions share. next is the file as it is now; an empty
// answer means that all else may be put to work. docs/configuration.md lists
// the same keys under "Reload".
func (c *Config) NeedsRestart(next *Config) []Problem {
	var problems []Problem
	changed := func(same bool, path string) {
		if !same {
			problems = append(problems, next.at(path, "`%s` has changed: this needs a restart", path))
		}
	}
	if !slices.EqualFunc(c.Listeners, next.Listeners, sameListener) {
		problems = append(problems, next.at(firstChanged(c.Listeners, next.Listeners), "`listener` has changed: this needs a restart"))
	}
	changed(sameMilter(c.Milter, next.Milter), "milter")
	changed(c.Admin == next.Admin, "admin")
	changed(c.State == next.State, "state")
	changed(c.Log.Format == next.Log.Format, "log.format")
	changed(c.Limits.Memory == next.Limits.Memory, "limits.memory")
	changed(c.Limits.Spool == next.Limits.Spool, "limits.spool")
	// The door learns of new ones at each connection, the milter does not.
	changed(c.Milter.Address == "" || c.Limits.Header == next.Limits.Header, "limits.header")
	changed(c.Milter.Address == "" || c.Limits.Recipients == next.Limits.Recipients, "limits.recipients")
	return problems
}

// firstChanged is the place of the first listener that is not what it was.
func firstChanged(was, now []Listener) string {
	for i, l := range now {
		if i == len(was) || !sameListener(was[i], l) {
			return elementPath("listener", i)
		}
	}
	return elementPath("listener", max(len(now)-1, 0)) // those behind it are gone
}

// sameMilter leaves out what counts for the next connection.
func sameMilter(a, b Milter) bool {
	a.Connections = b.Connections
	return a == b
}

func sameListener(a, b Listener) bool {
	return a.Address == b.Address && a.TLS == b.TLS && a.Mode == b.Mode && a.Group == b.Group && a.Budget == b.Budget && slices.Equal(a.XForward, b.XForward)
}
