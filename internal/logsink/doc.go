// Package logsink is where the operator's log leaves the process: a zap logger
// whose lines go through a ring in memory to standard error.
//
// Mail comes first. A session that logs copies a line into the ring and goes
// on; one goroutine writes the ring out as fast as the reader takes it, which
// in health is at once. When the reader is stuck (a full pipe, a stopped
// journald) the ring fills, and further lines are dropped and counted; never
// does a session wait for its log. The count is a metric, and the first line
// after the trouble tells it.
//
// Two encodings: json, one object a line, and text, lines in the shape of
// Postfix's own, so that the tools that read mail.log read ours.
package logsink
