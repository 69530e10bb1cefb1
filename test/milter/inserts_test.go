package milter_test

import (
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/moongate/moongate/milter/wire"
	"github.com/moongate/moongate/test/client"
	"github.com/moongate/moongate/test/moongate"
	"github.com/moongate/moongate/test/postfix"
)

// Packets of the milter protocol, by their octets.
const (
	cmdAbort        = 'A'
	cmdQuit         = 'Q'
	actContinue     = 'c'
	actAddHeader    = 'h'
	actInsertHeader = 'i'
	actChangeHeader = 'm'
)

// changer is a filter of raw packets: it makes these changes to the message of
// that subject, and lets all pass.
func changer(t *testing.T, changes map[string][]wire.Modification) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	serve := func(c net.Conn) {
		defer c.Close()
		r := wire.NewReader(c)
		subject := ""
		for {
			f, err := r.Next()
			if err != nil {
				return
			}
			cmd, err := wire.Decode(f)
			if err != nil {
				return
			}
			var answer []wire.Frame
			add := func(f wire.Frame, err error) {
				if err != nil {
					t.Error(err)
				}
				answer = append(answer, f)
			}
			switch cmd := cmd.(type) {
			case wire.Options:
				add(wire.Options{Version: 6, Actions: 0x3f}.Frame())
			case wire.Macros:
			case wire.Header:
				if cmd.Name == "Subject" {
					subject = strings.TrimSpace(cmd.Value)
				}
				add(wire.Act(actContinue), nil)
			case wire.End:
				for _, m := range changes[subject] {
					add(m.Frame())
				}
				add(wire.Act(actContinue), nil)
			case wire.Signal:
				if cmd.Code == cmdQuit {
					return
				}
				if cmd.Code != cmdAbort {
					add(wire.Act(actContinue), nil)
				}
			default:
				add(wire.Act(actContinue), nil)
			}
			var out []byte
			for _, f := range answer {
				out, _ = f.Append(out)
			}
			c.Write(out)
		}
	}
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { serve(c) })
		}
	})
	t.Cleanup(func() { l.Close(); wg.Wait() }) // behind those whose filter it is
	return l.Addr().String()
}

// Wherever a filter inserts: at the door the fields come in the order in which
// they come from a Postfix that asks the same filter. Its own Received, which is
// counted, is not compared: at the door the upstream adds one on top of all.
func TestFilterInsertsAsWithPostfix(t *testing.T) {
	insert := func(at int, name string) wire.Modification {
		return wire.Modification{Code: actInsertHeader, Index: uint32(at), Name: name, Value: "v"}
	}
	changes := map[string][]wire.Modification{
		"in turn":      {insert(0, "I0"), insert(1, "I1"), insert(2, "I2")},
		"ARC":          {insert(0, "ARC-Seal"), insert(0, "ARC-Message-Signature"), insert(0, "ARC-Authentication-Results")},
		"below":        {insert(1, "I1"), insert(1, "I1b"), insert(0, "I0"), insert(2, "I2")},
		"top and deep": {insert(2, "I2"), insert(0, "I0"), insert(3, "I3")},
	}
	rnd := rand.New(rand.NewPCG(1, 1))
	for n := range 60 {
		var mods []wire.Modification
		for i := range 1 + rnd.IntN(6) {
			name := fmt.Sprintf("I%d", i)
			switch rnd.IntN(6) {
			case 0:
				mods = append(mods, wire.Modification{Code: actAddHeader, Name: name, Value: "v"})
			case 1:
				mods = append(mods, wire.Modification{Code: actChangeHeader, Index: 1, Name: []string{"X-A", "To"}[rnd.IntN(2)]})
			default:
				mods = append(mods, insert(rnd.IntN(5), name))
			}
		}
		changes[fmt.Sprintf("generated %d", n)] = mods
	}
	addr := changer(t, changes)
	front := postfix.Start(t, postfix.Options{Milters: []string{"inet:" + addr}})
	behind := postfix.Start(t, postfix.Options{})
	gate := moongate.Start(t, moongate.Options{Upstream: behind.Addr, Config: moongate.Default + "\n[[filter]]\naddress = \"" + addr + "\"\n"})
	through := func(addr string, mta *postfix.Postfix) map[string]string {
		c := client.Dial(t, addr, "").Greet("one.example")
		for subject := range changes {
			c.Must("250", "MAIL FROM:<a@example.net>")
			c.Must("250", "RCPT TO:<b@example.org>")
			if r := data(c, strings.Replace(mail, "Subject:  two blanks\r\n\tand a fold", "Subject: "+subject, 1)); !strings.HasPrefix(r, "250") {
				t.Errorf("%s: %q", subject, r)
			}
		}
		c.Must("221", "QUIT")
		fields := map[string]string{}
		for _, m := range mta.Messages(len(changes)) {
			header, _, _ := strings.Cut(string(m.Body()), "\r\n\r\n")
			var names []string
			subject := ""
			for line := range strings.SplitSeq(header, "\r\n") {
				name, value, _ := strings.Cut(line, ":")
				if name == "Subject" {
					subject = strings.TrimSpace(value)
				}
				names = append(names, name)
			}
			fields[subject] = strings.Join(slices.DeleteFunc(names, func(n string) bool { return n == "Received" || n[0] == '\t' || n[0] == ' ' }), " ")
		}
		return fields
	}
	want, got := through(front.Addr, front), through(gate.Addr, behind)
	for subject, mods := range changes {
		if want[subject] != got[subject] {
			t.Errorf("%s: %v\nPostfix %s\ndoor    %s", subject, mods, want[subject], got[subject])
		}
	}
}
