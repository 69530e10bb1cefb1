package script

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/moongate/moongate/internal/watch"
)

// A list that vanished, became empty, or lost more than half of over 20
// entries has probably been cut off by whoever writes it: it keeps its old
// content until the new one is accepted by hand, or has stood for a minute
// where the operator allows lists to shrink.
const (
	shrinkOver = 20
	shrinkRest = time.Minute
)

// listSet holds the lists that come from files. It outlives versions, so an old
// and a new one see the same content.
type listSet struct {
	log         *zap.Logger
	allowShrink bool
	clock       func() time.Time

	mu    sync.Mutex
	files map[string]watch.File // of the last snapshot
	known map[string]*fileList  // by kind and file
}

// fileList is a list and what its file says that is not taken yet.
type fileList struct {
	list
	sum     [sha256.Size]byte // of the content last looked at, taken or not
	pending entries           // nil: nothing is held back
	since   time.Time
	why     string
}

func newListSet(log *zap.Logger, allowShrink bool) *listSet {
	return &listSet{log: log, allowShrink: allowShrink, clock: time.Now, known: map[string]*fileList{}}
}

// see takes notice of a snapshot: lists that are open follow their files.
func (s *listSet) see(files []watch.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files = make(map[string]watch.File, len(files))
	for _, f := range files {
		s.files[f.Name] = f
	}
	for _, l := range s.known {
		s.follow(l)
	}
}

// isFile reports whether the last snapshot has such a file, or a list knows it.
func (s *listSet) isFile(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.files[name]
	for k := range numKinds {
		ok = ok || s.known[k.String()+" "+name] != nil
	}
	return ok
}

// open gives the list of a file. A file that nobody has read yet must be there.
func (s *listSet) open(name string, kind listKind) (*list, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	key := kind.String() + " " + name
	if l := s.known[key]; l != nil {
		return &l.list, nil
	}
	f, ok := s.files[name]
	if !ok {
		return nil, fmt.Errorf("there is no file %q in the policy directory", name)
	}
	if f.Err != nil {
		return nil, fmt.Errorf("%s: %w", name, f.Err)
	}
	l := &fileList{list: list{kind: kind, file: name}, sum: sha256.Sum256(f.Data)}
	e, err := parseList(kind, f.Data)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	l.now.Store(&e)
	s.known[key] = l
	return &l.list, nil
}

// follow looks at a list's file and takes what it says, or says why not.
func (s *listSet) follow(l *fileList) {
	f, ok := s.files[l.file]
	var sum [sha256.Size]byte
	switch {
	case !ok:
		sum[0] = 1
	case f.Err != nil:
		sum = sha256.Sum256([]byte("error " + f.Err.Error()))
	default:
		sum = sha256.Sum256(f.Data)
	}
	if sum == l.sum {
		s.ripe(l)
		return
	}
	l.sum, l.pending, l.why = sum, nil, ""
	e, err := s.read(f, ok, l.kind)
	old := (*l.now.Load()).len()
	switch {
	case err != nil:
		s.log.Warn("list kept", zap.String("list", l.file), zap.Int("entries", old), zap.Error(err))
		return
	case e.len() == 0 && old > 0:
		l.why = "it is empty now"
	case old > shrinkOver && 2*e.len() < old:
		l.why = "it lost more than half of its entries"
	}
	if l.why != "" {
		l.pending, l.since = e, s.clock()
		s.log.Warn("list kept", zap.String("list", l.file), zap.String("reason", l.why),
			zap.Int("entries", old), zap.Int("would_be", e.len()))
		return
	}
	s.take(l, e)
}

func (s *listSet) read(f watch.File, ok bool, kind listKind) (entries, error) {
	switch {
	case !ok:
		return nil, errors.New("its file is gone")
	case f.Err != nil:
		return nil, f.Err
	}
	return parseList(kind, f.Data)
}

func (s *listSet) take(l *fileList, e entries) {
	s.log.Info("list loaded", zap.String("list", l.file), zap.Int("entries", e.len()), zap.Int("before", (*l.now.Load()).len()))
	l.now.Store(&e)
	l.pending, l.why = nil, ""
}

// ripe takes what was held back once it has stood long enough.
func (s *listSet) ripe(l *fileList) {
	if l.pending != nil && s.allowShrink && s.clock().Sub(l.since) >= shrinkRest {
		s.take(l, l.pending)
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

// accept takes whatever was held back, and counts how many lists that were.
func (s *listSet) accept() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, l := range s.known {
		if l.pending != nil {
			s.take(l, l.pending)
			n++
		}
	}
	return n
}

// prune forgets the lists that a policy does not use; an older version that
// does keeps their content.
func (s *listSet) prune(p *Policy) {
	used := map[*list]bool{}
	for _, d := range p.decls {
		if l, ok := d.value.(*list); ok {
			used[l] = true
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, l := range s.known {
		if !used[&l.list] {
			delete(s.known, key)
		}
	}
}
