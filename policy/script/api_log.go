package script

import (
	"math"

	glua "github.com/yuin/gopher-lua"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/moongate/moongate/policy"
)

const (
	maxNotes  = 50 // log lines of one call
	maxFields = 16
)

var noteParams = []param{{"text", "string", "What happened."}, {"fields", "table?", "Values beside it: { score = 7.5 }. At most 16, no secrets."}}

var logLibrary = &library{name: "log", doc: "Lines in the operator's log, with the session's and the message's id and the rule.",
	functions: []*function{
		{name: "info", params: noteParams, doc: "Something an operator may look for.",
			do: func(x *state, L *glua.LState) int { return x.note(L, zapcore.InfoLevel) }},
		{name: "warn", params: noteParams, doc: "Something went wrong and the policy coped.",
			do: func(x *state, L *glua.LState) int { return x.note(L, zapcore.WarnLevel) }},
		{name: "debug", params: noteParams, doc: "For the author.",
			do: func(x *state, L *glua.LState) int { return x.note(L, zapcore.DebugLevel) }},
	}}

func (x *state) note(L *glua.LState, level zapcore.Level) int {
	text := clip(checkString(L, 1, "log"), maxReason)
	fields := optTable(L, 2, "log")
	if x.notes++; x.notes > maxNotes {
		return 0
	}
	x.Meter.Charge(200)
	ce := x.p.opts.Log.Check(level, "script")
	if ce == nil {
		return 0
	}
	file, line := at(L)
	out := make([]zap.Field, 0, 8)
	out = append(out, zap.String("text", text))
	if fields != nil {
		out = append(out, zap.Object("fields", noteFields{fields}))
	}
	if x.s != nil {
		out = append(out, zap.String(policy.KeySession, x.s.ID), zap.String(policy.KeyStage, stageName(x.hook)),
			zap.String(policy.KeyRule, x.rule.desc.String()))
		if x.s.Tx != nil {
			out = append(out, zap.String(policy.KeyID, x.s.Tx.ID))
		}
	}
	out = append(out, zap.String("at", place(file, line)))
	ce.Write(out...)
	return 0
}

type noteFields struct{ *glua.LTable }

func (f noteFields) MarshalLogObject(e zapcore.ObjectEncoder) error {
	n := 0
	f.ForEach(func(k, v glua.LValue) {
		if n++; n > maxFields {
			return
		}
		key := clip(k.String(), 64)
		switch v := v.(type) {
		case glua.LString:
			e.AddString(key, clip(string(v), maxReason))
		case glua.LNumber:
			if f := float64(v); f == math.Trunc(f) && math.Abs(f) < 1<<53 {
				e.AddInt64(key, int64(f))
			} else {
				e.AddFloat64(key, f)
			}
		case glua.LBool:
			e.AddBool(key, bool(v))
		default:
			e.AddString(key, "("+v.Type().String()+")")
		}
	})
	return nil
}
