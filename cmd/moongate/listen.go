package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"strconv"
	"syscall"

	"github.com/moongate/moongate/configs"
	"github.com/moongate/moongate/milter"
)

// listen opens a listening socket. A unix socket gets mode 0660: its group is
// who may connect.
func listen(a configs.Address) (net.Listener, error) {
	network, addr := a.Split()
	if network != "unix" {
		return net.Listen(network, addr)
	}
	if err := removeStale(addr); err != nil {
		return nil, err
	}
	l, err := net.Listen("unix", addr)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(addr, 0o660); err != nil {
		l.Close()
		return nil, err
	}
	return l, nil
}

// removeStale removes a socket that nobody listens on: a process that was
// killed leaves one, and the name would be taken for ever. Anything else that
// stands there stays.
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
	return os.Remove(path)
}

// milterSocket listens for MTAs, with the mode and group that [milter] says.
func milterSocket(cfg *configs.Config) func(configs.Address) (net.Listener, error) {
	mode, _ := strconv.ParseUint(cfg.Milter.Mode, 8, 32) // configs has checked it
	return func(a configs.Address) (net.Listener, error) {
		return milter.Socket{Address: string(a), Mode: fs.FileMode(mode), Group: cfg.Milter.Group}.Listen()
	}
}
