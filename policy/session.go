package policy

import (
	"context"
	"crypto/rand"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
)

// TLS is what is known of an encrypted connection.
type TLS struct {
	Version, Cipher, SNI string
	Peer                 string // subject of the verified client certificate, "" without one
}

// Facts are what the front-end knows of a client. They are given, never read
// from a net.Conn: a simulated client has an address, too.
type Facts struct {
	ID       string // of the session; empty means "make one"
	Listener string
	Remote   netip.AddrPort // invalid for a unix socket
	Local    netip.AddrPort
	PTR      string // forward-confirmed name, "" if there is none
	PTRTemp  bool   // whether there is one could not be said: DNS was in trouble
	Helo     string // "" before it
	Proto    string // SMTP, ESMTP, LMTP; "" before HELO
	TLS      *TLS   // nil in clear
	User     string // "" if the client has not logged in
	Stranger bool   // neither local, nor in networks, nor logged in
}

// Env is what all sessions of a front-end share. Engine, Face and Log must be
// set; it does not change once sessions exist.
type Env struct {
	Engine   Engine
	Face     *Face
	World    World
	Log      *zap.Logger
	Metrics  *Metrics // nil: nothing is counted
	Recorder Recorder // nil: nothing is recorded
	Keeper   Keeper   // nil: quarantine is not possible
	Filters  []Filter

	SoftBounce bool   // every 5xx of ours leaves as 4xx
	Footer     string // behind the last line of each refusal of ours; {id} is the message's or session's id

	HookTime    time.Duration // wall time of one rule; default 2 s
	MessageTime time.Duration // the same at message; default 75 s
	StageTime   time.Duration // all rules and filters of one stage; default 20 s
	AllTime     time.Duration // the same at message; default 120 s

	// Quiet names clients whose connections are not logged unless they give a
	// command: health checks. nil: there are none.
	Quiet func(netip.Addr) bool
}

// Session is one client's conversation. One goroutine owns it, always.
type Session struct {
	Facts
	Env   *Env
	Face  *Face
	World World
	Ctx   context.Context // cancelled when the client is gone; the one context kept in a struct
	Vars  any             // the evaluator's own
	Tx    *Transaction    // nil between messages
	Start time.Time

	// Unnamed says that the client is to be named later (XFORWARD): until then
	// the front-end's peer is not written into the connect line.
	Unnamed bool

	Verdict Verdict // the last one that decided, for the refuse line

	now      Verdict // the answer in the making, see Ask
	convs    []filterConv
	delayed  [Helo + 1]Verdict // at connect and helo, to be given at rcpt; that of mail is the transaction's
	bypassed bool
	errors   int // rules that failed
	serial   int // messages so far
	greeted  bool
	closer   Source  // who ended the session by a reply; "": nobody yet
	closing  Verdict // by which, if a verdict did
	log      *zap.Logger
	counts   []count
	messages int // transactions that ended
}

// NewSession begins a conversation. ctx is cancelled by the front-end when the
// client is gone.
func (e *Env) NewSession(ctx context.Context, f Facts) *Session {
	if f.ID == "" {
		f.ID = NewID()
	}
	return &Session{
		Facts: f, Env: e, Face: e.Face, World: e.World, Ctx: ctx,
		Start: time.Now(), log: e.Log,
	}
}

// idLetters hold no vowels: an id spells no word.
const idLetters = "0123456789BCDFGHJKLMNPQRSTVWXYZ"

// NewID makes a session id of 12 characters (59 random bits).
func NewID() string {
	var b [12]byte
	rand.Read(b[:])
	for i, c := range b {
		b[i] = idLetters[int(c)*len(idLetters)>>8]
	}
	return string(b[:])
}

// Begin opens a transaction at MAIL, before it is asked, and pins the rules.
func (s *Session) Begin(from Path, params []Param) *Transaction {
	s.serial++
	tx := &Transaction{
		ID:      s.ID + "." + strconv.Itoa(s.serial),
		Session: s,
		Rules:   s.Env.Engine.Rules(&s.Facts),
		Start:   time.Now(),
		In:      Envelope{From: from, Params: params},
		Out:     Envelope{From: from, Params: params},
		hook:    Mail,
	}
	s.Tx = tx
	return tx
}

// CurrentID is the id that a reply of ours carries: the message's, before MAIL
// the session's.
func (s *Session) CurrentID() string {
	if s.Tx != nil {
		return s.Tx.ID
	}
	return s.ID
}

// Refusal makes a refusal of ours ready for the peer: soft_bounce, and the
// footer behind its last line. The upstream's replies come back as they are.
func (s *Session) Refusal(r Reply) Reply {
	if !r.Refuses() || r.Raw != nil {
		return r
	}
	if s.Env.SoftBounce {
		r = r.Soft()
	}
	if s.Env.Footer != "" {
		r = r.WithFooter(strings.ReplaceAll(s.Env.Footer, "{id}", s.CurrentID()))
	}
	return r
}

// Wants reports whether asking at this hook can have an effect: a rule or a
// filter is there. A front-end reads what no hook wants without keeping it.
func (s *Session) Wants(h Hook) bool {
	if len(s.Env.Filters) > 0 {
		return true
	}
	return s.rulesAt(h)
}

// rulesAt reports whether rules are asked at this hook.
func (s *Session) rulesAt(h Hook) bool { return !s.exempt() && s.rules().Any(h) }

// exempt reports whether a rule has said that no more are to be asked.
func (s *Session) exempt() bool { return s.bypassed || s.Tx != nil && s.Tx.bypassed }

// rules are those of the transaction, or of this moment.
func (s *Session) rules() *Rules {
	if s.Tx != nil {
		return s.Tx.Rules
	}
	return s.Env.Engine.Rules(&s.Facts)
}

// Event is one occurrence of a hook.
type Event struct {
	Hook     Hook
	Rcpt     *Recipient // rcpt: under judgement
	Attempt  *Attempt   // auth
	Line     []byte     // unknown, vrfy: the command line without CRLF
	Deadline time.Time  // set by Ask: a value, not a context; who blocks makes one

	// For Answered: the reply that the peer hears to a command.
	Verb  string // MAIL, RCPT, ... upper case, "" for an unknown one
	Reply Reply
	By    Source // who decided it
	Meant int    // its code before soft_bounce made a 4xx of it; 0: the reply's own

	Outcome *Outcome // for Done

	Cause string // Reset, Disconnect: why; By tells who, for Disconnect

	holds []Hold // taken while this event was asked
}

// Attempt is an AUTH command.
type Attempt struct {
	Mech       string // upper case
	User, Pass string // "" where the mechanism does not show them
}

// Hold notes a limit taken while this event is asked. It follows the
// recipient, then the message; what is taken at connect, helo, auth or log is
// kept at once.
func (ev *Event) Hold(h Hold) { ev.holds = append(ev.holds, h) }

// Source says who decided a reply.
type Source string

const (
	ByPolicy   Source = "policy"
	ByFilter   Source = "filter"
	ByUpstream Source = "upstream"
	ByMoongate Source = "moongate" // syntax, limits, the relay guard, outages
	ByClient   Source = "client"   // it went away or gave up
)

// Outcome is how a transaction ended.
type Outcome struct {
	Action    Action // Accept: the upstream took it; Reject, Tempfail, Discard, Quarantine; Continue: aborted
	Reply     Reply  // the final reply; zero when the transaction was aborted
	By        Source
	Cause     string // why it was aborted or failed, for the log
	QueuedAs  string // the upstream's queue id, as it named it
	Kept      string // the quarantine's id
	Size      int64  // octets received; 0 if no body came
	Ambiguous bool   // the upstream broke between the final dot and its reply
	Verdict   Verdict
}

// Word is the outcome as the audit line names it.
func (o *Outcome) Word() string {
	switch o.Action {
	case Accept:
		return "accepted"
	case Reject:
		return "rejected"
	case Tempfail:
		return "tempfailed"
	case Discard:
		return "discarded"
	case Quarantine:
		return "quarantined"
	}
	return "aborted"
}
