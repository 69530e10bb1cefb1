package bench

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moongate/moongate/test/postfix"
)

// mta starts a Postfix that takes mail for the filter behind it; milter is whom
// it asks, if anybody.
func mta(t *testing.T, filter, milter string) string {
	o := postfix.Options{ProxyFilter: filter, Main: map[string]string{
		"smtpd_client_connection_count_limit": "0", "message_size_limit": "102400000"}}
	if milter != "" {
		o.Milters = []string{milter}
	}
	return postfix.Start(t, o).Addr
}

type milter struct{ name, addr string }

// late is the seven rules as they stand on an MX: what they refuse before RCPT
// waits for RCPT, as Postfix's own restrictions do (smtpd_delay_reject).
var late = strings.NewReplacer("on.connect(", `on.connect({ at = "rcpt" }, `, "on.helo(", `on.helo({ at = "rcpt" }, `,
	"on.mail(", `on.mail({ at = "rcpt" }, `).Replace(stages + hold)

// milters starts those that a Postfix is to ask: moongate with a rule at each
// of seven stages, over both kinds of socket, and with rules that answer at
// RCPT; and filters with a callback at each stage that lets all pass, in Python
// (python3-milter), over both kinds too, and in C.
func milters(t *testing.T, binary string) []milter {
	tcp := free(t)
	serve(t, binary, tcp, stages+hold, fmt.Sprintf("[milter]\naddress = %q\n", tcp))
	asked := []milter{{"moongate", "inet:" + tcp}}

	dir, err := os.MkdirTemp("", "milter-") // not t.TempDir: that one is closed to the user postfix
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	os.Chmod(dir, 0o755)
	for _, way := range []struct{ name, policy string }{
		{"moongate over a unix socket", stages + hold},
		{"moongate over a unix socket, which answers at RCPT", late},
	} {
		address := fmt.Sprintf("unix:%s/%d", dir, len(asked))
		serve(t, binary, address, way.policy, fmt.Sprintf("[milter]\naddress = %q\ngroup = \"postfix\"\n", address))
		asked = append(asked, milter{way.name, address})
	}

	const python = "/usr/bin/python3"
	if exec.Command(python, "-c", "import Milter").Run() != nil {
		t.Log("no python3-milter here: left out")
	} else {
		asked = append(asked, milter{"python3-milter", libmilter(t, python, "-c", passing)})
		address := "unix:" + filepath.Join(dir, "python")
		run(t, address, python, "-c", passing, address)
		os.Chmod(filepath.Join(dir, "python"), 0o666)
		asked = append(asked, milter{"python3-milter over a unix socket", address})
	}
	empty := filepath.Join(t.TempDir(), "empty")
	if out, err := exec.Command("cc", "-O2", "-o", empty, "testdata/empty.c", "-lmilter", "-lpthread").CombinedOutput(); err != nil {
		t.Logf("no C compiler or no libmilter-dev here: left out: %v\n%.300s", err, out)
	} else {
		asked = append(asked, milter{"an empty filter in C", libmilter(t, empty)})
	}
	return asked
}

// libmilter starts a filter that takes its socket as its last argument.
func libmilter(t *testing.T, name string, args ...string) string {
	addr := free(t)
	_, port, _ := net.SplitHostPort(addr)
	run(t, addr, name, append(args, "inet:"+port+"@127.0.0.1")...)
	return "inet:" + addr
}

const passing = `
import Milter, sys
class Passing(Milter.Base):
    def go(self, *_):
        return Milter.CONTINUE
    connect = hello = envfrom = envrcpt = data = header = eoh = eom = go
Milter.factory = Passing
Milter.set_flags(0)
Milter.runmilter("passing", sys.argv[1], 30)
`
