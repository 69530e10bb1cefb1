package proxy

import (
	"bufio"
	"io"
	"net"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"

	"github.com/moongate/moongate/policy"
)

// ends remembers how transactions ended.
type ends []*policy.Outcome

func (e *ends) Record(_ *policy.Transaction, o *policy.Outcome) { *e = append(*e, o) }

// TestSlowMessages: a client may be as slow as any that is honest; one that
// feeds an octet now and then does not keep its place.
func TestSlowMessages(t *testing.T) {
	long := strings.Repeat("0123456789012345678901234567890123456789012345678\r\n", 200_000/50)
	for _, tt := range []struct {
		name  string
		piece int           // octets
		each  time.Duration // between two pieces
		cause string        // of the end; "": it is taken
		after time.Duration // that it ends
	}{
		{"an octet a minute", 1, time.Minute, "too slow in DATA", 30*time.Minute + 31*perOctet},
		{"a line each three minutes", 50, 179 * time.Second, "too slow in DATA", 30*time.Minute + 11*50*perOctet},
		{"silence", 1, time.Hour, "timeout in DATA", 3 * time.Minute},
		{"a modem of 2400 baud", 240, time.Second, "", 0},
		{"a bad line", 16 << 10, 150 * time.Second, "", 0},
		{"as slow as may be", 100, time.Second, "", 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var ended ends
				drops := opinion(policy.Rcpt) // nobody is told: there is no upstream here
				drops.Evaluator = &testRule{match: regexp.MustCompile(""), action: "drop"}
				rules := policy.NewRules("test", drops)
				hop := &Hop{Address: "unix:/nonexistent", Hostname: "gate.example"}
				hop.learn(NewCaps("PIPELINING"))
				srv := &Server{Log: zap.NewNop(), Settings: Settings{Hostname: "gate.example", Hop: hop, HoldMail: true,
					Env: &policy.Env{Engine: policy.EngineFunc(func(*policy.Facts) *policy.Rules { return rules }),
						Face: policy.SMTP, Log: zap.NewNop(), Recorder: &ended}}}
				ours, theirs := net.Pipe()
				done := make(chan struct{})
				go func() {
					defer close(done)
					srv.ServeConn(ours, local())
				}()
				r := bufio.NewReader(theirs)
				go io.WriteString(theirs, envelope)
				for line := ""; !strings.HasPrefix(line, "354"); {
					var err error
					if line, err = r.ReadString('\n'); err != nil {
						t.Fatal(err)
					}
				}
				start, heard := time.Now(), make(chan string, 1)
				go func() {
					line, _ := r.ReadString('\n')
					heard <- line
					io.Copy(io.Discard, r)
				}()
				var err error
				for rest := long + ".\r\n"; rest != "" && err == nil; {
					n := min(tt.piece, len(rest))
					_, err = io.WriteString(theirs, rest[:n])
					if rest = rest[n:]; rest != "" {
						select {
						case <-time.After(tt.each):
						case <-done:
						}
					}
				}
				switch line := <-heard; {
				case tt.cause == "" && !strings.HasPrefix(line, "250"):
					t.Errorf("after %v: heard %q (%v), want 250", time.Since(start), line, err)
				case tt.cause != "" && (!strings.HasPrefix(line, "421 4.4.2") || time.Since(start) != tt.after):
					t.Errorf("after %v: heard %q, want 421 after %v", time.Since(start), line, tt.after)
				}
				theirs.Close()
				<-done
				if len(ended) != 1 || ended[0].Cause != tt.cause && tt.cause != "" || (tt.cause == "") != (ended[0].Action == policy.Discard) {
					t.Errorf("it ended so: %+v", ended)
				}
			})
		})
	}
}
