package client

import (
	"testing"

	"github.com/moongate/moongate/test/upstream"
)

func TestSession(t *testing.T) {
	up := upstream.Start(t, "EHLO 250-up|250-TWO|250 THREE\nRCPT /bad@/ 550 5.1.1 no such user\nQUIT 221-bye !close")
	c := Dial(t, up.Addr, "127.0.0.1").Greet("c.example.com")
	if r := c.Say("EHLO d.example.com"); r != "250-up\n250-TWO\n250 THREE" {
		t.Errorf("EHLO: %q", r)
	}
	if r := c.Send("a@example.com", "bad@example.org", "x"); r != "550 5.1.1 no such user" {
		t.Errorf("a refused recipient: %q", r)
	}
	c.Must("250", "RSET")
	if r := c.Send("a@example.com", "b@example.org", "."+Head("s")+"\r\n.\r\n..\r\n"); r != "250 2.0.0 Ok: queued as U1" {
		t.Errorf("the message: %q", r)
	}
	if m := up.Messages(); len(m) != 1 || string(m[0].Body()) != "."+Head("s")+"\r\n.\r\n..\r\n" {
		t.Errorf("came as %+v", m)
	}
	if r := c.Say("QUIT"); r != "" || Code(r) != 0 {
		t.Errorf("half a reply: %q", r)
	}
	if Code("451 4.3.0 later") != 451 {
		t.Error("451 is no code")
	}
}
