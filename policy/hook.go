package policy

import "fmt"

// Hook is a place of the mail conversation where policy is asked or told.
type Hook uint8

// The asked hooks come first, in the order in which a conversation reaches
// them; the told ones need no answer.
const (
	Connect Hook = iota // before the banner
	Helo                // each HELO, EHLO, LHLO
	Auth                // AUTH, before the credentials are relayed
	Mail                // MAIL FROM
	Rcpt                // each RCPT TO
	Data                // DATA or the first BDAT, before any 354
	Headers             // end of the header, the body is not read yet
	Message             // the whole message is here
	Unknown             // a command that nobody knows
	Vrfy                // VRFY, EXPN

	Answered   // the reply to the command just asked is known
	StartTLS   // the connection is encrypted from here on
	Reset      // RSET, EHLO in a transaction, STARTTLS: the transaction is gone
	Done       // the transaction has ended, with an Outcome
	Disconnect // the session has ended

	numHooks
)

// NumAsked is the number of hooks that are asked; they are numbered from zero.
const NumAsked = int(Answered)

var hookNames = [numHooks]string{
	"connect", "helo", "auth", "mail", "rcpt", "data", "headers", "message", "unknown", "vrfy",
	"answered", "starttls", "reset", "log", "disconnect",
}

// String returns the name of the hook as a policy author writes it.
func (h Hook) String() string {
	if h < numHooks {
		return hookNames[h]
	}
	return fmt.Sprintf("hook(%d)", uint8(h))
}

// HookNamed returns the asked hook of that name. The name "log" stands for
// Done: `log` rules are told at the end of each transaction.
func HookNamed(name string) (Hook, bool) {
	if name == "log" {
		return Done, true
	}
	for h, n := range hookNames[:NumAsked] {
		if n == name {
			return Hook(h), true
		}
	}
	return 0, false
}

// Action is what a verdict wants done.
type Action uint8

const (
	Continue   Action = iota // no opinion: the next rule is asked
	Accept                   // this stage's object is fine: skip the stage's other rules
	Bypass                   // no more rules for this connection (connect, helo) or message
	Reject                   // 5xx
	Tempfail                 // 4xx
	Discard                  // the whole message: 250, and nothing goes upstream
	Drop                     // at rcpt: 250, and this recipient is told to nobody
	Quarantine               // keep a copy, then as Discard; a milter's hold

	numActions
)

var actionNames = [numActions]string{"continue", "accept", "bypass", "reject", "tempfail", "discard", "drop", "quarantine"}

// String returns the name of the action as it stands in the audit line.
func (a Action) String() string {
	if a < numActions {
		return actionNames[a]
	}
	return fmt.Sprintf("action(%d)", uint8(a))
}
