// Package script is the policy API: what a policy author writes in Lua, and how
// it becomes rules that package policy asks.
//
// The language itself (the compile pass, budgets, sandbox) is package
// policy/lua, which knows nothing of mail. Here are its words for mail.
//
// # From files to verdicts
//
//	Load       a snapshot of the directory -> every problem, or a Policy
//	Policy     one version: its rules, declared objects and pool of states
//	rule.Eval  borrows a state for one call of one hook
//	Engine     the current Policy; reloads, and keeps the old one on any problem
//
// # The API is a table
//
// Functions, libraries and classes are described once, in the api_*.go files:
// name, parameters, types, stages, text. Registration, the names for the load
// check, the editor's stubs (types/moongate.lua) and docs/lua-reference.md are
// made from that table; a test fails if they differ.
//
// # What lives where
//
// A state (a Lua VM) belongs to a Policy and serves any connection, one call
// at a time. Nothing in it changes after loading, so all states of a version
// are interchangeable. Objects such as conn belong to the session, are kept in
// its Vars and carry no VM, so they travel between states and versions; so do
// the tables conn.data and msg.data, which hold plain values only and are
// checked when a hook ends. Limits, counters and caches are in the Store, by
// name, and outlive every version. Lists belong to the Engine.
//
// An object is valid during the hook it was given to: outside it knows no
// state and every use of it is an error.
package script
