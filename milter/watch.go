package milter

import (
	"sync"
	"time"

	"github.com/moongate/moongate/internal/socket"
	"github.com/moongate/moongate/milter/wire"
)

// look is how often a connection is looked at while a rule works on its
// question. A rule that is quicker than that costs one timer.
const look = 200 * time.Millisecond

// A watch looks after a connection while its goroutine is busy with the
// policy and does not read: an MTA that has gone cancels the session, and at
// the end of a message an MTA that waits is told that we are still at it.
type watch struct {
	c    *conn
	peer *socket.Peer

	mu       sync.Mutex // held while a packet is written, so that none is cut by an answer
	timer    *time.Timer
	ticks    bool // the timer runs; it outlasts a question, most of which are over at once
	on       bool
	progress bool
	last     time.Time // when the MTA heard of us
}

func (w *watch) start(progress bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.on, w.progress, w.last = true, progress, time.Now()
	if w.timer == nil {
		w.timer = time.AfterFunc(look, w.tick)
	} else if !w.ticks {
		w.timer.Reset(look)
	}
	w.ticks = true
}

// stop returns when no packet of the watch can be under way any more.
func (w *watch) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.on = false
}

// end is the stop behind the last question.
func (w *watch) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.on = false
	if w.timer != nil {
		w.timer.Stop()
	}
}

func (w *watch) tick() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ticks = false
	if !w.on {
		return
	}
	if gone(w.peer) {
		w.c.cancel()
		return
	}
	if w.progress && time.Since(w.last) >= w.c.srv.progress() {
		w.last = time.Now()
		frame, _ := wire.Frame{Code: byte(wire.ActProgress)}.Append(nil)
		w.c.nc.SetWriteDeadline(w.last.Add(w.c.srv.write()))
		if _, err := w.c.nc.Write(frame); err != nil {
			w.c.cancel()
			return
		}
	}
	w.ticks = true
	w.timer.Reset(look)
}

// tell writes the final answer. It fails if the MTA did not take it: one that
// has closed its connection answers with a reset, as fast as the network is.
// One that only writes no more (a test script does) takes it and is silent.
func (c *conn) tell() error {
	seen, err := c.peer.Look()
	if err != nil || seen&socket.Lost != 0 {
		return errGone
	}
	if err := c.flush(); err != nil || seen&socket.Ended == 0 {
		return err
	}
	for end := time.Now().Add(hearing); time.Now().Before(end); {
		if seen, err := c.peer.Look(); err != nil || seen&socket.Lost != 0 {
			return errGone
		}
		select {
		case <-c.ctx.Done():
			return errGone
		case <-time.After(hearing / 50): // nothing tells of a reset but a look or a read
		}
	}
	return nil
}

// hearing is how long the reset of an MTA that has gone may be under way.
const hearing = time.Second

// gone reports whether the MTA has closed or reset, while a rule works for it.
// An MTA does not close half of its connection and wait for minutes, so a
// half-close counts.
func gone(peer *socket.Peer) bool {
	seen, err := peer.Look()
	return err != nil || seen&(socket.Ended|socket.Lost) != 0
}
