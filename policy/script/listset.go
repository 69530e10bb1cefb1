package script

import (
	"crypto/sha256"
	"fmt"
	"path"
	"sync"
	"time"

	"go.uber.org/zap"

	"github.com/moongate/moongate/internal/watch"
)

// listSet holds the lists that come from files. It outlives versions, so an old
// and a new one see the same content.
type listSet struct {
	log   *zap.Logger
	clock func() time.Time

	mu          sync.Mutex            // guards what follows
	allowShrink bool                  // of the Options that serve
	files       map[string]watch.File // of the last snapshot
	known       map[string]*fileList  // by kind and file
}

// fileList is a list and what its file says that is not taken yet.
type fileList struct {
	list
	sum  [sha256.Size]byte // of what was looked at last, taken or not
	held *held             // nil: nothing is held back
}

func newListSet(log *zap.Logger, allowShrink bool) *listSet {
	return &listSet{log: log, allowShrink: allowShrink, clock: time.Now, known: map[string]*fileList{}}
}

// see takes notice of a snapshot, out of which lists are opened.
func (s *listSet) see(files []watch.File) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.files = make(map[string]watch.File, len(files))
	for _, f := range files {
		s.files[f.Name] = f
	}
}

// followAll has the lists that are open follow their files.
func (s *listSet) followAll() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.known {
		s.follow(l)
	}
}

// file is what the last snapshot has of a file. A directory on the way to it
// that cannot be read answers for it.
func (s *listSet) file(name string) (f watch.File, ok bool) {
	f, ok = s.files[name]
	for dir := path.Dir(name); !ok && dir != "." && dir != "/"; dir = path.Dir(dir) {
		d := s.files[dir]
		f, ok = watch.File{Name: name, Err: d.Err}, d.Err != nil
	}
	return f, ok
}

// isFile reports whether the last snapshot has such a file, or a list knows it.
func (s *listSet) isFile(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.file(name)
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
	f, ok := s.file(name)
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
