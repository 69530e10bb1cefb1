package milter

import (
	"net"
	"sync"
	"testing"

	"github.com/emersion/go-milter"

	"github.com/moongate/moongate/milter/wire"
)

// A fake is a filter whose answers are octets that the test chooses.
type fake struct {
	l       net.Listener
	answer  func(conn int, f wire.Frame) string // "" says nothing, hangUp closes
	parting string                              // said when QUIT comes, behind all answers
	wg      sync.WaitGroup
	mu      sync.Mutex // guards what follows
	conns   map[net.Conn]bool
	made    int
	heard   []string        // what each connection heard, a letter for a command
	ended   []chan struct{} // closed when it has
}

const (
	goOn    = "\x00\x00\x00\x01c"
	refuse  = "\x00\x00\x00\x01r"
	atWork  = "\x00\x00\x00\x01p"
	hangUp  = "hang up"
	silence = ""
)

// fakeFilter serves until the test ends. A nil answer is goOn to all.
func fakeFilter(t *testing.T, answer func(conn int, f wire.Frame) string) *fake {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fake{l: l, answer: answer, conns: map[net.Conn]bool{}}
	f.wg.Go(f.accept)
	t.Cleanup(f.stop)
	return f
}

func (f *fake) addr() string { return f.l.Addr().String() }

// stop ends the filter and all its connections.
func (f *fake) stop() {
	f.l.Close()
	f.hangUp()
	f.wg.Wait()
}

// hangUp closes the connections that there are, as one that is restarted does.
func (f *fake) hangUp() {
	f.mu.Lock()
	for c := range f.conns {
		c.Close()
	}
	ended := f.ended
	f.mu.Unlock()
	for _, e := range ended {
		<-e
	}
}

// say says something on each connection that there is.
func (f *fake) say(s string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for c := range f.conns {
		c.Write([]byte(s))
	}
}

func (f *fake) accept() {
	for {
		c, err := f.l.Accept()
		if err != nil {
			return
		}
		f.mu.Lock()
		n, ended := f.made, make(chan struct{})
		f.made++
		f.conns[c] = true
		f.heard, f.ended = append(f.heard, ""), append(f.ended, ended)
		f.mu.Unlock()
		f.wg.Go(func() { defer close(ended); f.serve(n, c) })
	}
}

func (f *fake) serve(n int, c net.Conn) {
	defer func() {
		f.mu.Lock()
		delete(f.conns, c)
		f.mu.Unlock()
		c.Close()
	}()
	r := wire.NewReader(c)
	for {
		frame, err := r.Next()
		if err != nil {
			return
		}
		switch code := milter.Code(frame.Code); code {
		case milter.CodeMacro:
			continue
		case milter.CodeOptNeg:
			o, _ := wire.Options{Version: 6, Actions: 0x7f, Protocol: milter.OptNoHeaderReply}.Frame()
			out, _ := o.Append(nil)
			c.Write(out)
			continue
		}
		f.mu.Lock()
		f.heard[n] += string(rune(frame.Code))
		f.mu.Unlock()
		switch milter.Code(frame.Code) {
		case milter.CodeQuit:
			c.Write([]byte(f.parting))
			return
		case milter.CodeAbort, milter.CodeHeader:
			continue
		}
		out := goOn
		if f.answer != nil {
			out = f.answer(n+1, frame)
		}
		if out == hangUp {
			return
		}
		c.Write([]byte(out))
	}
}

// what returns what each connection has heard.
func (f *fake) what() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.heard...)
}
