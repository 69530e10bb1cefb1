package policy

import (
	"errors"
	"fmt"
	"time"
)

// askRule asks one rule and makes a verdict of whatever happens, in s.now.
func (s *Session) askRule(r *Rule, ev *Event, end time.Time) {
	start := time.Now()
	wall := r.Timeout
	if wall == 0 {
		wall = s.hookTime(ev.Hook)
	}
	ev.Deadline = start.Add(wall)
	if ev.Deadline.After(end) {
		ev.Deadline = end
	}
	if s.Tx != nil {
		s.Tx.rule = r
	}
	var err error
	if r.Shadow {
		err = s.evalShadow(r.Evaluator, ev)
	} else {
		err = s.eval(r.Evaluator, ev)
	}
	s.judge(r, ev.Hook, err, start)
}

// judge checks and notes what a rule answered, or that it failed.
func (s *Session) judge(r *Rule, h Hook, err error, start time.Time) {
	v := &s.now
	if err == nil {
		err = s.legal(h, v)
	}
	if err != nil {
		*v = s.failed(r, h, err)
	}
	v.Rule = r
	if v.Decided() || v.Delay > 0 {
		s.step(Step{Hook: h, Rule: r, Verdict: *v, Took: time.Since(start), Shadow: r.Shadow})
	}
}

// evalShadow asks on a fork of the transaction, so that nothing comes of it but
// the verdict.
func (s *Session) evalShadow(e Evaluator, ev *Event) error {
	tx, shadow := s.Tx, *ev
	shadow.holds = nil
	if tx != nil {
		s.Tx, shadow.Rcpt = tx.Fork(ev.Rcpt)
	}
	defer func() {
		s.Tx = tx
		release(&shadow.holds)
	}()
	return s.eval(e, &shadow)
}

// eval calls the evaluator and puts its answer into s.now; a panic is an error.
func (s *Session) eval(e Evaluator, ev *Event) (err error) {
	defer func() {
		if p := recover(); p != nil {
			s.now = Verdict{}
			err = s.Caught(p, ev.Hook)
		}
	}()
	s.now, err = e.Eval(s.Ctx, s, ev)
	if s.Ctx.Err() != nil {
		err = errGone
	}
	return err
}

// legal checks that this face can do what the verdict wants, here, and that a
// refusal has a refusal's reply.
func (s *Session) legal(h Hook, v *Verdict) error {
	if h == Done {
		if v.Decided() {
			return errors.New("a log rule cannot decide anything")
		}
		return nil
	}
	if !s.Face.Can(h, v.Action) {
		return fmt.Errorf("%s is not possible at %s (%s)", v.Action, h, s.Face.Name)
	}
	switch class := v.Reply.Code / 100; {
	case v.Action == Reject && class != 5, v.Action == Tempfail && class != 4:
		return fmt.Errorf("%s with reply code %d", v.Action, v.Reply.Code)
	case !v.Refuses() && v.Reply.Code >= 400:
		return fmt.Errorf("%s with reply code %d", v.Action, v.Reply.Code)
	case v.Action == Quarantine && s.Env.Keeper == nil && s.Face.Name == SMTP.Name:
		return errors.New("there is no quarantine: set [quarantine] path")
	}
	return nil
}
