package policy

import (
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"go.uber.org/zap"
)

// maxErrors is how many rules may fail in one session before it ends
// (421 4.3.0).
const maxErrors = 3

var (
	replyPolicyError = Say(451, Status{4, 3, 0}, "Temporary policy failure, please try again later")
	replyTooMany     = Say(421, Status{4, 3, 0}, "Too many temporary failures, closing")
	replyNotNow      = Say(550, Status{5, 7, 1}, "Refused by policy")
)

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
		if fv := s.filterStage(ev, end, signs); fv.Decided() && fv.Action != Accept {
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

// capped is what a face grants the delays of a stage, all rules together.
func (s *Session) capped(d time.Duration) time.Duration { return min(d, s.Face.MaxDelay) }

// putOff keeps the refusal in s.now until RCPT: of connect and helo for the
// session, of mail for the transaction.
func (s *Session) putOff(h Hook) {
	if h <= Helo {
		s.delayed[h] = s.now
		return
	}
	v := s.now
	s.Tx.delayed = &v
}

// delayedVerdict gives at rcpt what connect, helo and mail rules with
// at = "rcpt" decided: not to a client that has logged in, not for postmaster,
// not after bypass(). It is nil if there is none.
func (s *Session) delayedVerdict(ev *Event) *Verdict {
	if ev.Hook != Rcpt || s.User != "" || s.bypassed || s.Tx.bypassed || ev.Rcpt.In.IsPostmaster() {
		return nil
	}
	for i := range s.delayed {
		if s.delayed[i].Decided() {
			return &s.delayed[i]
		}
	}
	return s.Tx.delayed
}

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

var errGone = errors.New("the client is gone")

// Caught counts a panic, logs it with its stack and makes an error of it: for
// who recovers, where it was recovered.
func (s *Session) Caught(p any, h Hook) error {
	s.Env.Metrics.panicked()
	s.log.Error("panic", zap.String(KeySession, s.ID), zap.String(KeyStage, h.String()),
		zap.Any(KeyReason, p), zap.ByteString(KeyStack, debug.Stack()))
	return fmt.Errorf("panic: %v", p)
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

// failed is what a rule's error comes to: its on_error. The peer hears nothing
// of the reason. A shadow rule's failure is logged and counted, no more.
func (s *Session) failed(r *Rule, h Hook, err error) Verdict {
	if err == errGone {
		return s.stopped(r, h)
	}
	s.Env.Metrics.ruleFailed(r)
	s.log.Warn("rule failed", zap.String(KeySession, s.ID), zap.String(KeyID, s.CurrentID()),
		zap.String(KeyStage, h.String()), zap.String(KeyRule, r.String()),
		zap.String(KeyOnError, r.OnError.String()), zap.Error(err))
	v := Verdict{Failed: true, Reason: err.Error(), Rule: r}
	if h == Done || r.Shadow {
		return v
	}
	switch r.OnError {
	case Accept:
		s.unchecked(r)
		return v // zero action: the next rule is asked
	case Reject:
		v.Action, v.Reply = Reject, replyNotNow
	default:
		v.Action, v.Reply = Tempfail, replyPolicyError
	}
	s.errors++
	return v
}

// stopped is what a rule comes to whose client went away: nobody hears it, the
// message goes nowhere, and the rule has done nothing wrong.
func (s *Session) stopped(r *Rule, h Hook) Verdict {
	v := Verdict{Failed: true, Reason: errGone.Error(), Rule: r}
	if h != Done && !r.Shadow {
		v.Action, v.Reply = Tempfail, replyPolicyError
	}
	return v
}

// unchecked marks a message that passed a rule which failed and whose author
// said on_error = "accept".
func (s *Session) unchecked(r *Rule) {
	if s.Tx != nil {
		s.Tx.Note(Edit{Kind: AddHeader, Name: "X-Moongate-Unchecked", Value: " " + r.Place()})
	}
}

func (s *Session) step(st Step) {
	if s.Tx != nil {
		s.Tx.Steps = append(s.Tx.Steps, st)
	}
	if st.Shadow {
		s.log.Info("shadow", zap.String(KeyID, s.CurrentID()), zap.String(KeyStage, st.Hook.String()),
			zap.String(KeyRule, st.Rule.String()), zap.String(KeyVerdict, st.Verdict.Action.String()),
			zap.String(KeyReply, st.Verdict.Reply.String()))
	}
}

// settle moves the holds of an event to what they belong to: the recipient,
// else the message, else they are kept at once.
func (s *Session) settle(ev *Event) {
	if len(ev.holds) == 0 {
		return
	}
	switch {
	case ev.Hook == Rcpt:
		ev.Rcpt.holds = append(ev.Rcpt.holds, ev.holds...)
		s.Tx.reserved = append(s.Tx.reserved, ev.Rcpt)
	case ev.Hook >= Mail && ev.Hook <= Message && s.Tx != nil:
		s.Tx.holds = append(s.Tx.holds, ev.holds...)
	default:
		for _, h := range ev.holds {
			h.Keep()
		}
	}
	ev.holds = nil
}

func (s *Session) hookTime(h Hook) time.Duration {
	if h == Message {
		return orDefault(s.Env.MessageTime, 75*time.Second)
	}
	return orDefault(s.Env.HookTime, 2*time.Second)
}

// What a stage may take with all of its judges, and the stage of whole messages.
const (
	Stage        = 20 * time.Second
	MessageStage = 120 * time.Second
)

func (s *Session) stageTime(h Hook) time.Duration {
	if h == Message {
		return orDefault(s.Env.AllTime, MessageStage)
	}
	return orDefault(s.Env.StageTime, Stage)
}

func orDefault(d, def time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return def
}
