package message

import (
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
)

// ErrFull is what a Spool answers when its Pool has no room; the front-end
// says 452 4.3.1.
var ErrFull = errors.New("spool is full")

// Pool bounds what all spools of a process may hold together. The zero Pool
// has no bounds, spills to the default temporary directory and keeps nothing
// in memory beyond a chunk.
type Pool struct {
	Dir       string // for files; they are unlinked as soon as they are open
	MaxMemory int64  // octets of one message kept in memory before it goes to a file
	MaxBytes  int64  // octets in all spools together, 0 for no bound

	used atomic.Int64
}

// InUse returns the octets that all spools hold now.
func (p *Pool) InUse() int64 { return p.used.Load() }

// New makes an empty spool.
func (p *Pool) New() *Spool { return &Spool{pool: p} }

// chunk is the size of a memory block: a spool grows without copying.
const chunk = 32 << 10

// Spool is a body: written once from front to back, then read any number of
// times. It is not safe for concurrent use.
type Spool struct {
	pool   *Pool
	blocks [][]byte
	file   *os.File
	size   int64
}

// Len returns the octets written so far.
func (s *Spool) Len() int64 { return s.size }

// Write appends. The error is ErrFull or the file system's; the octets that
// were not taken are lost, and the message is to be refused.
func (s *Spool) Write(b []byte) (int, error) {
	n := int64(len(b))
	if used := s.pool.used.Add(n); s.pool.MaxBytes > 0 && used > s.pool.MaxBytes {
		s.pool.used.Add(-n)
		return 0, ErrFull
	}
	s.size += n
	if s.file == nil && s.size > max(s.pool.MaxMemory, chunk) {
		if err := s.spill(); err != nil {
			return 0, err
		}
	}
	if s.file != nil {
		return s.file.Write(b)
	}
	for rest := b; len(rest) > 0; {
		last := len(s.blocks) - 1
		if last < 0 || len(s.blocks[last]) == cap(s.blocks[last]) {
			size := chunk
			if last < 0 { // most mail is small
				size = max(1<<10, min(chunk, len(rest)))
			}
			s.blocks = append(s.blocks, make([]byte, 0, size))
			last++
		}
		k := min(len(rest), cap(s.blocks[last])-len(s.blocks[last]))
		s.blocks[last] = append(s.blocks[last], rest[:k]...)
		rest = rest[k:]
	}
	return len(b), nil
}

// spill moves what is in memory to a file without a name: it is gone when the
// process is, however that ends.
func (s *Spool) spill() error {
	f, err := os.CreateTemp(s.pool.Dir, "moongate-spool-*")
	if err != nil {
		return err
	}
	if err := os.Remove(f.Name()); err != nil {
		f.Close()
		return err
	}
	for _, b := range s.blocks {
		if _, err := f.Write(b); err != nil {
			f.Close()
			return err
		}
	}
	s.file, s.blocks = f, nil
	return nil
}

// Reader returns a reader of the whole body from its start. Several may be
// open one after another or at once; writing must be over. A file that has
// lost its end is an error, and never the end of the body.
func (s *Spool) Reader() io.Reader {
	if s.file != nil {
		return &fileReader{io.NewSectionReader(s.file, 0, s.size)}
	}
	readers := make([]io.Reader, len(s.blocks))
	for i, b := range s.blocks {
		readers[i] = &blockReader{b}
	}
	return io.MultiReader(readers...)
}

type fileReader struct{ file *io.SectionReader }

func (r *fileReader) Read(p []byte) (int, error) {
	n, err := r.file.Read(p)
	if err == io.EOF {
		if at, _ := r.file.Seek(0, io.SeekCurrent); at < r.file.Size() {
			err = fmt.Errorf("spool: %d octets are left of %d", at, r.file.Size())
		}
	}
	return n, err
}

type blockReader struct{ b []byte }

func (r *blockReader) Read(p []byte) (int, error) {
	if len(r.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p, r.b)
	r.b = r.b[n:]
	return n, nil
}

// WriteTo writes the whole body, without copying what is in memory.
func (s *Spool) WriteTo(w io.Writer) (int64, error) {
	if s.file != nil {
		return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{s.Reader()}, make([]byte, chunk))
	}
	var n int64
	for _, b := range s.blocks {
		k, err := w.Write(b)
		n += int64(k)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

// Close gives the memory or the file back. A closed spool is empty.
func (s *Spool) Close() error {
	s.pool.used.Add(-s.size)
	s.size, s.blocks = 0, nil
	if s.file == nil {
		return nil
	}
	f := s.file
	s.file = nil
	return f.Close()
}
