package socket

import (
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// most is how many octets one call hands to the kernel: while it copies them,
// the runtime cannot take the processor back.
const most = 64 << 10

// Recv reads what is there, at most len(p) octets, which must not be 0.
// Nothing there is EAGAIN; 0 octets without an error is the end of the stream.
func Recv(fd uintptr, p []byte) (int, syscall.Errno) {
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_RECVFROM, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)), unix.MSG_DONTWAIT, 0, 0)
		switch errno {
		case 0:
			acquired(fd)
			return int(n), 0
		case unix.EINTR:
			continue
		}
		return 0, errno
	}
}

// send writes what the socket has room for. No room is EAGAIN.
func send(fd uintptr, p []byte, flags uintptr) (int, syscall.Errno) {
	released()
	for {
		n, _, errno := syscall.RawSyscall6(unix.SYS_SENDTO, fd, uintptr(unsafe.Pointer(&p[0])), uintptr(min(len(p), most)),
			flags|unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, 0, 0)
		switch errno {
		case 0:
			return int(n), 0
		case unix.EINTR:
			continue
		}
		return 0, errno
	}
}

// poll tells which of these events have come, and hang-ups and errors.
func poll(fd uintptr, events int16) (int16, syscall.Errno) {
	p := unix.PollFd{Fd: int32(fd), Events: events}
	var now unix.Timespec // zero: it does not wait; the kernel writes to it
	for {
		_, _, errno := syscall.RawSyscall6(unix.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1, uintptr(unsafe.Pointer(&now)), 0, 0, 0)
		if errno != unix.EINTR {
			return p.Revents, errno
		}
	}
}

// unread is how many octets wait to be read.
func unread(fd uintptr) (n int32, errno syscall.Errno) {
	_, _, errno = syscall.RawSyscall(unix.SYS_IOCTL, fd, unix.TIOCINQ, uintptr(unsafe.Pointer(&n)))
	return n, errno
}

// quickAck makes the kernel acknowledge at once what has come. It does not last.
func quickAck(fd uintptr) {
	on := int32(1)
	syscall.RawSyscall6(unix.SYS_SETSOCKOPT, fd, unix.IPPROTO_TCP, unix.TCP_QUICKACK, uintptr(unsafe.Pointer(&on)), unsafe.Sizeof(on), 0)
}

// noDelay turns Nagle's algorithm off.
func noDelay(fd int) {
	on := int32(1)
	syscall.RawSyscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_NODELAY, uintptr(unsafe.Pointer(&on)), unsafe.Sizeof(on), 0)
}

func shutdown(fd uintptr, how uintptr) syscall.Errno {
	_, _, errno := syscall.RawSyscall(unix.SYS_SHUTDOWN, fd, how, 0)
	return errno
}
