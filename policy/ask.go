package policy

import "time"

// maxErrors is how many rules may fail in one session before it ends
// (421 4.3.0).
const maxErrors = 3

var replyTooMany = Say(421, Status{4, 3, 0}, "Too many temporary failures, closing")

// Ask asks the policy. It never fails: an error, a timeout or a panic of a
// rule is already the rule's on_error. The order is: what was delayed until
// now, the rules, the filters; at message the verifying filters come before
// the rules and the signing ones behind them.
func (s *Session) Ask(ev *Event) Verdict {
	start := time.Now()
	if ev.Hook == Connect {
		s.openFilters()
	}
	tx := s.Tx
	if tx != nil {
		tx.hook = ev.Hook
	}
	s.now = Verdict{}
	s.stage(ev, start)
	v := &s.now
	took := time.Since(start)
	if tx != nil {
		tx.Stages[ev.Hook] += took
		tx.rule, tx.by = nil, ""
		tx.swallows = tx.swallows || ev.Hook == Mail && v.Swallows()
	}
	s.Env.Metrics.asked(ev.Hook, v.Action, took)
	s.settle(ev)
	if v.Action == Bypass {
		if tx == nil {
			s.bypassed = true
		} else {
			tx.bypassed = true
		}
	}
	if s.errors >= maxErrors && v.Refuses() {
		v.Reply, v.Close = replyTooMany, true
		v.Action = Tempfail
	}
	if v.Decided() {
		s.Verdict = *v
	}
	return *v
}

// stage asks everybody who has a say at this hook; the answer is in s.now.
// Thousands of sessions may wait below it, each with its stack: the frames on
// the common way are kept small, which is why verdicts are not passed along.
func (s *Session) stage(ev *Event, start time.Time) {
	end := start.Add(s.stageTime(ev.Hook))
	if late := s.delayedVerdict(ev); late != nil {
		s.now = *late
		return
	}
	switch {
	case len(s.convs) == 0:
		s.ruleStage(ev, end)
	case ev.Hook == Message:
		s.messageStage(ev, end)
	default:
		s.filteredStage(ev, end)
	}
}

// filteredStage is a stage before message: rules, then filters, which are not
// asked about what a rule refused.
func (s *Session) filteredStage(ev *Event, end time.Time) {
	s.ruleStage(ev, share(end, s.filtersLeft(-1, false)))
	v := s.now
	if v.Refuses() || v.Swallows() || v.Action == Drop {
		return
	}
	for _, signs := range []bool{false, true} {
		if fv := s.filterStage(ev, end, signs); fv.Decided() {
			s.now = fv
			return
		}
	}
	s.now = v
}

// messageStage is the stage of whole messages: verifying filters, rules, which
// see what the filters said and may say otherwise, and signing filters.
func (s *Session) messageStage(ev *Event, end time.Time) {
	fv := s.filterStage(ev, end, false)
	s.ruleStage(ev, share(end, s.filtersLeft(-1, true)))
	v := s.now
	if !v.Refuses() && !v.Swallows() && fv.Decided() {
		v = fv
	}
	if !v.Refuses() && !v.Swallows() {
		if sv := s.filterStage(ev, end, true); sv.Decided() {
			v = sv
		}
	}
	s.now = v
}

// ruleStage asks the rules in order; the first verdict ends the stage.
func (s *Session) ruleStage(ev *Event, end time.Time) {
	s.now = Verdict{}
	if s.exempt() {
		return
	}
	if ev.Hook == Helo {
		s.delayed[Helo] = Verdict{}
	}
	v := &s.now
	var delay time.Duration // of rules without a verdict: return delay(5)
	for _, r := range s.rules().At(ev.Hook) {
		s.askRule(r, ev, end)
		switch {
		case r.Shadow:
			continue // logged by askRule, not obeyed
		case !v.Decided():
			delay += v.Delay
			continue
		case r.At == Rcpt && ev.Hook != Rcpt && v.Refuses():
			s.putOff(ev.Hook)
			s.now = Verdict{Delay: s.capped(delay)}
			return
		}
		v.Delay = s.capped(v.Delay + delay)
		return
	}
	s.now = Verdict{Delay: s.capped(delay)}
}
