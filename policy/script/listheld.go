package script

import (
	"cmp"
	"crypto/sha256"
	"errors"
	"io/fs"
	"slices"
	"time"

	"go.uber.org/zap"
)

// A list that vanished, became empty, or lost more than half of over 20
// entries has probably been cut off by whoever writes it: it keeps its old
// content until the new one is accepted by hand, or has stood for a minute
// where the operator allows lists to shrink.
const (
	shrinkOver = 20
	shrinkRest = time.Minute
)

// held is a list's new content while it is not believed.
type held struct {
	entries // nil: the file has a mistake, there is nothing to take
	since   time.Time
	why     string
	byHand  bool // however long it stands: time does not tell what a file says that cannot be read
}

// ListChange is a list that was held back: what it had before, and what its
// file says.
type ListChange struct {
	File            string // relative to the policy directory
	Before, Entries int
	Why             string // it was held back: "its file is gone", or its mistake
	Wrong           bool   // the file has a mistake, and cannot be accepted
}

// follow looks at a list's file and takes what it says, or says why not.
func (s *listSet) follow(l *fileList) {
	f, ok := s.file(l.file)
	if !ok || errors.Is(f.Err, fs.ErrNotExist) { // a link may lead nowhere
		f.Err = fs.ErrNotExist
	}
	sum := sha256.Sum256(f.Data)
	if f.Err != nil {
		sum = sha256.Sum256([]byte("\x00error " + f.Err.Error()))
	}
	if sum == l.sum {
		s.ripe(l)
		return
	}
	l.sum, l.held = sum, nil
	e, err := parseList(l.kind, f.Data) // without a file: no entries
	old := (*l.now.Load()).len()
	if err != nil {
		l.held = &held{why: err.Error()}
		s.log.Warn("list kept", zap.String("list", l.file), zap.Int("entries", old), zap.Error(err))
		return
	}
	h := held{entries: e, since: s.clock()}
	switch {
	case f.Err == fs.ErrNotExist:
		h.why = "its file is gone"
	case f.Err != nil:
		h.why, h.byHand = "its file cannot be read: "+f.Err.Error(), true
	case e.len() == 0 && old > 0:
		h.why = "it is empty now"
	case old > shrinkOver && 2*e.len() < old:
		h.why = "it lost more than half of its entries"
	default:
		s.take(l, e)
		return
	}
	l.held = &h
	s.log.Warn("list kept", zap.String("list", l.file), zap.String("reason", h.why),
		zap.Int("entries", old), zap.Int("would_be", e.len()), zap.String("accept", "moongate reload --accept-lists"))
}

func (s *listSet) take(l *fileList, e entries) {
	before := (*l.now.Swap(&e)).len()
	l.held = nil
	s.log.Info("list loaded", zap.String("list", l.file), zap.Int("entries", e.len()), zap.Int("before", before)) // and not before it serves
}

// ripe takes what was held back once it has stood long enough.
func (s *listSet) ripe(l *fileList) {
	if h := l.held; h != nil && h.entries != nil && !h.byHand && s.allowShrink && s.clock().Sub(h.since) >= shrinkRest {
		s.take(l, h.entries)
	}
}

// ripen looks for lists that may shrink now.
func (s *listSet) ripen() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.known {
		s.ripe(l)
	}
}

// heldBack says what is held back, by file; take also takes what can be taken,
// and says no more than that.
func (s *listSet) heldBack(take bool) (all []ListChange) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.known {
		h := l.held
		if h == nil || take && h.entries == nil {
			continue
		}
		c := ListChange{File: l.file, Before: (*l.now.Load()).len(), Why: h.why, Wrong: h.entries == nil}
		if h.entries != nil {
			c.Entries = h.len()
		}
		if all = append(all, c); take {
			s.take(l, h.entries)
		}
	}
	slices.SortFunc(all, func(a, b ListChange) int { return cmp.Compare(a.File, b.File) })
	return all
}

// allow says whether lists may shrink from now on.
func (s *listSet) allow(shrink bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.allowShrink = shrink
}
