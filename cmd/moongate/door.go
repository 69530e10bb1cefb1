package main

import (
	"context"
	"fmt"
	"net"
	"sync"
	"time"

	"go.uber.org/zap"
)

// door is one place where the house listens, and who answers there.
type door struct {
	place place
	serve func(net.Listener) error

	mu sync.Mutex // guards l
	l  net.Listener
}

func (d *door) listener() net.Listener {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.l
}

// lost says that nobody finds the door any more: somebody has removed the file of
// its socket.
func (d *door) lost() error {
	if l, ok := d.listener().(interface{ Lost() error }); ok {
		return l.Lost()
	}
	return nil
}

// reopen makes the file of a lost door anew, with its mode and group. It returns
// the listener that is to be answered from now on, and the one before. What stands
// in the place of the file is somebody's, and stays.
func (d *door) reopen() (l, old net.Listener, err error) {
	if l, err = d.place.ListenAnew(); err != nil {
		return nil, nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	old, d.l = d.l, l
	return l, old, nil
}

// answer serves one door until the house is closed, or has reopened it.
func (h *house) answer(d *door, l net.Listener) {
	err := d.serve(l)
	if h.phase.Load() == nil && d.listener() == l { // nobody closed it on purpose
		h.broken <- fmt.Errorf("%s.address: %w", d.place.table, err)
	}
}

// lost are the doors that nobody finds any more.
func (h *house) lost() (all []error) {
	for _, d := range h.doors {
		if err := d.lost(); err != nil {
			all = append(all, fmt.Errorf("%s.address: %w", d.place.table, err))
		}
	}
	return all
}

// reopen opens lost doors again, tells the log, and returns what there is to tell.
func (h *house) reopen() (told []string) {
	h.reopening.Lock()
	defer h.reopening.Unlock()
	for _, d := range h.doors {
		why := d.lost()
		if why == nil || h.phase.Load() != nil {
			continue
		}
		why = fmt.Errorf("%s.address: %w", d.place.table, why)
		l, old, err := d.reopen()
		if err != nil {
			why = fmt.Errorf("%w, and it cannot be opened again: %w", why, err)
			h.log.Error("a door is lost", zap.Error(why))
			told = append(told, why.Error())
			continue
		}
		h.work.Go(func() { h.answer(d, l) })
		h.work.Go(func() { h.letGo(old) })
		h.log.Warn("a door is open again", zap.Error(why))
		told = append(told, why.Error()+"; it is open again")
	}
	return told
}

// lastCalls is how long a lost socket is still answered: somebody may have connected
// just before its file went.
const lastCalls = time.Second

// letGo closes a socket that nobody can reach any more. Its sessions do not need it.
func (h *house) letGo(old net.Listener) {
	timer := time.NewTimer(lastCalls)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-h.ctx.Done():
	}
	old.Close()
}

// lookEvery is how often somebody looks whether the doors are still to be found.
const lookEvery = 30 * time.Second

// lookAfterDoors reopens them until ctx is done.
func (h *house) lookAfterDoors(ctx context.Context) {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			h.reopen()
		}
	}
}
