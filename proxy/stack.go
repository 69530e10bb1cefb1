package proxy

// stackRoom is what a session needs from MAIL to the end of its message.
const stackRoom = 8 << 10

// spread makes room on the stack of a session in one step, while the stack is
// shallow and cheap to move; growing by doubling at the deepest places costs a
// session some three moves.
//
//go:noinline
func spread(n int) byte {
	var room [stackRoom]byte
	return room[n&(stackRoom-1)]
}
