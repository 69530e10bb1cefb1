package main

import (
	"errors"
	"strings"
	"time"

	"go.uber.org/zap/zapcore"
)

// witness is a log that the demo reads: it tells which rule decided, in the
// words that the operator's log has.
type witness struct {
	zapcore.LevelEnabler
	entries chan map[string]any
}

func newWitness() *witness {
	return &witness{zapcore.InfoLevel, make(chan map[string]any, 1000)}
}

func (w *witness) With([]zapcore.Field) zapcore.Core { return w }

func (w *witness) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if w.Enabled(e.Level) {
		return ce.AddCore(e, w)
	}
	return ce
}

// Write keeps an entry; while nobody reads, later ones are lost.
func (w *witness) Write(e zapcore.Entry, fields []zapcore.Field) error {
	m := zapcore.NewMapObjectEncoder()
	m.AddString("msg", e.Message)
	m.AddString("level", e.Level.String())
	for _, f := range fields {
		f.AddTo(m)
	}
	select {
	case w.entries <- m.Fields:
	default:
	}
	return nil
}

func (w *witness) Sync() error { return nil }

// limit is how long the log may take to tell of what has happened. On a machine
// that is not overwhelmed it is milliseconds, or a watch's tenth of a second.
const limit = 30 * time.Second

var errSilent = errors.New("the log did not tell of it in time")

// session is what was logged until the next session ended.
func (w *witness) session() ([]map[string]any, error) {
	var all []map[string]any
	end := time.After(limit)
	for {
		select {
		case e := <-w.entries:
			if e["msg"] == "disconnect" {
				return all, nil
			}
			all = append(all, e)
		case <-end:
			return nil, errSilent
		}
	}
}

// await waits for an entry whose message begins with a word.
func (w *witness) await(word string) error {
	end := time.After(limit)
	for {
		select {
		case e := <-w.entries:
			if msg, _ := e["msg"].(string); strings.HasPrefix(msg, word) {
				return nil
			}
		case <-end:
			return errSilent
		}
	}
}
