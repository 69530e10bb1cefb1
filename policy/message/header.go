package message

import (
	"bytes"
	"errors"
	"fmt"
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

// Field is one header field, or a leading mbox "From " line, which is none and
// has no name. It never changes, and headers share it: the pointer tells one
// field from another.
type Field struct {
	raw    []byte // with CRLF; folds are inside
	colon  int16  // index of the colon in raw, below maxName; -1 for an mbox line
	name   int16  // length of the name
	origin int32  // 1-based occurrence of this name as received; 0 if it was added
}

// Name returns the field name as it was written, without blanks before the
// colon.
func (f Field) Name() string { return string(f.raw[:f.name]) }

// Is reports whether the field has this name, without regard to case.
func (f Field) Is(name string) bool {
	if int(f.name) != len(name) {
		return false
	}
	for i, c := range f.raw[:f.name] { // a name is ASCII
		if d := name[i]; c != d && lower(c) != lower(d) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// Raw returns the octets of the field with its CRLF.
func (f Field) Raw() []byte { return f.raw }

// Body returns what stands behind the colon, leading blank and folds included,
// without the final CRLF.
func (f Field) Body() string {
	return strings.TrimSuffix(string(f.raw[f.colon+1:]), "\r\n")
}

// Value returns the unfolded body, blanks around it removed. RFC 5322 2.2.3.
func (f Field) Value() string {
	v := f.raw[f.colon+1:]
	if bytes.IndexByte(v, '\n') < len(v)-1 {
		v = bytes.ReplaceAll(v, []byte("\r\n"), nil)
	}
	return string(bytes.Trim(v, " \t\r\n"))
}

// Origin returns the 1-based occurrence of the field among those of its name
// as received, and 0 for a field that was added: milters count so. It is known
// in a Clone, which is what edits are made to.
func (f Field) Origin() int { return int(f.origin) }

// IsField reports whether it is a field at all, and no mbox line.
func (f Field) IsField() bool { return f.colon >= 0 }

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

// ParseHeader reads a header from the front of block, whose lines end in CRLF,
// and returns how many octets it took. The header ends before the first line
// that is neither field nor continuation; an empty line is such a line and is
// not taken. block is kept: the caller must not change it.
func ParseHeader(block []byte) (*Header, int) {
	fields := make([]Field, 0, 16)
	at, mbox := 0, true
	for at < len(block) {
		line := lineAt(block[at:])
		kind, name, colon := classify(line, len(fields) == 0, mbox)
		mbox = mbox && kind == lineMbox
		if kind == lineOther {
			break
		}
		switch kind {
		case lineField:
			fields = append(fields, Field{raw: block[at : at+len(line) : at+len(line)], colon: int16(colon), name: int16(name)})
		case lineFold:
			f := &fields[len(fields)-1]
			start := at - len(f.raw)
			f.raw = block[start : at+len(line) : at+len(line)]
		case lineMbox:
			fields = append(fields, Field{raw: block[at : at+len(line) : at+len(line)], colon: -1})
		}
		at += len(line)
	}
	h := &Header{fields: make([]*Field, len(fields))}
	for i := range fields {
		h.fields[i] = &fields[i]
	}
	return h, at
}

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

type lineKind uint8

const (
	lineOther lineKind = iota
	lineField
	lineFold
	lineMbox
)

// IsHeaderLine reports whether a line (with CRLF) goes on with a header. first
// is true for the first line of a message, mbox while nothing but mbox lines
// was seen. A reader that looks for the end of the header asks it line by line.
func IsHeaderLine(line []byte, first, mbox bool) bool {
	kind, _, _ := classify(line, first, mbox)
	return kind != lineOther
}

// maxName is how far into a line Postfix looks for the colon, in octets
// (line_length_limit).
const maxName = 2048

// classify decides as Postfix does (is_header_buf, smtpd's data_cmd): a name of
// printable ASCII without blank, then blanks, then a colon. A "From " line in
// front of the first field is skipped.
func classify(line []byte, first, mbox bool) (kind lineKind, name, colon int) {
	if len(line) == 0 {
		return lineOther, 0, 0
	}
	if line[0] == ' ' || line[0] == '\t' {
		if first || mbox {
			return lineOther, 0, 0
		}
		return lineFold, 0, 0
	}
	if mbox && bytes.HasPrefix(bytes.TrimLeft(line, ">"), []byte("From ")) {
		return lineMbox, 0, 0
	}
	line = line[:min(len(line), maxName)]
	i := 0
	for i < len(line) && line[i] > ' ' && line[i] < 0x7f && line[i] != ':' {
		i++
	}
	name = i
	for i < len(line) && (line[i] == ' ' || line[i] == '\t') {
		i++
	}
	if name == 0 || i == len(line) || line[i] != ':' {
		return lineOther, 0, 0
	}
	return lineField, name, i
}

func lineAt(b []byte) []byte {
	if i := bytes.IndexByte(b, '\n'); i >= 0 {
		return b[:i+1]
	}
	return b
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

func newField(name, body string) *Field {
	raw := make([]byte, 0, len(name)+len(body)+3)
	raw = append(append(append(raw, name...), ':'), body...)
	raw = append(raw, '\r', '\n')
	return &Field{raw: raw, colon: int16(len(name)), name: int16(len(name))}
}

// Errors of CheckField.
var (
	errFieldName = errors.New("a header name is printable ASCII without blank and colon (RFC 5322 2.2)")
	ErrFieldLine = errors.New("a header line is longer than 998 octets (RFC 5322 2.1.1)")
)

// CheckField checks a field before it is added: the name by RFC 5322 2.2, the
// body (as it stands behind the colon, leading blank included) for octets that
// would end the field: CR and LF only as folds, no NUL. ErrFieldLine says that
// nothing else is wrong with it.
func CheckField(name, body string) error {
	if name == "" || len(name) > 76 {
		return errFieldName
	}
	for i := 0; i < len(name); i++ {
		if name[i] <= ' ' || name[i] > '~' || name[i] == ':' {
			return errFieldName
		}
	}
	line, long := len(name)+1, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case c == '\r':
			if i+2 >= len(body) || body[i+1] != '\n' || body[i+2] != ' ' && body[i+2] != '\t' {
				return fmt.Errorf("the value of %s holds a line end", name)
			}
			i++
			line = -1
		case c == '\n':
			return fmt.Errorf("the value of %s holds a line end", name)
		case c == 0:
			return fmt.Errorf("the value of %s holds a NUL", name)
		}
		line++
		long = long || line > 998
	}
	if long {
		return ErrFieldLine
	}
	return nil
}
