package proxy

import (
	"bytes"

	"github.com/moongate/moongate/policy"
)

// command is how a verb is treated: check -> ask -> do, in that order. check
// and ask answer the client themselves when they are in the way, and then
// return false.
type command struct {
	check func(*session, *call) *policy.Reply // syntax and state; a reply refuses
	ask   policy.Hook                         // who is asked; nobody at Answered
	do    func(*session, *call, policy.Verdict)
}

// call is one command line.
type call struct {
	verb      string // upper case
	arg, line []byte // valid until the next read

	rcpt *policy.Recipient // RCPT, once checked
}

// nobody stands in the table where no hook is asked.
const nobody = policy.Answered

// commands is the table of what is understood. Verbs that are known and not
// offered are refused here and never forwarded: with a trusted address of ours
// behind it, a client's own XCLIENT would be believed.
var commands map[string]*command

func init() { // the functions refer to the table
	commands = map[string]*command{
		"HELO": {(*session).checkHelo, policy.Helo, junk((*session).helo)},
		"EHLO": {(*session).checkHelo, policy.Helo, junk((*session).helo)},
		"MAIL": {(*session).checkMail, policy.Mail, (*session).mail},
		"RCPT": {(*session).checkRcpt, policy.Rcpt, (*session).rcpt},
		"DATA": {(*session).checkData, policy.Data, (*session).data},
		"RSET": {checkNoArg, nobody, junk((*session).rset)},
		"NOOP": {checkAny, nobody, junk(says(&replyOK))}, // RFC 5321 4.1.1.9: an argument is ignored
		"HELP": {checkAny, nobody, junk(says(&replyHelp))},
		"VRFY": {checkArg, policy.Vrfy, junk(says(&replyVrfy))},
		"EXPN": {checkArg, policy.Vrfy, says(&replyNotHere)},
		"QUIT": {checkNoArg, nobody, (*session).quit},

		"AUTH":     {never(&replyNoAuth), nobody, nil},
		"STARTTLS": {never(&replyNoTLS), nobody, nil},
		"BDAT":     {never(&replyNotHere), nobody, nil},
		"ETRN":     {never(&replyNotHere), nobody, nil},
		"XCLIENT":  {never(&replyNotHere), nobody, nil},
		"XFORWARD": {(*session).checkForward, nobody, says(&replyForwarded)}, // from listed peers only
		"LHLO":     {never(&replyNotHere), nobody, nil},
	}
}

// unknown is how a verb is treated that is not in the table.
var unknown = &command{checkAny, policy.Unknown, says(&replyUnknown)}

// notSMTP are verbs of clients that were sent here by somebody else (a web
// page, a proxy): what they say next is not theirs, so they are dropped.
var notSMTP = map[string]bool{"GET": true, "POST": true, "PUT": true, "HEAD": true, "CONNECT": true, "OPTIONS": true, "DELETE": true}

// command performs one command line.
func (s *session) command(line []byte) {
	word, n, arg := splitCommand(line)
	verb := word[:n]
	cmd := commands[string(verb)]
	if notSMTP[string(verb)] {
		s.answer("", replyHTTP, policy.ByMoongate, nil)
		s.close("not SMTP")
		return
	}
	k := call{arg: arg, line: line}
	if cmd == nil {
		cmd = unknown
	} else {
		k.verb = string(verb)
	}
	if !printable(line, k.verb == "MAIL" || k.verb == "RCPT") {
		s.answer(k.verb, replyGarbage, policy.ByMoongate, nil)
		s.misforwarded()
		return
	}
	s.perform(cmd, &k)
}

// perform is check -> ask -> do.
func (s *session) perform(cmd *command, k *call) {
	if k.verb != "RCPT" || s.policy.Wants(policy.Rcpt) && !s.relay.onlyMail() {
		s.collect() // what is asked now knows what became of what stood before
		if s.cause != "" {
			return // 421 was said, and what stands behind it must not be done
		}
	}
	if r := cmd.check(s, k); r != nil {
		s.failedCheck(k, r)
		return
	}
	if k.verb == "MAIL" && s.refused.Refuses() { // connect or helo of the client that a forwarder named
		s.refuse(k.verb, s.refused, nil)
		return
	}
	if cmd.ask == nobody || cmd.ask == policy.Helo && s.forwarder { // his is asked at MAIL
		cmd.do(s, k, policy.Verdict{})
		return
	}
	s.consult(cmd, k)
	s.obey(cmd, k)
}

// failedCheck answers a command that stands at the wrong place or is malformed.
func (s *session) failedCheck(k *call, r *policy.Reply) {
	s.answer(k.verb, *r, policy.ByMoongate, k.rcpt)
	switch k.verb {
	case "DATA":
		s.dataRefused()
	case "BDAT": // RFC 3030: its octets follow, whatever we say
		s.close("BDAT was not offered")
	}
}

// consult asks the policy about a command; the answer is in s.verdict. Between
// here and the rule stands nothing large: many may wait at once.
func (s *session) consult(cmd *command, k *call) {
	s.event = policy.Event{Rcpt: k.rcpt}
	if cmd.ask == policy.Unknown || cmd.ask == policy.Vrfy {
		s.event.Line = k.line
	} else {
		s.in.free() // the line has been read: who waits for a judge holds no buffer
	}
	s.verdict = s.ask(cmd.ask)
}

// obey does what the policy said of a command.
func (s *session) obey(cmd *command, k *call) {
	v := s.verdict
	if v.Refuses() {
		r := s.refuse(k.verb, v, k.rcpt)
		if cmd.ask == policy.Data { // there is nothing to send
			o := verdictOutcome(v)
			o.Reply = r
			s.finish(o)
			s.dataRefused()
		}
		return
	}
	s.delay(v)
	cmd.do(s, k, v)
	if v.Close {
		s.close("policy")
	}
}

// longestVerb is that of a command in the table or of one that is not SMTP.
const longestVerb = 8

// splitCommand cuts a line at its first blank. The verb is in upper case, and
// empty if it is longer than any that is known; the line stays as it came.
func splitCommand(line []byte) (verb [longestVerb]byte, n int, arg []byte) {
	word, arg, _ := bytes.Cut(line, []byte(" "))
	if len(word) > longestVerb {
		return verb, 0, nil
	}
	for i, c := range word {
		if c >= 'a' && c <= 'z' {
			c -= 'a' - 'A'
		}
		verb[i] = c
	}
	return verb, len(word), bytes.Trim(arg, " \t")
}

// printable reports whether a line is text: no control characters but tabs,
// and 8-bit octets only where an address may hold them (RFC 6531 3.4; the
// address parser decides).
func printable(line []byte, eightBit bool) bool {
	for _, c := range line {
		if c < ' ' && c != '\t' || c == 0x7f || c >= 0x80 && !eightBit {
			return false
		}
	}
	return true
}

func checkAny(*session, *call) *policy.Reply { return nil }

func checkNoArg(_ *session, k *call) *policy.Reply {
	if len(k.arg) > 0 {
		return &replyNoArg
	}
	return nil
}

func checkArg(_ *session, k *call) *policy.Reply {
	if len(k.arg) == 0 {
		return &replyNeedArg
	}
	return nil
}

// never refuses a command that this door does not offer.
func never(r *policy.Reply) func(*session, *call) *policy.Reply {
	return func(*session, *call) *policy.Reply { return r }
}

// says answers a command whatever its argument.
func says(r *policy.Reply) func(*session, *call, policy.Verdict) {
	return func(s *session, k *call, _ policy.Verdict) {
		s.answer(k.verb, *r, policy.ByMoongate, nil)
		s.out.flush() // RFC 2920 3.2: replies to NOOP, VRFY, EXPN are not held
	}
}

// junk is a command that is answered and leads to no message by itself: a client
// that says nothing else could keep its place for ever. Beyond a limit each
// counts as an error. What is refused counts as one anyway.
func junk(do func(*session, *call, policy.Verdict)) func(*session, *call, policy.Verdict) {
	return func(s *session, k *call, v policy.Verdict) {
		do(s, k, v)
		if s.junk++; s.junk > s.set.Limits.Junk {
			s.erred()
		}
	}
}

// rset ends the transaction. RFC 5321 4.1.1.5.
func (s *session) rset(k *call, _ policy.Verdict) {
	s.forgetTransaction("RSET")
	s.answer(k.verb, replyOK, policy.ByMoongate, nil)
}

// quit ends the session. RFC 5321 4.1.1.10.
func (s *session) quit(k *call, _ policy.Verdict) {
	s.answer(k.verb, replyBye, policy.ByMoongate, nil)
	s.close("quit")
}

// forgetTransaction ends a transaction that the client gave up. Whom a forwarder
// named for it is forgotten also if there was none.
func (s *session) forgetTransaction(cause string) {
	s.forward = nil
	if s.policy.Tx == nil {
		return
	}
	s.tellEnd(&policy.Event{Hook: policy.Reset, Cause: cause})
	s.relay.settleDown()
	s.swallow, s.dropped = policy.Verdict{}, false
}

// finish ends the transaction.
// The client has its answer by then.
func (s *session) finish(o *policy.Outcome) {
	if s.policy.Tx != nil {
		s.tellEnd(&policy.Event{Hook: policy.Done, Outcome: o})
	}
	if o.Action == policy.Accept {
		s.errors = 0
	}
	if o.Reply.Positive() { // of a discarded one, too: its client has sent a message
		s.junk = 0
	}
	s.relay.settleDown()
	s.swallow, s.dropped, s.forward = policy.Verdict{}, false, nil
}

// verdictOutcome is the end of a message by a verdict.
func verdictOutcome(v policy.Verdict) *policy.Outcome {
	return &policy.Outcome{Action: v.Action, Reply: v.Reply, By: source(v), Verdict: v}
}
