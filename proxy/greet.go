package proxy

import (
	"time"

	"github.com/moongate/moongate/policy"
)

// A client that was refused at connect may say this much, for this long, and
// hears 503 to all of it until QUIT (RFC 5321 3.1).
const (
	refusedCommands = 5
	refusedTime     = 10 * time.Second
)

// greet asks about the connection and says the banner. It returns false if
// there is nothing more to say.
func (s *session) greet() bool {
	s.lookUp()
	if !s.forwarder {
		v := s.ask(policy.Connect)
		s.delay(v)
		if v.Refuses() {
			s.turnAway(v)
			return false
		}
	}
	if s.set.Hop.Open() {
		s.say("CONNECT", replyDown, policy.ByMoongate, nil, "upstream down")
		s.close("upstream down")
		return false
	}
	s.out.add(&policy.Reply{Code: 220, Text: []string{s.set.Hostname + " ESMTP"}})
	return true
}

// lookUp asks for the client's name. A neighbour on loopback has none in the
// DNS, and a forwarder's own name is not the one that counts.
func (s *session) lookUp() {
	a := s.policy.Remote.Addr().Unmap()
	if s.set.PTR == nil || s.forwarder || s.policy.PTR != "" || !a.IsValid() || a.IsLoopback() {
		return
	}
	s.wait()
	s.policy.PTR, s.policy.PTRTemp = s.set.PTR(s.policy.Ctx, a)
	s.proceed()
}

// turnAway refuses a client at the door: after 421 the connection ends, after
// 5xx the client is to say QUIT. docs/mail.md 23.
func (s *session) turnAway(v policy.Verdict) {
	r := v.Reply
	soft := r.Code/100 == 4 || s.policy.Env.SoftBounce
	if soft && r.Code != 421 { // RFC 5321 3.1: 220, 554 and 421 are possible here
		r = r.Soft()
		r.Code = 421
	}
	s.say("CONNECT", r, source(v), nil, "")
	if r.Code == 421 || v.Close {
		s.close("refused")
		return
	}
	if s.out.flush() != nil {
		s.close("connection lost")
		return
	}
	s.mu.Lock()
	s.idle = true // a shutdown need not wait for it
	s.conn.SetReadDeadline(time.Now().Add(refusedTime))
	s.mu.Unlock()
	if s.woken.Load() {
		s.close("shutdown")
		return
	}
	for range refusedCommands {
		line, err := s.in.Line(maxCommand)
		if err != nil && line == nil {
			break
		}
		if verb, n, _ := splitCommand(line); string(verb[:n]) == "QUIT" {
			s.out.add(&replyBye)
			break
		}
		s.out.add(&replyOnlyQuit)
		if s.out.flush() != nil {
			break
		}
	}
	s.close("refused")
}
