// Package netns gives a test a network of its own, in which loopback carries further addresses: so a
// client can come from 192.0.2.1 without a packet leaving the machine.
//
//	func TestStranger(t *testing.T) {
//		if netns.Outside(t, "192.0.2.1/32", "2001:db8::1/128") {
//			return // it ran, in the network; its result is this test's
//		}
//		... here 192.0.2.1 is an address of ours, and nothing else is reachable ...
//	}
//
// A network namespace belongs to a thread, and Go moves goroutines between threads; so the test binary
// runs again as a child that is in the namespace as a whole.
package netns

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// inside is the environment variable that tells the child which test it is there for.
const inside = "MOONGATE_TEST_NETNS"

// Outside runs the calling test again in a new network namespace whose loopback has the given addresses
// in CIDR form, and returns true when that is done: the test has failed or was skipped as the child
// says. In the child it returns false at once. It skips the test where the system does not allow a
// namespace.
func Outside(t *testing.T, addrs ...string) bool {
	t.Helper()
	if os.Getenv(inside) == t.Name() {
		return false
	}
	if why := missing(); why != "" {
		t.Skip(why)
	}
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"-c", setup(addrs) + ` && exec "$0" "$@"`, exe,
		"-test.run", pattern(t.Name()), "-test.v", "-test.count", "1"}
	ctx := context.Background()
	if deadline, ok := t.Deadline(); ok {
		// Before the parent's own time is up, so that the child's stacks are still printed.
		left := time.Until(deadline) * 9 / 10
		args = append(args, "-test.timeout", left.String())
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, left+10*time.Second)
		defer cancel()
	}
	cmd := exec.CommandContext(ctx, "/bin/sh", args...)
	cmd.Env = append(os.Environ(), inside+"="+t.Name())
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = 10 * time.Second
	out, err := cmd.CombinedOutput()
	switch result, reason := verdict(t.Name(), out); {
	case err == nil && result == "PASS":
	case err == nil && result == "SKIP":
		t.Skip(reason)
	default:
		t.Errorf("in the network namespace: %v\n%s", err, out)
	}
	return true
}

// missing says why there can be no namespace here, "" if there can.
func missing() string {
	if _, err := exec.LookPath("ip"); err != nil {
		return "no network namespace: Debian's package iproute2 is not installed"
	}
	cmd := exec.Command("/bin/sh", "-c", setup(nil))
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Sprintf("no network namespace: %v %s", err, bytes.TrimSpace(out))
	}
	return ""
}

// setup is the shell command that makes the network.
func setup(addrs []string) string {
	cmds := []string{"ip link set lo up"}
	for _, a := range addrs {
		cmds = append(cmds, "ip addr add '"+a+"' dev lo nodad 2>/dev/null || ip addr add '"+a+"' dev lo")
	}
	return "{ " + strings.Join(cmds, "; } && { ") + "; }"
}

// pattern makes -test.run match this test alone, level by level.
func pattern(name string) string {
	levels := strings.Split(name, "/")
	for i, l := range levels {
		levels[i] = "^" + regexp.QuoteMeta(l) + "$"
	}
	return strings.Join(levels, "/")
}

// verdict reads the child's -test.v output: the result of the named test, and why it was skipped. A
// child that did not come to the test's end has no result.
func verdict(name string, out []byte) (result, reason string) {
	m := regexp.MustCompile(`(?m)^ *--- (PASS|FAIL|SKIP): ` + regexp.QuoteMeta(name) + ` \(`).FindSubmatch(out)
	if m == nil {
		return "", ""
	}
	for _, l := range strings.Split(string(out), "\n") {
		if _, text, ok := strings.Cut(l, ".go:"); ok {
			_, reason, _ = strings.Cut(text, ": ")
			break
		}
	}
	return string(m[1]), reason
}
