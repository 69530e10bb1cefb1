package message

import (
	"iter"
	"slices"
	"strings"
)

// MaxFields is the most fields that a header may have when it comes in; the
// front-ends refuse more as they refuse a header that is too large. A field
// takes memory and time beyond its octets, and in 1 MB there is room for a
// quarter of a million. Postfix's header_size_limit of 100 KB leaves room for a
// few thousand, and real mail has less than a hundred.
const MaxFields = 10_000

// Header is an ordered list of fields. It is not safe for concurrent use.
type Header struct {
	fields   []*Field
	numbered bool

	// The index of a long header, made by its first change: without it each of
	// ten thousand changes would compare ten thousand names.
	names map[string]int32 // a number for each name, in lower case
	keys  []int32          // of the fields, the number of their name; 0 for an mbox line
}

// long is how many fields a header has when an index is worth it.
const long = 64

// number fills in the origins, before the first change.
func (h *Header) number() {
	if h.numbered {
		return
	}
	h.numbered = true
	if len(h.fields) > long {
		seen := make(map[string]int32, long)
		for _, f := range h.fields {
			if f.IsField() {
				key := strings.ToLower(f.Name())
				seen[key]++
				f.origin = seen[key]
			}
		}
		return
	}
	for i, f := range h.fields {
		if !f.IsField() {
			continue
		}
		f.origin = 1
		for _, g := range slices.Backward(h.fields[:i]) {
			if g.name == f.name && g.Is(string(f.raw[:f.name])) {
				f.origin = g.origin + 1
				break
			}
		}
	}
}

// index makes the index of a header that is long; the changes keep it.
func (h *Header) index() {
	if h.names != nil || len(h.fields) <= long {
		return
	}
	h.names = make(map[string]int32, long)
	h.keys = make([]int32, len(h.fields), len(h.fields)+8)
	for i, f := range h.fields {
		h.keys[i] = h.key(f)
	}
}

// key is the number of a field's name in the index.
func (h *Header) key(f *Field) int32 {
	if !f.IsField() {
		return 0
	}
	name := strings.ToLower(f.Name())
	k := h.names[name]
	if k == 0 {
		k = int32(len(h.names)) + 1
		h.names[name] = k
	}
	return k
}

// Len returns the number of fields, mbox lines included.
func (h *Header) Len() int { return len(h.fields) }

// Fields returns the fields in order. The caller must not change the slice, and
// a change of the header makes it worthless.
func (h *Header) Fields() []*Field { return h.fields }

// All goes over the fields of that name, the place of each in Fields with it.
func (h *Header) All(name string) iter.Seq2[int, *Field] {
	return func(yield func(int, *Field) bool) {
		if h.names != nil {
			key := h.names[strings.ToLower(name)]
			for i, k := range h.keys {
				if k == key && key != 0 && !yield(i, h.fields[i]) {
					return
				}
			}
			return
		}
		for i, f := range h.fields {
			if int(f.name) == len(name) && f.IsField() && f.Is(name) && !yield(i, f) {
				return
			}
		}
	}
}

// Get returns the n-th (1-based) field of that name.
func (h *Header) Get(name string, n int) (*Field, bool) {
	if i := h.find(name, n); i >= 0 {
		return h.fields[i], true
	}
	return nil, false
}

// Count returns how many fields of that name there are.
func (h *Header) Count(name string) (n int) {
	for range h.All(name) {
		n++
	}
	return n
}

// Number returns the 1-based number of a field among those of its name, 0 if it
// is not in this header.
func (h *Header) Number(f *Field) (n int) {
	for _, g := range h.All(f.Name()) {
		n++
		if g == f {
			return n
		}
	}
	return 0
}

func (h *Header) find(name string, n int) int {
	for i := range h.All(name) {
		if n--; n == 0 {
			return i
		}
	}
	return -1
}

// Clone returns a header that can be changed without changing this one. The
// fields are the same.
func (h *Header) Clone() *Header {
	h.number()
	return &Header{fields: append(make([]*Field, 0, len(h.fields)+4), h.fields...), numbered: true}
}

// Add appends a field. body is as CheckField wants it.
func (h *Header) Add(name, body string) { h.insert(len(h.fields), newField(name, body)) }

// Insert puts a field at position i, 0 being the top; beyond the end it is
// appended. Mbox lines stay above all fields: below one they would end the
// header.
func (h *Header) Insert(i int, name, body string) {
	h.insert(max(h.Mbox(), min(i, len(h.fields))), newField(name, body))
}

func (h *Header) insert(i int, f *Field) {
	h.index()
	if h.names != nil {
		h.keys = slices.Insert(h.keys, i, h.key(f))
	}
	h.fields = slices.Insert(h.fields, i, f)
}

// Mbox returns how many mbox lines stand in front of the fields.
func (h *Header) Mbox() int {
	for i, f := range h.fields {
		if f.IsField() {
			return i
		}
	}
	return len(h.fields)
}

// Change replaces the body of the n-th (1-based) field of that name and
// reports whether there was one. The field keeps its place and its name's
// spelling.
func (h *Header) Change(name string, n int, body string) bool {
	h.index()
	i := h.find(name, n)
	if i < 0 {
		return false
	}
	f := newField(h.fields[i].Name(), body)
	f.origin = h.fields[i].origin
	h.fields[i] = f
	return true
}

// Remove takes the fields of that name away from the first-th (1-based) to the
// last-th, and reports whether they were there; if not, all stay.
func (h *Header) Remove(name string, first, last int) bool {
	h.index()
	n, from, to := 0, -1, -1
	for i := range h.All(name) {
		if n++; n == first {
			from = i
		}
		if n == last {
			to = i
			break
		}
	}
	if from < 0 || to < from {
		return false
	}
	if first == last {
		h.delete(from, from+1)
		return true
	}
	var key int32
	if h.names != nil {
		key = h.keys[from]
	}
	left := from // where the next one that stays goes
	for i := from; i <= to; i++ {
		f := h.fields[i]
		if key != 0 && h.keys[i] == key || key == 0 && f.IsField() && f.Is(name) {
			continue
		}
		if h.fields[left] = f; key != 0 {
			h.keys[left] = h.keys[i]
		}
		left++
	}
	h.delete(left, to+1)
	return true
}

func (h *Header) delete(from, to int) {
	h.fields = slices.Delete(h.fields, from, to)
	if h.names != nil {
		h.keys = slices.Delete(h.keys, from, to)
	}
}

// Append appends the octets of the header.
func (h *Header) Append(b []byte) []byte {
	for _, f := range h.fields {
		b = append(b, f.raw...)
	}
	return b
}

// Size returns the octets of the header.
func (h *Header) Size() int {
	n := 0
	for _, f := range h.fields {
		n += len(f.raw)
	}
	return n
}
