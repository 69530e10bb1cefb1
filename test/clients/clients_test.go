package clients

import (
	"strings"
	"testing"

	"github.com/moongate/moongate/test/upstream"
)

const text = "From: a@example.com\r\nTo: b@example.org\r\nSubject: x\r\n\r\n.dot\r\n\r\nend\r\n"

func TestSend(t *testing.T) {
	for _, c := range All {
		t.Run(c.Name, func(t *testing.T) {
			up := upstream.Start(t, "RCPT /bad@/ 550 5.1.1 no such user here")
			r := c.Send(t, up.Addr, Message{"a@example.com", []string{"b@example.org", "c@example.org"}, []byte(text)})
			if r.Code != 0 {
				t.Fatalf("exit code %d:\n%s", r.Code, r.Output)
			}
			got := up.Messages()
			if len(got) == 0 {
				t.Fatalf("nothing came:\n%s", r.Output)
			}
			if len(got) != 1 || !got[0].Accepted || len(got[0].Rcpts) != 2 || string(got[0].Body()) != text {
				t.Errorf("sent %+v %q\n%s", got, got[0].Body(), r.Output)
			}
			r = c.Send(t, up.Addr, Message{"a@example.com", []string{"bad@example.org"}, []byte(text)})
			if r.Code == 0 || !strings.Contains(r.Output, "no such user here") && c.Name != "curl" {
				t.Errorf("refused: exit code %d:\n%s", r.Code, r.Output)
			}
		})
	}
}
