package policy

import (
	"context"
	"time"
)

// World is the one door to all that a judge may ask besides the message: so
// there is one cache, one deadline, one record and one fake.
type World interface {
	Now() time.Time
	Lookup(ctx context.Context, q Query) (Answer, error)
	Limits() Store
}

// Query is one question to the outside. Service says to whom (dns, dnsbl,
// http, rspamd, clamd, spamd), Type and Name what (for dns: "TXT",
// "example.org"); Payload is the service's own.
type Query struct {
	Service, Type, Name string
	Payload             any
}

// Answer is what the outside said. Values holds the records of a dns answer;
// Data is the service's own.
type Answer struct {
	Values []string
	TTL    time.Duration
	Data   any
}

// Hold is a reserved limit. Exactly one of Keep and Release is called, once,
// from the session's goroutine: Keep when what it was taken for has happened,
// Release when it has not. It is an alias, so that a store needs no import.
type Hold = interface {
	Keep()
	Release()
}

// Rate is one rate of a limit: Count in Per, with Burst at once (0 means
// Count). It is an alias, so that a store needs no import.
type Rate = struct {
	Count int64
	Per   time.Duration
	Burst int64
}

// Store is what limits, counters and caches are kept in. now is World.Now():
// a store has no clock. Keys longer than 256 octets are hashed by the store.
// It is called from many goroutines; a call ends within 50 ms or fails.
type Store interface {
	// Take reserves n from every rate of the limit for key, all or nothing. If
	// one of them has less, wait is the time until n would be there and hold
	// is nil.
	Take(ctx context.Context, now time.Time, limit, key string, n int64, rates []Rate) (hold Hold, wait time.Duration, err error)
	// Peek returns how many could be taken now.
	Peek(ctx context.Context, now time.Time, limit, key string, rates []Rate) (int64, error)
	// Reset forgets the key of the limit.
	Reset(ctx context.Context, limit, key string) error
	// Add adds n to a counter that expires ttl after its first Add.
	Add(ctx context.Context, now time.Time, counter, key string, n int64, ttl time.Duration) (total int64, err error)
	// Get returns a cached value, nil if there is none.
	Get(ctx context.Context, now time.Time, cache, key string) ([]byte, error)
	// Set stores a value for ttl. With onlyNew it does not replace one, and
	// reports whether it stored.
	Set(ctx context.Context, now time.Time, cache, key string, value []byte, ttl time.Duration, onlyNew bool) (stored bool, err error)
}

// Filter is an external judge that sees what an MTA would show it: a milter.
// cmd hands it to the front-end's Env; proxy never knows what it is.
type Filter interface {
	Name() string
	Signs() bool // asked after all edits instead of before the rules
	Open(ctx context.Context, s *Session) (Conversation, error)
}

// Conversation is a filter's side of one session. Its edits go through
// Transaction.Do like a rule's.
type Conversation interface {
	Evaluator
	Tell(ev *Event)
	Close() error
}

// Recorder keeps decision records. It must not block.
type Recorder interface {
	Record(tx *Transaction, o *Outcome)
}

// Keeper keeps quarantined messages: the copy is on stable storage before Keep
// returns its id.
type Keeper interface {
	Keep(ctx context.Context, tx *Transaction, v Verdict) (id string, err error)
}
