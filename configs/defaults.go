package configs

import (
	"os"
	"time"
)

// Default is the configuration of an empty file: the one place where defaults
// are set. It names no listener, no upstream and no scripts, so it does not
// pass Validate.
func Default() *Config {
	return &Config{
		Hostname:    machineName(),
		Received:    "auto",
		BareNewline: "normalize",
		Upstream:    Upstream{Identity: "none", Mail: "mail", MaxConnections: 80},
		Policy:      Policy{ReplyFooter: "(id {id})", MaxStates: 1024, Instructions: 1_000_000, Memory: 16 << 20},
		Milter:      Milter{Mode: "0660", Connections: 5000},
		State:       State{Store: "memory"},
		Log:         Log{Format: "json", Level: "info"},
		Limits: Limits{
			Size:        50 << 20,
			Recipients:  1000,
			Header:      1 << 20,
			Line:        1 << 20,
			Errors:      20,
			Connections: 5000,
			PerNetwork:  50,
			Memory:      256 << 10,
			Spool:       1 << 30,
		},
		Timeouts: Timeouts{
			Idle:    300 * time.Second, // RFC 5321 4.5.3.2.7
			Data:    180 * time.Second, // RFC 5321 4.5.3.2.5
			Connect: 30 * time.Second,
			Command: 300 * time.Second, // RFC 5321 4.5.3.2.1-3
			Block:   180 * time.Second, // RFC 5321 4.5.3.2.5
			Final:   360 * time.Second, // RFC 5321 4.5.3.2.6 allows 600 s; our client waits 600 s too
			Hook:    2 * time.Second,
			Message: 75 * time.Second, // a scanner of 60 s fits
			Drain:   60 * time.Second,
		},
	}
}

// defaultListener is what a [[listener]] says before its own keys are read.
func defaultListener() Listener { return Listener{TLS: "none", Mode: "0660"} }

// defaultFilter is the same for a [[filter]]; the times are those of the stages,
// which end before Postfix's 30 s, 30 s and 5 min would.
func defaultFilter() Filter {
	return Filter{Phase: "verify", OnError: "tempfail", Mode: "enforce",
		Connect: 20 * time.Second, Command: 20 * time.Second, End: 120 * time.Second}
}

// machineName is the name to use where hostname is not set.
func machineName() string {
	if name, err := os.Hostname(); err == nil && name != "" {
		return name
	}
	return "localhost"
}
