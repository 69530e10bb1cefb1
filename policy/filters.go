package policy

import (
	"errors"
	"slices"
	"time"

	"go.uber.org/zap"
)

// filterConv is one filter's side of this session; err is why it could not be
// opened.
type filterConv struct {
	Filter
	conv Conversation
	err  error
}

// openFilters opens the conversations, in order. A filter that cannot be
// opened answers at each hook with its error; what that means is its on_error,
// decided by the filter itself.
func (s *Session) openFilters() {
	for _, f := range s.Env.Filters {
		c, err := f.Open(s.Ctx, s)
		if err != nil {
			s.log.Warn("filter failed", zap.String(KeySession, s.ID), zap.String(KeyFilter, f.Name()), zap.Error(err))
		}
		s.convs = append(s.convs, filterConv{Filter: f, conv: c, err: err})
	}
}

// filterStage asks the filters of one phase in order. The first that decides
// against the message ends the stage; one that accepts it decides nothing, and
// rules and the log are told.
func (s *Session) filterStage(ev *Event, end time.Time, signs bool) Verdict {
	if len(s.convs) == 0 {
		return Verdict{}
	}
	for i := range s.convs {
		c := &s.convs[i]
		if c.Signs() != signs || c.conv == nil && c.err == nil {
			continue
		}
		start := time.Now()
		v, err := Verdict{}, c.err
		if err == nil {
			ev.Deadline = share(end, s.filtersLeft(i, signs) || ev.Hook == Message && !signs && s.rulesAt(Message))
			if s.Tx != nil {
				s.Tx.rule, s.Tx.by = nil, c.Name()
			}
			err = s.eval(c.conv, ev)
			v = s.now
		}
		if err != nil {
			if err != errGone {
				s.log.Warn("filter failed", zap.String(KeyID, s.CurrentID()), zap.String(KeyFilter, c.Name()),
					zap.String(KeyStage, ev.Hook.String()), zap.Error(err))
			}
			v = Verdict{Action: Tempfail, Reply: replyPolicyError, Reason: c.Name() + ": " + err.Error(), Failed: true}
		}
		if s.Tx != nil && ev.Hook == Message && !slices.Contains(s.Tx.Skip, c.Name()) {
			if err == nil && v.Failed { // the filter has made its on_error of it
				err = errors.New(v.Reason)
			}
			s.Tx.Filters = append(s.Tx.Filters, FilterResult{Name: c.Name(), Verdict: v, Err: err})
		}
		if v.Decided() && v.Action != Accept {
			s.step(Step{Hook: ev.Hook, By: c.Name(), Verdict: v, Took: time.Since(start)})
			return v
		}
	}
	return Verdict{}
}

// share is until when a judge may take while others of the stage are still to be
// asked: five eighths of what is left. One that hangs then leaves the others
// time to answer, and a scanner that takes its 60 s of the 120 of a message has
// them wherever it stands, if those before it are quick.
func share(end time.Time, others bool) time.Time {
	if !others {
		return end
	}
	now := time.Now()
	return now.Add(ShareOf(max(end.Sub(now), 0)))
}

// ShareOf is what a judge gets of a time that others need, too.
func ShareOf(d time.Duration) time.Duration { return d * 5 / 8 }

// filtersLeft reports whether filters are to be asked behind the i-th of a
// phase, -1 being before the first. The signing ones are the last.
func (s *Session) filtersLeft(i int, signs bool) bool {
	for j := range s.convs {
		c := &s.convs[j]
		if signs && !c.Signs() || c.Signs() == signs && j <= i {
			continue
		}
		if s.Tx == nil || !slices.Contains(s.Tx.Skip, c.Name()) {
			return true
		}
	}
	return false
}

// tellFilters passes an event on.
func (s *Session) tellFilters(ev *Event) {
	for i := range s.convs {
		if c := s.convs[i].conv; c != nil {
			c.Tell(ev)
		}
	}
}

func (s *Session) closeFilters() {
	for i := range s.convs {
		if c := s.convs[i].conv; c != nil {
			c.Close()
		}
	}
	s.convs = nil
}
