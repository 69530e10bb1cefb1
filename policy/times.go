package policy

import "time"

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

func (s *Session) hookTime(h Hook) time.Duration {
	if h == Message {
		return orDefault(s.Env.MessageTime, 75*time.Second)
	}
	return orDefault(s.Env.HookTime, 2*time.Second)
}

func orDefault(d, def time.Duration) time.Duration {
	if d > 0 {
		return d
	}
	return def
}

// capped is what a face grants the delays of a stage, all rules together.
func (s *Session) capped(d time.Duration) time.Duration { return min(d, s.Face.MaxDelay) }
