package test

import (
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/moongate/moongate/test/moongate"
)

// patience bounds each wait of these tests. What has a limit of its own by the promise is measured.
const patience = time.Minute

func pipe(t testing.TB) (r, w *os.File) {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	return r, w
}

// serves waits until somebody listens, for a program whose log is not read.
func serves(t testing.TB, addr string) {
	t.Helper()
	if !wait(func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err == nil
	}) {
		t.Fatal("it does not serve")
	}
}

// serve runs `moongate serve` with its log in a file, which it closes here, until the test ends, for
// tests that do without the help of package moongate.
func serve(t testing.TB, dir string, log *os.File) {
	t.Helper()
	cmd := exec.Command(moongate.Binary(t, true), "serve", "-c", dir+"/moongate.toml")
	cmd.Stderr = log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	log.Close()
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		timer := time.AfterFunc(patience, func() { cmd.Process.Kill() })
		cmd.Wait()
		if !timer.Stop() {
			t.Error("it does not end")
		}
	})
}
