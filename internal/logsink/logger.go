package logsink

import (
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// Options say how to log.
type Options struct {
	Out    io.Writer // default: standard error
	Text   bool      // Postfix-shaped lines instead of JSON
	Level  zapcore.Level
	Host   string // of text lines: the machine; default its hostname
	Prefix string // of text lines: the syslog tag; default "moongate"
}

// Sink is the other end of a logger: what cmd keeps to change the level at a
// reload and to flush at the end.
type Sink struct {
	*Ring
	Level zap.AtomicLevel
}

// New makes a logger. Close the Sink when nobody logs any more.
func New(o Options) (*zap.Logger, *Sink) {
	if o.Out == nil {
		o.Out = os.Stderr
	}
	if o.Prefix == "" {
		o.Prefix = "moongate"
	}
	var encoder zapcore.Encoder = newJSON()
	if o.Text {
		encoder = newText(o.host(), o.Prefix)
	}
	s := &Sink{Level: zap.NewAtomicLevelAt(o.Level)}
	var logger *zap.Logger
	ready := make(chan struct{})
	s.Ring = newRing(o.Out, func(n int64) {
		<-ready
		logger.Warn("log lines dropped", zap.Int64("count", n))
	})
	logger = zap.New(zapcore.NewCore(encoder, s.Ring, s.Level), zap.ErrorOutput(s.Ring))
	close(ready)
	return logger, s
}

// host has no blanks, whatever a machine calls itself: it is one field of a line.
func (o Options) host() string {
	name := o.Host
	if name == "" {
		name, _ = os.Hostname()
	}
	if fields := strings.Fields(plain(name)); len(fields) > 0 {
		return fields[0]
	}
	return "localhost"
}

// newJSON writes {"time":...,"level":...,"room":...,"msg":...,fields}.
func newJSON() zapcore.Encoder {
	return zapcore.NewJSONEncoder(zapcore.EncoderConfig{
		TimeKey: "time", LevelKey: "level", NameKey: "room", MessageKey: "msg",
		LineEnding:     zapcore.DefaultLineEnding,
		EncodeTime:     zapcore.TimeEncoderOfLayout(timeLayout),
		EncodeLevel:    zapcore.LowercaseLevelEncoder,
		EncodeName:     zapcore.FullNameEncoder,
		EncodeDuration: func(d time.Duration, e zapcore.PrimitiveArrayEncoder) { e.AppendString(millis(d)) },
	})
}

// millis writes a duration as both encodings show it, "0.624ms": one unit, so
// that lines can be compared, and no µ, which text would have to replace.
func millis(d time.Duration) string {
	return strconv.FormatFloat(float64(d.Microseconds())/1000, 'f', -1, 64) + "ms"
}

// timeLayout is RFC 3339 with microseconds, local time with its offset, as
// Debian's rsyslog writes mail.log since 12.
const timeLayout = "2006-01-02T15:04:05.000000Z07:00"
