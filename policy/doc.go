// Package policy is the heart of moongate and its vocabulary.
//
// Every front-end (the SMTP door in package proxy, the milter server in
// package milter) asks the same [Session] the same questions, gets the same
// [Verdict] and performs it in its own wire's words:
//
//	check -> ask -> do     check the syntax and state, ask the policy, do it upstream
//
// # The vocabulary
//
//   - A [Session] is one client's conversation: its [Facts], and between MAIL
//     and the final reply one [Transaction]. One goroutine owns it, always.
//   - A [Hook] is the place where policy is asked; an [Event] is the
//     occurrence. [Session.Ask] is the one door for questions,
//     [Session.Tell] its twin for what needs no answer.
//   - A [Verdict] is one value: an action, the reply for the peer, the reason
//     for the log. The zero Verdict means "no opinion, go on".
//   - An [Edit] is a change as data. [Transaction.Do] records and applies it,
//     so that a script reads its own writes and the audit line lists every
//     change in order. What the peer sent (In) never changes.
//   - [Rules] are one loaded generation of the operator's policy. A
//     transaction is judged by the generation that was current at its MAIL.
//   - A [Face] is the table of what a front-end can honour: hook by action,
//     hook by edit. See the table in face.go; face_test.go spells it out.
//
// # Laws owned here
//
//   - A rule that fails never means pass unless the operator wrote so for that
//     rule (failed.go).
//   - What a script says to the peer is validated before it reaches a wire
//     (reply.go).
//   - In never changes; every change is an Edit in the log (do.go).
//
// # Seams
//
// The interfaces that other rooms fill in are [Evaluator] (policy/script),
// [Filter] (milter), [World] (internal/lookup), [Store] (policy/state),
// [Hold], [Recorder], [Keeper] (internal/quarantine) and [Engine]
// (policy/script, chosen by cmd). This package imports policy/message and no
// other room of ours.
package policy
