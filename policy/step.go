package policy

import (
	"time"

	"go.uber.org/zap"
)

// Step is one decision of a rule or filter.
type Step struct {
	Hook    Hook
	Rule    *Rule
	By      string // the filter's name where there is no rule
	Verdict Verdict
	Took    time.Duration
	Shadow  bool
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

// FilterResult is what a filter said of this message.
type FilterResult struct {
	Name    string
	Verdict Verdict
	Err     error
}

// word is what the audit line says of it: that it failed, whatever its on_error
// made of that, or what it decided; of a shadow, what it would have.
func (f *FilterResult) word() string {
	switch {
	case f.Err != nil:
		return "failed"
	case f.Verdict.Watched != Continue:
		return "shadow:" + f.Verdict.Watched.String()
	}
	return f.Verdict.Action.String()
}
