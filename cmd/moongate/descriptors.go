package main

import (
	"syscall"

	"github.com/moongate/moongate/configs"
	"go.uber.org/zap"
)

// otherFiles are descriptors for what is neither a session's nor an upstream:
// listeners, spooled messages, lookups, files that are read anew.
const otherFiles = 32

// connections is how many sessions the SMTP door takes: limits.connections, or
// as many as there are descriptors for. Else clients that only wait would take
// those that the others need to be served, and no mail would pass. Each session
// holds its client's and one for each filter, from its beginning to its end.
func connections(cfg *configs.Config, files int) int {
	room := max(files-cfg.Upstream.MaxConnections-otherFiles, files/2)
	return min(cfg.Limits.Connections, max(room/(1+len(cfg.Filters)), 1))
}

// openFiles is how many descriptors this process may have. Go has raised the
// soft limit to the hard one.
func openFiles() int {
	var l syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &l); err != nil || l.Cur > 1<<30 {
		return 1 << 30
	}
	return int(l.Cur)
}

// tellFiles warns of a limit that the system does not give.
func tellFiles(cfg *configs.Config, log *zap.Logger) {
	files := openFiles()
	if n := connections(cfg, files); len(cfg.Listeners) > 0 && n < cfg.Limits.Connections {
		log.Warn("limits.connections lowered", zap.Int("from", cfg.Limits.Connections), zap.Int("to", n), zap.Int("open_files", files))
	}
}
