package socket

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// A Place is where a door of the house listens. What a socket file needs is the
// same for all of them.
type Place struct {
	Address string      // "127.0.0.1:7357" or "unix:/run/moongate/milter.sock"
	Mode    fs.FileMode // of a unix socket; 0 means 0660
	Group   string      // name or number of its group; "" leaves it as it is
}

// Listen opens the socket. A socket file that a dead process left behind is
// replaced; one that somebody listens on, and a file that is no socket, stay.
// Close removes the file, unless another one has come in its place.
func (p Place) Listen() (net.Listener, error) {
	path, ok := p.unix()
	if !ok {
		// Every wait for a peer has its deadline, so no probes: they cost four
		// system calls a connection.
		lc := net.ListenConfig{KeepAlive: -1}
		return lc.Listen(context.Background(), "tcp", p.Address)
	}
	if err := p.FitsPath(); err != nil {
		return nil, fmt.Errorf("listen unix %s: %w", path, err)
	}
	if err := removeStale(path); err != nil {
		return nil, err
	}
	return p.make(path)
}

// ListenAnew opens a unix socket again whose file is gone. Whatever is at its path
// stays: the system binds to no name that there is.
func (p Place) ListenAnew() (net.Listener, error) {
	path, ok := p.unix()
	if !ok {
		return nil, fmt.Errorf("listen %s: %w", p.Address, errors.ErrUnsupported)
	}
	return p.make(path)
}

// make makes the file and listens.
func (p Place) make(path string) (net.Listener, error) {
	inner, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, err
	}
	inner.SetUnlinkOnClose(false)
	l := &unixListener{UnixListener: inner}
	if l.made, err = os.Lstat(path); err == nil {
		err = p.permit(path)
	}
	if err != nil {
		l.Close()
		return nil, fmt.Errorf("listen unix %s: %w", path, err)
	}
	return l, nil
}

func (p Place) unix() (path string, ok bool) { return strings.CutPrefix(p.Address, "unix:") }

// A unixListener knows the file that it made.
type unixListener struct {
	*net.UnixListener
	made fs.FileInfo
	once sync.Once
}

// Lost says that the file is gone, or another one in its place: who is connected
// stays so, but nobody can connect any more.
func (l *unixListener) Lost() error {
	path := l.Addr().String()
	// As long as the socket is open no other file can have its number.
	switch now, err := os.Lstat(path); {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("somebody has removed %s", path)
	case err == nil && !os.SameFile(now, l.made):
		return fmt.Errorf("somebody has put something else in the place of %s", path)
	}
	return nil
}

// Close implements net.Listener.
func (l *unixListener) Close() error {
	l.once.Do(func() {
		if l.made != nil && l.Lost() == nil {
			os.Remove(l.Addr().String())
		}
	})
	return l.UnixListener.Close()
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
func (p Place) permit(path string) error {
	if p.Group != "" {
		gid, err := p.FindGroup()
		if err != nil {
			return err
		}
		if err := os.Chown(path, -1, gid); err != nil {
			return fmt.Errorf("give it to group %s, which whoever runs this must belong to: %w", p.Group, err)
		}
	}
	mode := p.Mode
	if mode == 0 {
		mode = 0o660
	}
	return os.Chmod(path, mode)
}

// FindGroup looks the group up; it must not be "".
func (p Place) FindGroup() (gid int, err error) {
	if gid, err := strconv.ParseUint(p.Group, 10, 31); err == nil {
		return int(gid), nil
	}
	g, err := user.LookupGroup(p.Group)
	if err != nil {
		return 0, fmt.Errorf("there is no group %s on this machine", p.Group)
	}
	return strconv.Atoi(g.Gid)
}

// longestPath is what a socket address has room for (unix(7)), less the NUL.
const longestPath = len(syscall.RawSockaddrUnix{}.Path) - 1

// FitsPath says why the path cannot be that of a unix socket: the system only
// says "invalid argument".
func (p Place) FitsPath() error {
	if path, ok := p.unix(); ok && len(path) > longestPath {
		return fmt.Errorf("the path has %d octets, and a unix socket's may have %d", len(path), longestPath)
	}
	return nil
}

// HasDirectory says why there is no directory for a unix socket.
func (p Place) HasDirectory() error {
	path, ok := p.unix()
	if !ok {
		return nil
	}
	dir := filepath.Dir(path)
	info, err := os.Stat(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("there is no directory %s", dir)
	case err == nil && !info.IsDir():
		return fmt.Errorf("%s is no directory", dir)
	}
	return nil // what else there may be is not ours to see, perhaps
}
