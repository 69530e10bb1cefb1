package policy

import (
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// The keys of the operator's lines. They are a promise: tools parse them.
const (
	KeyID       = "id"
	KeySession  = "session"
	KeyListener = "listener"
	KeyClient   = "client" // name[address], as Postfix writes it
	KeyPeer     = "peer"   // an MTA whose connection to the milter broke
	KeyHelo     = "helo"
	KeyProto    = "proto"
	KeyTLS      = "tls"
	KeyUser     = "user"
	KeyStage    = "stage"
	KeyCode     = "code"
	KeyMeant    = "meant" // the code that soft_bounce turned into a 4xx
	KeyReply    = "reply"
	KeyFrom     = "from"
	KeyTo       = "to"
	KeyRcpts    = "rcpts"
	KeyRule     = "rule"
	KeyBy       = "by"
	KeyReason   = "reason"
	KeySize     = "size"
	KeyVerdict  = "verdict"
	KeyEdits    = "edits"
	KeyPolicy   = "policy"
	KeyUpstream = "upstream"
	KeyQueuedAs = "queued_as"
	KeyMsgID    = "msgid"
	KeyStages   = "stages"
	KeyMillis   = "ms"
	KeyEOL      = "eol"
	KeyKept     = "quarantine"
	KeyAmbig    = "ambiguous"
	KeyOnError  = "on_error"
	KeyFilter   = "filter"
	KeyFilters  = "filters"
	KeyCounts   = "commands"
	KeyCause    = "cause"
	KeyStack    = "stack"
)

// ClientName is the client as the log and a Received line name it:
// "mail.example[192.0.2.1]", "unknown[192.0.2.1]" without a confirmed name,
// "unknown[unknown]" for a stranger that was named without an address.
func (f *Facts) ClientName() string {
	name := f.PTR
	if name == "" {
		name = "unknown"
	}
	switch {
	case f.Remote.IsValid():
	case f.Stranger:
		return name + "[unknown]"
	default:
		return "local"
	}
	return name + "[" + f.Remote.Addr().Unmap().String() + "]"
}

// connectLine is written when the first command is answered, or at the end for
// a client that sent none.
func (s *Session) connectLine() {
	if s.greeted || s.Unnamed {
		return
	}
	s.greeted = true
	s.log.Info("connect", zap.String(KeySession, s.ID), zap.String(KeyListener, s.Listener), zap.String(KeyClient, s.ClientName()))
}

// quiet reports a client that gave no command and of whom nobody wants to read.
func (s *Session) quiet() bool {
	return !s.greeted && len(s.counts) == 0 && s.Env.Quiet != nil && s.Remote.IsValid() && s.Env.Quiet(s.Remote.Addr().Unmap())
}

// refuseLine is written for each refused command.
func (s *Session) refuseLine(ev *Event, verb string) {
	s.connectLine()
	tx, decided := s.Tx, s.Verdict
	s.log.Info("refuse", zap.Inline(zapcore.ObjectMarshalerFunc(func(e zapcore.ObjectEncoder) error {
		e.AddString(KeySession, s.ID)
		e.AddString(KeyClient, s.ClientName())
		e.AddString(KeyStage, verb)
		e.AddInt(KeyCode, ev.Reply.Code)
		if ev.Meant != 0 && ev.Meant != ev.Reply.Code {
			e.AddInt(KeyMeant, ev.Meant)
		}
		e.AddString(KeyReply, ev.Reply.String())
		e.AddString(KeyBy, string(ev.By))
		e.AddString(KeyHelo, s.Helo)
		if s.Proto != "" {
			e.AddString(KeyProto, s.Proto)
		}
		if tx != nil {
			e.AddString(KeyID, tx.ID)
			e.AddString(KeyFrom, tx.In.From.Address)
			e.AddString(KeyPolicy, tx.Rules.version())
		}
		if ev.Rcpt != nil {
			e.AddString(KeyTo, ev.Rcpt.In.Address)
		}
		if ev.By == ByPolicy || ev.By == ByFilter {
			e.AddString(KeyRule, decided.Rule.String())
			if decided.Reason != "" {
				e.AddString(KeyReason, decided.Reason)
			}
		}
		if ev.Cause != "" {
			e.AddString(KeyCause, ev.Cause)
		}
		return nil
	})))
}

// version is safe on nil.
func (r *Rules) version() string {
	if r == nil {
		return ""
	}
	return r.Version
}

// messageLine is the audit line: one for each transaction, whatever its end.
func (s *Session) messageLine(o *Outcome) {
	if ce := s.log.Check(zapcore.InfoLevel, "message"); ce != nil {
		ce.Write(zap.Inline(&auditLine{s, s.Tx, o}))
	}
}

type auditLine struct {
	s  *Session
	tx *Transaction
	o  *Outcome
}

// MarshalLogObject writes the audit line. No body, no secrets.
func (a *auditLine) MarshalLogObject(e zapcore.ObjectEncoder) error {
	s, tx, o := a.s, a.tx, a.o
	e.AddString(KeyID, tx.ID)
	e.AddString(KeySession, s.ID)
	e.AddString(KeyListener, s.Listener)
	e.AddString(KeyClient, s.ClientName())
	e.AddString(KeyHelo, s.Helo)
	e.AddString(KeyProto, s.Proto)
	if s.TLS != nil {
		e.AddString(KeyTLS, s.TLS.Version)
	}
	if s.User != "" {
		e.AddString(KeyUser, s.User)
	}
	e.AddString(KeyFrom, tx.In.From.Address)
	e.AddArray(KeyRcpts, rcptList(tx.Rcpts))
	e.AddInt64(KeySize, o.Size)
	if tx.Message != nil {
		if f, ok := tx.Message.Header.Get("Message-ID", 1); ok {
			e.AddString(KeyMsgID, clip(f.Value(), 256))
		}
	}
	e.AddString(KeyVerdict, o.Word())
	e.AddString(KeyBy, string(o.By))
	if r := tx.Decider(o); r != nil {
		e.AddString(KeyRule, r.String())
	}
	if o.Verdict.Reason != "" {
		e.AddString(KeyReason, o.Verdict.Reason)
	}
	if len(tx.Edits) > 0 {
		e.AddArray(KeyEdits, editList(tx.Edits))
	}
	if len(tx.Filters) > 0 {
		e.AddArray(KeyFilters, filterList(tx.Filters))
	}
	e.AddString(KeyPolicy, tx.Rules.version())
	e.AddString(KeyUpstream, tx.Upstream)
	e.AddString(KeyReply, o.Reply.String())
	if o.QueuedAs != "" {
		e.AddString(KeyQueuedAs, o.QueuedAs)
	}
	if o.Kept != "" {
		e.AddString(KeyKept, o.Kept)
	}
	if o.Cause != "" {
		e.AddString(KeyCause, o.Cause)
	}
	if o.Ambiguous {
		e.AddBool(KeyAmbig, true)
	}
	if tx.EOL > 0 {
		e.AddInt(KeyEOL, tx.EOL)
	}
	e.AddObject(KeyStages, (*stageTimes)(&tx.Stages))
	e.AddFloat64(KeyMillis, millis(time.Since(tx.Start)))
	return nil
}

// Decider is the rule that decided a message: the outcome's, else the last that
// accepted or bypassed. What a filter decided no rule did.
func (tx *Transaction) Decider(o *Outcome) *Rule {
	if o.Verdict.Rule != nil {
		return o.Verdict.Rule
	}
	if o.By == ByFilter {
		return nil
	}
	for i := len(tx.Steps) - 1; i >= 0; i-- {
		if st := tx.Steps[i]; st.Rule != nil && !st.Shadow && st.Hook != Rcpt && st.Verdict.Decided() {
			return st.Rule
		}
	}
	return nil
}

type rcptList []*Recipient

func (l rcptList) MarshalLogArray(e zapcore.ArrayEncoder) error {
	for _, r := range l {
		e.AppendObject(rcptObject{r})
	}
	return nil
}

type rcptObject struct{ *Recipient }

func (r rcptObject) MarshalLogObject(e zapcore.ObjectEncoder) error {
	if r.Added {
		e.AddString(KeyTo, r.Out.Address)
		e.AddBool("added", true)
	} else {
		e.AddString(KeyTo, r.In.Address)
		if r.Out.Address != r.In.Address {
			e.AddString("as", r.Out.Address)
		}
	}
	switch r.State {
	case RcptDropped:
		e.AddBool("dropped", true)
		if r.rule != nil {
			e.AddString(KeyRule, r.rule.String())
		}
		if r.reason != "" {
			e.AddString(KeyReason, r.reason)
		}
	case RcptRemoved:
		e.AddBool("removed", true)
	}
	if r.Duplicate {
		e.AddBool("duplicate", true)
	}
	if !r.Reply.IsZero() {
		e.AddString(KeyReply, r.Reply.String())
	}
	return nil
}

type editList []Edit

func (l editList) MarshalLogArray(e zapcore.ArrayEncoder) error {
	for _, s := range EditLines(l) {
		e.AppendString(s)
	}
	return nil
}

type filterList []FilterResult

func (l filterList) MarshalLogArray(e zapcore.ArrayEncoder) error {
	for _, f := range l {
		e.AppendString(f.Name + "=" + f.word())
	}
	return nil
}

type stageTimes [NumAsked]time.Duration

func (t *stageTimes) MarshalLogObject(e zapcore.ObjectEncoder) error {
	for h, d := range t {
		if d > 0 {
			e.AddFloat64(hookNames[h], millis(d))
		}
	}
	return nil
}

// millis is a duration in milliseconds with three decimals.
func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n] + "..."
}
