package dialogue

import (
	"fmt"
	"time"

	"github.com/moongate/moongate/test/postfix"
	"github.com/moongate/moongate/test/upstream"
)

// Scripted shows a scripted upstream to a dialogue.
type Scripted struct{ *upstream.Server }

func (s Scripted) Lines() []string { return s.Server.Lines(0) }

func (s Scripted) Messages() [][]byte {
	var all [][]byte
	for _, m := range s.Server.Messages() {
		if m.Accepted {
			all = append(all, m.Body())
		}
	}
	return all
}

// Settle gives a message too many the time to come. What is accepted is on record before its reply is
// sent, so there is no event to wait for: only one that must not come.
func (s Scripted) Settle() error {
	s.Server.Wait(20*time.Millisecond, func() bool { return false })
	return nil
}

func (s Scripted) Control(what string) error {
	switch what {
	case "stop":
		s.Server.Stop()
	case "start":
		s.Server.Listen()
	case "hangup":
		s.Server.Hangup()
	case "quiet":
		if !s.Server.Wait(patience, func() bool { _, open := s.Server.Conns(); return open == 0 }) {
			return fmt.Errorf("the upstream still has connections open")
		}
	default:
		return fmt.Errorf("an upstream can stop, start, hangup and quiet, not %s", what)
	}
	return nil
}

// Postfix shows a private Postfix to a dialogue. It cannot tell which lines it was told.
type Postfix struct{ *postfix.Postfix }

func (p Postfix) Lines() []string { return nil }

func (p Postfix) Messages() [][]byte {
	var all [][]byte
	for _, m := range p.Inside.Messages() {
		all = append(all, m.Body())
	}
	return all
}

func (p Postfix) Settle() error {
	p.Postfix.Settle()
	return nil
}

func (p Postfix) Control(what string) error {
	switch what {
	case "stop":
		p.Stop()
	case "start", "hangup":
		p.Restart()
	default:
		return fmt.Errorf("a Postfix can stop, start and hangup, not %s", what)
	}
	return nil
}
