package policy

import "time"

// Face is what a front-end can honour: which action at which hook, which edit
// at which hook. Loading a policy and every Ask look it up here.
type Face struct {
	Name     string
	MaxDelay time.Duration // what a verdict's Delay is cut to

	actions [NumAsked][numActions]bool
	edits   [NumAsked][numEdits]bool
}

// Can reports whether the face performs action a as an answer at hook h.
func (f *Face) Can(h Hook, a Action) bool {
	return int(h) < NumAsked && a < numActions && f.actions[h][a]
}

// CanEdit reports whether an edit of kind k may be recorded at hook h.
func (f *Face) CanEdit(h Hook, k EditKind) bool {
	return int(h) < NumAsked && k < numEdits && f.edits[h][k]
}

// Asks reports whether the face ever asks at hook h.
func (f *Face) Asks(h Hook) bool { return int(h) < NumAsked && f.actions[h][Continue] }

// The two faces. A policy that is served on both must be legal on both.
var (
	// A session that waits still costs a connection.
	SMTP = newFace("smtp", 30*time.Second)
	// A milter never sees AUTH, VRFY, EXPN; and an MTA waits 30 s for an answer,
	// which the questions behind a delay want their part of.
	Milter = newFace("milter", 15*time.Second, Auth, Vrfy)
)

func newFace(name string, maxDelay time.Duration, without ...Hook) *Face {
	f := &Face{Name: name, MaxDelay: maxDelay}
	can := func(h Hook, actions ...Action) {
		f.actions[h][Continue] = true
		for _, a := range actions {
			f.actions[h][a] = true
		}
	}
	can(Connect, Accept, Bypass, Reject, Tempfail)
	can(Helo, Accept, Bypass, Reject, Tempfail)
	can(Auth, Accept, Reject, Tempfail)
	can(Mail, Accept, Bypass, Reject, Tempfail, Discard, Quarantine)
	can(Rcpt, Accept, Bypass, Reject, Tempfail, Drop)
	can(Data, Accept, Bypass, Reject, Tempfail, Discard, Quarantine)
	can(Headers, Accept, Bypass, Reject, Tempfail, Discard, Quarantine)
	can(Message, Accept, Bypass, Reject, Tempfail, Discard, Quarantine)
	can(Unknown, Accept, Reject, Tempfail)
	can(Vrfy, Accept, Reject, Tempfail)

	edit := func(h Hook, kinds ...EditKind) {
		for _, k := range kinds {
			f.edits[h][k] = true
		}
	}
	// A header that is not here yet can be added to, not changed.
	edit(Mail, AddHeader, InsertHeader, SetSender, AddRcpt)
	edit(Rcpt, AddHeader, InsertHeader, SetSender, AddRcpt, RemoveRcpt, ReplaceRcpt)
	edit(Data, AddHeader, InsertHeader, SetSender, AddRcpt, RemoveRcpt, ReplaceRcpt)
	edit(Headers, AddHeader, InsertHeader, ChangeHeader, RemoveHeader, SetSender, AddRcpt, RemoveRcpt, ReplaceRcpt)
	edit(Message, AddHeader, InsertHeader, ChangeHeader, RemoveHeader, SetSender, AddRcpt, RemoveRcpt, ReplaceRcpt, ReplaceBody)

	for _, h := range without {
		f.actions[h] = [numActions]bool{}
		f.edits[h] = [numEdits]bool{}
	}
	return f
}
