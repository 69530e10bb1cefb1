// Package socket is how both faces touch the sockets of their peers: it
// accepts, reads and writes them without telling the scheduler, and looks at
// them without reading.
//
// The runtime brackets each of net's system calls, because a call may block.
// Those on a non-blocking socket never do; but the first one after the process
// was idle wakes the runtime's monitor thread, which then looks for blocked
// calls every 20 µs. A proxy is idle between any two packets, so that thread
// took a quarter of the processor time of a busy milter. Waiting is left to the
// runtime's poller, as ever: deadlines, Close and all errors are those of net.
//
// The same is true of accepting and closing, which a milter does for each
// client of its MTA: Listen accepts, and Part collects descriptors to be closed
// together. The SMTP door, which is hardly ever idle under load, leaves both to
// net.
//
// Place opens the sockets that the doors listen on, with the mode and the group
// of a unix socket's file.
//
// No other room makes system calls of its own on a connection (seam: below proxy
// and milter, imports none of ours). Linux only, as the options it needs are.
package socket
