package main

import (
	"fmt"
	"slices"
	"sync"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// listLog is the log of the policy engine. The engine tells there of each list
// that it takes, and of each that it holds back because it shrank. It knows no
// command; the house adds the one that helps, and repeats the former to who has
// lists accepted.
type listLog struct {
	zapcore.Core
	taken *takenLists
}

// takenLists collects what is told of lists while somebody wants to know.
type takenLists struct {
	mu        sync.Mutex // guards what follows
	listening bool
	lines     []string
}

// The engine's messages about lists.
const (
	listKept   = "list kept"
	listLoaded = "list loaded"
)

func (t *takenLists) listen(log *zap.Logger) *zap.Logger {
	return log.WithOptions(zap.WrapCore(func(c zapcore.Core) zapcore.Core { return &listLog{c, t} }))
}

// during is what is told of lists while do runs.
func (t *takenLists) during(do func()) []string {
	t.mu.Lock()
	t.listening, t.lines = true, nil
	t.mu.Unlock()
	do()
	t.mu.Lock()
	defer t.mu.Unlock()
	t.listening = false
	slices.Sort(t.lines)
	return t.lines
}

func (t *takenLists) hear(fields []zapcore.Field) {
	m := zapcore.NewMapObjectEncoder()
	for _, f := range fields {
		f.AddTo(m)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.listening {
		t.lines = append(t.lines, fmt.Sprintf("list %v: %v entries, before %v", m.Fields["list"], m.Fields["entries"], m.Fields["before"]))
	}
}

// Enabled lets info pass, whatever log.level says: a list that is taken is heard of.
func (l *listLog) Enabled(level zapcore.Level) bool {
	return level == zapcore.InfoLevel || l.Core.Enabled(level)
}

func (l *listLog) With(fields []zapcore.Field) zapcore.Core {
	return &listLog{l.Core.With(fields), l.taken}
}

func (l *listLog) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if e.Message == listKept || e.Message == listLoaded {
		return ce.AddCore(e, l)
	}
	return l.Core.Check(e, ce)
}

func (l *listLog) Write(e zapcore.Entry, fields []zapcore.Field) error {
	switch e.Message {
	case listLoaded:
		l.taken.hear(fields)
	case listKept:
		if slices.ContainsFunc(fields, func(f zapcore.Field) bool { return f.Key == "would_be" }) {
			fields = append(slices.Clip(fields), zap.String("accept", "moongate reload --accept-lists"))
		}
	}
	if !l.Core.Enabled(e.Level) {
		return nil
	}
	return l.Core.Write(e, fields)
}
