package milter

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"strconv"
	"strings"
	"syscall"
)

// A Socket says where a Server listens. The other doors of the house open
// theirs with it, too: what a socket file needs is the same for all.
type Socket struct {
	Address string      // "127.0.0.1:7357" or "unix:/run/moongate/milter.sock"
	Mode    fs.FileMode // of a unix socket; 0 means 0660
	Group   string      // name or number of its group; "" leaves it as it is
}

// Listen opens the socket. A socket file that a dead process left behind is
// replaced; one that somebody listens on, and a file that is no socket, stay.
func (s Socket) Listen() (net.Listener, error) {
	path, ok := strings.CutPrefix(s.Address, "unix:")
	if !ok {
		// Every wait for a peer has its deadline, so no probes: they cost four
		// system calls a connection.
		lc := net.ListenConfig{KeepAlive: -1}
		return lc.Listen(context.Background(), "tcp", s.Address)
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := s.permit(path); err != nil {
		l.Close()
		return nil, fmt.Errorf("listen unix %s: %w", path, err)
	}
	return l, nil
}

// removeStale removes a socket that nobody listens on: a process that was
// killed leaves one, and the name would be taken for ever.
func removeStale(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode()&fs.ModeSocket == 0 {
		return fmt.Errorf("listen unix %s: there is a file, and it is no socket", path)
	}
	c, err := net.Dial("unix", path)
	if err == nil {
		c.Close()
		return fmt.Errorf("listen unix %s: %w", path, syscall.EADDRINUSE)
	}
	if !errors.Is(err, syscall.ECONNREFUSED) { // a full backlog or a socket we may not ask is somebody's
		return fmt.Errorf("listen unix %s: %w", path, err)
	}
	return os.Remove(path)
}

// permit sets group and mode; the group first, or there would be a moment in
// which the wrong group may connect.
func (s Socket) permit(path string) error {
	if s.Group != "" {
		gid, err := strconv.Atoi(s.Group)
		if err != nil {
			g, err := user.LookupGroup(s.Group)
			if err != nil {
				return err
			}
			if gid, err = strconv.Atoi(g.Gid); err != nil {
				return err
			}
		}
		if err := os.Chown(path, -1, gid); err != nil {
			return err
		}
	}
	mode := s.Mode
	if mode == 0 {
		mode = 0o660
	}
	return os.Chmod(path, mode)
}
