package policy

import (
	"cmp"
	"time"
)

// Tell tells what needs no answer. Here taken limits are kept or released, log
// rules run, and the operator's lines and records are written.
func (s *Session) Tell(ev *Event) {
	if !s.nested(ev) {
		s.tellFilters(ev)
	}
	switch ev.Hook {
	case Answered:
		s.answered(ev)
	case Reset:
		if s.Tx != nil {
			s.finish(s.aborted(ByClient, orText(ev.Cause, "reset")))
		}
	case Done:
		if s.Tx != nil {
			s.finish(ev.Outcome)
		}
	case Disconnect:
		if s.Tx != nil {
			s.finish(s.aborted(cmp.Or(ev.By, ByClient), orText(ev.Cause, "disconnect")))
		}
		if s.messages == 0 {
			s.logRules(nil)
		}
		if !s.quiet() {
			s.disconnectLine(ev)
		}
		s.closeFilters()
	}
}

// nested reports a refused MAIL, malformed or not, within a transaction. It ends
// nothing (RFC 5321 4.1.4), and a filter would take it for the end of the
// message that it has been asked about.
func (s *Session) nested(ev *Event) bool {
	return ev.Hook == Answered && ev.Verb == "MAIL" && ev.Reply.Refuses() && s.Tx != nil && s.Tx.open
}

// answered counts a command, settles its recipient and writes its refuse line.
func (s *Session) answered(ev *Event) {
	verb := lowerVerb(ev.Verb)
	if ev.Verb != "" || ev.Rcpt != nil {
		s.count(verb, ev.Reply.Code < 400)
		s.connectLine()
	}
	if r := ev.Rcpt; r != nil && s.Tx != nil {
		r.Reply = ev.Reply
		switch {
		case ev.Reply.Refuses():
			r.State = RcptRefused
			release(&r.holds)
		case r.State == RcptAsked:
			r.State = RcptAccepted
		}
		s.Tx.Rcpts = append(s.Tx.Rcpts, r)
	}
	if verb == "mail" && s.Tx != nil && !ev.Reply.Refuses() {
		s.Tx.open = true
	}
	if ev.Reply.Refuses() {
		s.closes(ev)
		s.Env.Metrics.refused(verb, ev.By)
		s.refuseLine(ev, verb)
		if verb == "mail" && s.Tx != nil && !s.Tx.open {
			s.drop()
		}
	}
}

// aborted is the outcome of a transaction that ends before its message: by whom
// the face names, unless a reply before ended the session.
func (s *Session) aborted(by Source, cause string) *Outcome {
	if s.closer == "" {
		return &Outcome{By: by, Cause: cause}
	}
	return &Outcome{By: s.closer, Cause: cause, Verdict: s.closing}
}

// closes notes who ends the session with a reply: RFC 5321 3.8 gives 421 that
// meaning, and a verdict may want it of any other.
func (s *Session) closes(ev *Event) {
	decided := ev.By == ByPolicy || ev.By == ByFilter
	if s.closer != "" || ev.Reply.Code != 421 && !(decided && s.Verdict.Close) {
		return
	}
	s.closer = ev.By
	if decided {
		s.closing = s.Verdict
	}
}

// finish ends the transaction: holds, log rules, line, record, in this order.
func (s *Session) finish(o *Outcome) {
	tx := s.Tx
	if tx.done {
		return
	}
	tx.done = true
	s.messages++
	accepted := o.Action == Accept || o.Action == Discard || o.Action == Quarantine
	for _, r := range tx.Rcpts {
		if accepted && r.State != RcptRefused {
			keep(&r.holds)
		}
	}
	if accepted {
		keep(&tx.holds)
	}
	tx.release()
	s.logRules(o)
	s.Env.Metrics.finished(o)
	s.messageLine(o)
	if s.Env.Recorder != nil {
		s.Env.Recorder.Record(tx, o)
	}
	s.forget()
}

// drop ends a transaction whose MAIL was refused: the refuse line is all that
// is said of it.
func (s *Session) drop() {
	tx := s.Tx
	tx.done = true
	tx.release()
	s.forget()
}

func (s *Session) forget() {
	tx := s.Tx
	s.Tx = nil
	tx.Message.Close()
}

// logRules runs the log rules: told, always, at the end. They cannot change
// anything.
func (s *Session) logRules(o *Outcome) {
	rules := s.rules().At(Done)
	if len(rules) == 0 {
		return
	}
	end := time.Now().Add(s.stageTime(Done))
	if s.Tx != nil {
		s.Tx.hook = Done
	}
	for _, r := range rules {
		ev := Event{Hook: Done, Outcome: o}
		s.askRule(r, &ev, end)
		keep(&ev.holds)
	}
}

func orText(s, def string) string {
	if s != "" {
		return s
	}
	return def
}
