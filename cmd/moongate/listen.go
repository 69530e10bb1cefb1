package main

import (
	"io/fs"
	"net"
	"strconv"

	"github.com/moongate/moongate/configs"
	"github.com/moongate/moongate/milter"
)

// listen opens a listening socket. A unix socket gets mode 0660: its group is
// who may connect.
func listen(a configs.Address) (net.Listener, error) {
	return milter.Socket{Address: string(a)}.Listen()
}

// milterSocket listens for MTAs, with the mode and group that [milter] says.
func milterSocket(cfg *configs.Config) func(configs.Address) (net.Listener, error) {
	mode, _ := strconv.ParseUint(cfg.Milter.Mode, 8, 32) // configs has checked it
	return func(a configs.Address) (net.Listener, error) {
		return milter.Socket{Address: string(a), Mode: fs.FileMode(mode), Group: cfg.Milter.Group}.Listen()
	}
}
