package main

import (
	"fmt"
	"io/fs"
	"net"
	"strconv"

	"github.com/moongate/moongate/configs"
	"github.com/moongate/moongate/internal/socket"
)

// place is where a table of the configuration has a door.
type place struct {
	table string // "listener[0]", "milter", "admin"
	index int    // of a listener
	socket.Place
}

// Listen opens the place.
func (p place) Listen() (net.Listener, error) { return p.taken(p.Place.Listen()) }

// ListenAnew opens it again.
func (p place) ListenAnew() (net.Listener, error) { return p.taken(p.Place.ListenAnew()) }

// taken is the listener from which who answers there takes clients, so that its
// Close ends that: the milter has a way of its own.
func (p place) taken(l net.Listener, err error) (net.Listener, error) {
	if err == nil && p.table == "milter" {
		l = socket.Listen(l)
	}
	return l, err
}

// places are all of them, in the order in which they are opened.
func places(cfg *configs.Config) (all []place) {
	add := func(table string, index int, a configs.Address, mode, group string) {
		if a != "" {
			m, _ := strconv.ParseUint(mode, 8, 32) // configs has checked it
			all = append(all, place{table, index, socket.Place{Address: string(a), Mode: fs.FileMode(m), Group: group}})
		}
	}
	for i, l := range cfg.Listeners {
		add(fmt.Sprintf("listener[%d]", i), i, l.Address, l.Mode, l.Group)
	}
	add("milter", 0, cfg.Milter.Address, cfg.Milter.Mode, cfg.Milter.Group)
	add("admin", 0, cfg.Admin.Address, "", "")
	return all
}

// checkPlaces tells what this machine has not of what the doors need. A directory
// that is missing is a warning: who makes it may do so at the start, as systemd
// does with a RuntimeDirectory.
func checkPlaces(cfg *configs.Config) (problems, warnings []configs.Problem) {
	for _, p := range places(cfg) {
		if err := p.FitsPath(); err != nil {
			problems = append(problems, cfg.Problem(p.table+".address", "`%s.address`: %v", p.table, err))
		}
		if p.Group != "" {
			if _, err := p.FindGroup(); err != nil {
				problems = append(problems, cfg.Problem(p.table+".group", "`%s.group`: %v", p.table, err))
			}
		}
		if err := p.HasDirectory(); err != nil {
			warnings = append(warnings, cfg.Problem(p.table+".address", "warning: `%s.address`: %v, and serve makes none", p.table, err))
		}
	}
	return problems, warnings
}

// listen opens a socket that no table describes. A unix socket gets mode 0660:
// its group is who may connect.
func listen(a configs.Address) (net.Listener, error) {
	return socket.Place{Address: string(a)}.Listen()
}
