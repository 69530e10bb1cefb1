package proxy

import (
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zaptest/observer"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/message"
)

const envelope = "HELO c\r\nMAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n"
const letter = "From: a@example.net\r\nSubject: s\r\n\r\n.dot\r\nlast line\r\n"

// wire is a letter as it travels.
func wire(letter string) string {
	s := strings.ReplaceAll(letter, "\r\n.", "\r\n..")
	if strings.HasPrefix(s, ".") {
		s = "." + s
	}
	return s + ".\r\n"
}

// ways are the ways that a body can go.
var ways = map[string][]*policy.Rule{
	"free":   nil,
	"stream": {opinion(policy.Headers)},
	"hold":   {opinion(policy.Message)},
}

// finalCode is the code that answered the dot: the line behind the 354, 0 if
// there is none.
func finalCode(answers string) string {
	_, rest, ok := strings.Cut(answers, "354 ")
	if !ok {
		return ""
	}
	_, rest, _ = strings.Cut(rest, "\r\n")
	code, _, _ := strings.Cut(rest, " ")
	return code
}

// TestUpstreamDiesAfterEveryByte: 250 only if the upstream said 250 to the
// whole message; nothing half is ever delivered.
func TestUpstreamDiesAfterEveryByte(t *testing.T) {
	for name, rules := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			whole := len("EHLO gate.example\r\nMAIL FROM:<a@example.net>\r\nRCPT TO:<b@example.org>\r\nDATA\r\n" + wire(letter))
			for cut := 0; cut <= whole; cut++ {
				dieAfter(t, cut, cut == whole, rules)
			}
		})
	}
}

func dieAfter(t *testing.T, cut int, whole bool, rules []*policy.Rule) {
	u := newRecordingUpstream(t, cut)
	srv := door(t, u, rules...)
	c, done := begin(t, srv)
	go io.WriteString(c, envelope+wire(letter)+"QUIT\r\n")
	c.SetReadDeadline(time.Now().Add(patience))
	answers, err := io.ReadAll(c)
	if err != nil {
		t.Fatalf("cut %d: %v: %q", cut, err, answers)
	}
	c.Close()
	within(t, done, "session")
	messages, _, said, stray := u.got()
	code := finalCode(string(answers))
	switch {
	case whole && code != "250":
		t.Errorf("nothing was cut, and the client heard %q", answers)
	case code == "250" && (said != 1 || len(messages) != 1):
		t.Errorf("cut %d: the client heard 250, the upstream said it %d times", cut, said)
	case code != "250" && code != "" && code[0] != '4':
		t.Errorf("cut %d: the client heard %s", cut, code)
	case code != "250" && !whole && said > 0:
		t.Errorf("cut %d: delivered, and the client heard %q: %q", cut, code, answers)
	case stray:
		t.Errorf("cut %d: a stray CR or LF", cut)
	}
	for _, m := range messages {
		if m != letter {
			t.Errorf("cut %d: the upstream has %q", cut, m)
		}
	}
	srv.Close()
	srv.Hop.Close()
	u.close()
}

// TestManyFields: a header of more fields than may be is refused like one that
// is too large, before its end is here, and costs no memory for them.
func TestManyFields(t *testing.T) {
	for name, rules := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := newRecordingUpstream(t, -1)
			srv := door(t, u, rules...)
			for header, want := range map[string]string{
				strings.Repeat("a:\r\n", message.MaxFields):                    "250",
				strings.Repeat("a:\r\n b\r\n", message.MaxFields):              "250",
				strings.Repeat("a:\r\n", message.MaxFields+1):                  "552",
				strings.Repeat("From a b\r\n", message.MaxFields/2) + "a:\r\n": "250",
				strings.Repeat("From a b\r\n", message.MaxFields) + "a:\r\n":   "552",
				strings.Repeat("a:\r\n", 250_000):                              "552",
			} {
				c, done := begin(t, srv)
				go io.WriteString(c, envelope+header+"\r\nx\r\n.\r\nQUIT\r\n")
				c.SetReadDeadline(time.Now().Add(patience))
				answers, err := io.ReadAll(c)
				if err != nil || finalCode(string(answers)) != want {
					t.Errorf("%.12q in %d octets: %v: %q", header, len(header), err, answers)
				}
				if want == "552" && !strings.Contains(string(answers), replyBigHeader.String()) {
					t.Errorf("%q", answers)
				}
				c.Close()
				within(t, done, "session")
			}
			messages, _, _, _ := u.got()
			if len(messages) != 3 {
				t.Errorf("%d messages are delivered", len(messages))
			}
		})
	}
}

// TestClientLeavesAfterEveryByte: what is not whole is not delivered; what is
// whole, by a client that only closed its side, is delivered once.
func TestClientLeavesAfterEveryByte(t *testing.T) {
	for name, rules := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := newRecordingUpstream(t, -1)
			srv := door(t, u, rules...)
			all := envelope + wire(letter) + "QUIT\r\n"
			whole := len(envelope + wire(letter))
			for n := 0; n <= len(all); n++ {
				for _, kind := range []string{"half", "full", "reset"} {
					before, _, _, _ := u.got()
					c, done := begin(t, srv)
					io.WriteString(c, all[:n])
					switch kind {
					case "half":
						c.(*net.TCPConn).CloseWrite()
						c.SetReadDeadline(time.Now().Add(patience))
						if _, err := io.Copy(io.Discard, c); err != nil {
							t.Fatalf("after %d octets: %v", n, err)
						}
					case "reset":
						c.(*net.TCPConn).SetLinger(0)
					}
					c.Close()
					within(t, done, "session")
					after, _, _, stray := u.got()
					news := len(after) - len(before)
					switch {
					case news > 1, news == 1 && n < whole, stray:
						t.Fatalf("%s after %d of %d octets: %d messages", kind, n, whole, news)
					case kind == "half" && n >= whole && news != 1:
						t.Fatalf("half-closed after %d of %d octets: not delivered", n, whole)
					case news == 1 && after[len(after)-1] != letter:
						t.Fatalf("after %d octets: %q", n, after[len(after)-1])
					}
				}
			}
		})
	}
}

// TestSmuggling: none of the forms that some server takes for the end of a
// message is one here; the upstream gets one message, whatever way the octets
// are split, and no stray CR or LF.
func TestSmuggling(t *testing.T) {
	forms := []string{
		"\n.\n", "\n.\r\n", "\r\n.\n", "\r.\r", "\r.\r\n", "\r\n.\r\r\n", "\n\n.\r\n", "\r\n.\r", "\n.\r",
		"\r\r\n.\r\n", // an end, but a doubtful one
	}
	for name, rules := range ways {
		for _, form := range forms {
			t.Run(fmt.Sprintf("%s/%q", name, form), func(t *testing.T) {
				t.Parallel()
				smuggle(t, form, rules)
			})
		}
	}
}

func smuggle(t *testing.T, form string, rules []*policy.Rule) {
	u := newRecordingUpstream(t, -1)
	srv := door(t, u, rules...)
	evil := "MAIL FROM:<evil@example.net>\r\nRCPT TO:<b@example.org>\r\nDATA\r\nSubject: forged\r\n\r\n.\r\n"
	start := envelope + "Subject: s\r\n\r\nbody"
	all := start + form + evil + "QUIT\r\n"
	for cut := len(start) - 2; cut <= len(start)+len(form)+2; cut++ {
		before, _, _, _ := u.got()
		ours, theirs := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			srv.ServeConn(ours, local())
		}()
		answers := make(chan string, 1)
		go func() {
			b, _ := io.ReadAll(theirs)
			answers <- string(b)
		}()
		theirs.SetDeadline(time.Now().Add(patience))
		io.WriteString(theirs, all[:cut])
		io.WriteString(theirs, all[cut:]) // fails where the session ends before
		within(t, done, "session")
		theirs.Close()
		heard := <-answers
		after, commands, _, stray := u.got()
		if n := len(after) - len(before); n != 1 {
			t.Fatalf("cut %d: %d messages; the client heard %q", cut, n, heard)
		}
		if stray {
			t.Fatalf("cut %d: a stray CR or LF went upstream", cut)
		}
		if strings.Contains(strings.Join(commands, "\n"), "evil") {
			t.Fatalf("cut %d: smuggled", cut)
		}
		if n := strings.Count(heard, "queued as"); n != 1 {
			t.Fatalf("cut %d: the client heard %q", cut, heard)
		}
	}
}

// randomLetter makes a message of random octets; its lines end in CRLF, as they
// must, and hold no other CR or LF.
func randomLetter(r *rand.Rand) string {
	var b strings.Builder
	for range r.IntN(6) {
		fmt.Fprintf(&b, "X-%d:%s\r\n", r.IntN(100), randomOctets(r, r.IntN(90)))
		if r.IntN(3) == 0 {
			fmt.Fprintf(&b, " fold%s\r\n", randomOctets(r, r.IntN(20)))
		}
	}
	if r.IntN(4) > 0 {
		b.WriteString("\r\n")
	}
	for range r.IntN(60) {
		if r.IntN(4) == 0 {
			b.WriteString(strings.Repeat(".", 1+r.IntN(3)))
		}
		n := r.IntN(100)
		if r.IntN(20) == 0 {
			n = r.IntN(60000)
		}
		b.WriteString(randomOctets(r, n) + "\r\n")
	}
	return b.String()
}

func randomOctets(r *rand.Rand, n int) string {
	b := make([]byte, n)
	for i := range b {
		for b[i] = byte(r.Uint32()); b[i] == '\r' || b[i] == '\n'; {
			b[i] = byte(r.Uint32())
		}
	}
	return string(b)
}

// TestMessagesPassUnchanged: forty random messages, every way, arrive octet for
// octet.
func TestMessagesPassUnchanged(t *testing.T) {
	for name, rules := range ways {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			u := newRecordingUpstream(t, -1)
			srv := door(t, u, rules...)
			r := rand.New(rand.NewPCG(1, 2))
			for i := range 40 {
				letter := randomLetter(r)
				c, done := begin(t, srv)
				go io.WriteString(c, envelope+wire(letter)+"QUIT\r\n")
				c.SetReadDeadline(time.Now().Add(patience))
				answers, err := io.ReadAll(c)
				c.Close()
				within(t, done, "session")
				messages, _, _, stray := u.got()
				if err != nil || len(messages) != i+1 || messages[i] != letter || stray {
					t.Fatalf("message %d of %d octets: %v: %q", i, len(letter), err, answers)
				}
			}
		})
	}
}

// TestTenMegabytes: a big message passes unchanged, and costs no memory that
// grows with it.
func TestTenMegabytes(t *testing.T) {
	letter := "Subject: big\r\n\r\n" + strings.Repeat(strings.Repeat("0123456789abcdef", 4)+"\r\n.\r\n", 10<<20/69)
	octets := []byte(wire(letter))
	for name, rules := range ways {
		t.Run(name, func(t *testing.T) {
			u := newRecordingUpstream(t, -1)
			srv := door(t, u, rules...)
			u.discard = true
			c, done := begin(t, srv)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			go func() {
				io.WriteString(c, envelope)
				c.Write(octets)
				io.WriteString(c, "QUIT\r\n")
			}()
			c.SetReadDeadline(time.Now().Add(2 * patience))
			answers, err := io.ReadAll(c)
			c.Close()
			within(t, done, "session")
			runtime.ReadMemStats(&after)
			if err != nil || finalCode(string(answers)) != "250" {
				t.Fatalf("%v: %q", err, answers)
			}
			if messages, _, _, _ := u.got(); len(messages) != 1 || messages[0] != fmt.Sprintf("%x", sha256.Sum256([]byte(letter))) {
				t.Fatal("the upstream has another message")
			}
			used := after.TotalAlloc - before.TotalAlloc
			t.Logf("%d octets were allocated on the way", used)
			if used > 5<<20 { // the race detector makes pools forget
				t.Error("too many")
			}
		})
	}
}

// What soft_bounce softens is logged as it was meant.
func TestSoftBounceLogged(t *testing.T) {
	core, logs := observer.New(zap.InfoLevel)
	st := newStage(t)
	st.set.Env.Log, st.set.Env.SoftBounce = zap.New(core), true
	for _, step := range []string{"<- 220 gate.example ESMTP", "-> MAIL", "<- 403 4.5.1 Send HELO or EHLO first", "-> QUIT", "<- 221 2.0.0 Bye"} {
		if err := st.step(step); err != nil {
			t.Fatal(step, err)
		}
	}
	st.finish()
	lines := logs.FilterMessage("refuse").All()
	if len(lines) != 1 || lines[0].ContextMap()["meant"] != 503 || lines[0].ContextMap()["code"] != 403 {
		t.Errorf("refuse lines: %v", lines)
	}
}

// A line without end is answered, and nothing is read behind it.
func TestEndlessLine(t *testing.T) {
	play(t, "<- 220 gate.example ESMTP\n-> NOOP "+strings.Repeat("x", 90_000)+"\\\n<- 500 5.5.2 Line too long\n<- CLOSED\n")
}
