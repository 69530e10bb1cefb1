package main

import (
	"fmt"
	"os"
	"slices"
	"syscall"

	"github.com/moongate/moongate/configs"
	"go.uber.org/zap"
)

// otherFiles are descriptors for what is neither a peer's nor an upstream's:
// listeners, spooled messages, lookups, files that are read anew.
const otherFiles = 32

// crowd is how many peers the doors take at once: what the configuration says, or
// as many as there are descriptors for. Else peers of one door that only wait
// would take those that the other one needs to serve.
type crowd struct {
	clients int // of each SMTP door
	turned  int // clients of each that are told at the same time that there is no room
	mtas    int // connections at [milter]
}

// crowdOf divides the descriptors that the upstream leaves: each door may have an
// equal share, and what one does not want is the others'.
func crowdOf(cfg *configs.Config, files int) crowd {
	fronts := frontsOf(cfg)
	room := max(files-fronts*cfg.Upstream.MaxConnections-otherFiles, files/2)
	// Each session holds its client's and one for each filter, from its beginning
	// to its end.
	session := 1 + len(cfg.Filters)
	share := cfg.Limits.Connections*session + turned(cfg.Limits.Connections)

	mtas, doors := 0, fronts
	if cfg.Milter.Address != "" {
		mtas, doors = cfg.Milter.Connections, fronts+1
	}
	if each := room / max(doors, 1); mtas > each {
		mtas = min(mtas, room-fronts*min(share, each))
	}
	if fronts > 0 {
		share = min(share, (room-mtas)/fronts)
	}
	clients := min(cfg.Limits.Connections, share/session)
	for clients > 1 && clients*session+turned(clients) > share {
		clients--
	}
	clients = max(clients, 1)
	return crowd{clients, turned(clients), max(mtas, 1)}
}

// turned is how many clients may hear at the same time that there is no room,
// where there is room for so many.
func turned(clients int) int { return min(max(clients/16, 1), 200) }

// frontsOf counts the SMTP doors that clients can reach, each with its own
// upstream connections (front.go).
func frontsOf(cfg *configs.Config) (n int) {
	if slices.ContainsFunc(cfg.Listeners, func(l configs.Listener) bool { return !special(l) }) {
		n++
	}
	for _, l := range cfg.Listeners {
		if special(l) {
			n++
		}
	}
	return n
}

// lowering is a limit that the system does not give.
type lowering struct {
	key      string
	from, to int
}

func lowered(cfg *configs.Config, files int) (all []lowering) {
	c := crowdOf(cfg, files)
	if from := cfg.Limits.Connections; len(cfg.Listeners) > 0 && c.clients < from {
		all = append(all, lowering{"limits.connections", from, c.clients})
	}
	if from := cfg.Milter.Connections; cfg.Milter.Address != "" && c.mtas < from {
		all = append(all, lowering{"milter.connections", from, c.mtas})
	}
	return all
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

// tellFiles warns of limits that the system does not give, in the log and to who
// asked.
func (h *house) tellFiles() (lines []string) {
	files := openFiles()
	for _, l := range lowered(h.cfg.Load(), files) {
		h.log.Warn(l.key+" lowered", zap.Int("from", l.from), zap.Int("to", l.to), zap.Int("open_files", files))
		lines = append(lines, fmt.Sprintf("warning: `%s` is %d, lowered to %d: a process may have %d open files here", l.key, l.from, l.to, files))
	}
	return lines
}

// tellSpool warns of a place for temporary files that takes none: small messages
// pass, and of the others nobody would know why they do not.
func (h *house) tellSpool() {
	f, err := os.CreateTemp("", "moongate-")
	if err != nil {
		h.log.Error("no temporary files: messages beyond limits.memory will hear 452", zap.Error(err))
		return
	}
	f.Close()
	os.Remove(f.Name())
}

// checkFiles is the same for check, which may run where there are more files than
// for the service, or fewer.
func checkFiles(cfg *configs.Config) (warnings []configs.Problem) {
	files := openFiles()
	for _, l := range lowered(cfg, files) {
		warnings = append(warnings, cfg.Problem(l.key, "warning: `%s` is %d, and becomes %d where a process may have %d open files, as here (ulimit -n)", l.key, l.from, l.to, files))
	}
	return warnings
}
