package postfix

import (
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
)

var taken struct {
	sync.Mutex
	marks []net.Listener
}

// FreeAddr is an address of 127.0.0.1 that nobody listens at. The port is below those that the system
// gives to connections and to listeners on port 0, so that nobody takes it in the moment before it is
// used; and it is marked as ours while this process lives, by an abstract socket of the same network, so
// that no other test is given it.
func FreeAddr(t testing.TB) string {
	t.Helper()
	var err error
	for range 1000 {
		port := 20000 + rand.IntN(12000)
		var mark, l net.Listener
		if mark, err = net.Listen("unix", fmt.Sprintf("@moongate-test-port-%d", port)); err != nil {
			continue
		}
		taken.Lock()
		taken.marks = append(taken.marks, mark) // never closed, nor collected
		taken.Unlock()
		if l, err = net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port)); err == nil {
			l.Close()
			return l.Addr().String()
		}
	}
	t.Fatal(err)
	return ""
}
