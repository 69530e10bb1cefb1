package milter

import (
	"slices"
	"strings"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/message"
)

// A view is the header as one filter is shown it, beside the header as it goes
// on. A filter counts fields as it saw them, an edit counts them as they are
// now; the view is kept in step and translates.
type view struct {
	fields []field          // in the order of the header as it goes on
	names  map[string]int32 // the key of each name, in lower case
}

// A field of a view.
type field struct {
	name, body string
	key        int32 // of its name: a filter may ask for thousands of changes among thousands of fields
	hidden     bool  // in the header as it goes on, not shown: a rule or we put it there
	gone       bool  // not in the header as it goes on (any more)
	lost       bool  // gone, and by a rule: what a filter says of it has no object
	own        bool  // the place of the Received field that an MTA has on top at first
}

// viewOf makes the view of a filter. A signing one sees what goes on. A
// verifying one sees the message as received and what the verifying filters
// before it made of that; what rules did to the header is not shown, so that
// signatures verify.
func viewOf(tx *policy.Transaction, signs bool) *view {
	out := tx.Header().Fields()
	if !signs && tx.Header() != tx.Message.Header {
		v := newView(tx.Message.Header.Fields(), len(tx.Edits))
		for i := range tx.Edits {
			if e := &tx.Edits[i]; e.Kind.IsHeader() {
				v.replay(e, e.Rule != nil || e.By == "moongate" || e.Name == unchecked)
			}
		}
		if v.shows(out) {
			return v
		}
	}
	return newView(out, 4)
}

// newView shows fields as they are.
func newView(fields []*message.Field, more int) *view {
	v := &view{fields: make([]field, 0, len(fields)+more+1), names: make(map[string]int32)}
	for _, f := range fields {
		name := f.Name()
		v.fields = append(v.fields, field{name: name, key: v.key(name), body: bodyIfField(f.IsField(), f.Body)})
	}
	v.insert(v.top(), field{hidden: true, gone: true, own: true})
	return v
}

// key is the key of a name; that of an mbox line, which has none, is 0.
func (v *view) key(name string) int32 {
	if name == "" {
		return 0
	}
	name = strings.ToLower(name)
	k, ok := v.names[name]
	if !ok {
		k = int32(len(v.names)) + 1
		v.names[name] = k
	}
	return k
}

// replay makes an edit of the header again, as it stood in the header that goes
// on. One of ours is not shown: neither what it added nor that it changed or
// removed something.
func (v *view) replay(e *policy.Edit, ours bool) {
	switch e.Kind {
	case policy.AddHeader:
		v.insert(len(v.fields), field{name: e.Name, body: e.Value, hidden: ours})
	case policy.InsertHeader:
		v.insert(v.slot(e.Index), field{name: e.Name, body: e.Value, hidden: ours})
	case policy.ChangeHeader:
		if i := v.nth(e.Name, e.Index); i >= 0 && !ours {
			v.fields[i].body = e.Value
		}
	case policy.RemoveHeader:
		v.remove(e.Name, e.Index, max(e.Index, e.Last), ours)
	}
}

// remove takes fields of that name away, which are numbered as in the header as
// it goes on.
func (v *view) remove(name string, first, last int, ours bool) {
	n, key := 0, v.key(name)
	for i := range v.fields {
		f := &v.fields[i]
		if f.gone || f.name == "" || f.key != key {
			continue
		}
		if n++; n > last {
			return
		} else if n >= first {
			f.gone = true
			f.lost, f.hidden = ours, f.hidden || !ours
		}
	}
}

// slot is where in the view the i-th place of the header as it goes on is. On
// top it is below the MTA's Received.
func (v *view) slot(i int) int {
	top := v.top()
	if v.fields[top].own {
		top++
	}
	for at := range v.fields {
		if v.fields[at].gone {
			continue
		}
		if i == 0 {
			return max(at, top)
		}
		i--
	}
	return len(v.fields)
}

// top is the first place in the view behind mbox lines, above which no field
// may stand.
func (v *view) top() (slot int) {
	for slot < len(v.fields) && v.fields[slot].name == "" && !v.fields[slot].own {
		slot++
	}
	return slot
}

// nth is the place of the k-th field of that name in the header as it goes on,
// -1 if there is none.
func (v *view) nth(name string, k int) int {
	key := v.key(name)
	for i := range v.fields {
		if f := &v.fields[i]; !f.gone && f.name != "" && f.key == key {
			if k--; k == 0 {
				return i
			}
		}
	}
	return -1
}

// shows reports whether the view is one of these fields. If it were not, edits
// would go to the wrong ones.
func (v *view) shows(fields []*message.Field) bool {
	n := 0
	for _, f := range v.fields {
		if f.gone {
			continue
		}
		if n == len(fields) || !strings.EqualFold(fields[n].Name(), f.name) {
			return false
		}
		n++
	}
	return n == len(fields)
}

// bodyIfField spares an mbox line, which has no body.
func bodyIfField(is bool, body func() string) string {
	if !is {
		return ""
	}
	return body()
}

// find returns the place in the view of the k-th field of that name among
// those shown, notThere if there is none, lost if a rule took it away. A field that the filter itself has removed
// keeps its number; where that is all a number leads to, the k-th of those
// left is meant, as with an MTA that counts so. now is its number among those of
// its name in the header as it goes on.
func (v *view) find(name string, k int) (at, now int) {
	seen, left, there, key := 0, 0, 0, v.key(name)
	second, secondNow := notThere, 0
	for i := range v.fields {
		f := &v.fields[i]
		if f.key != key || f.name == "" {
			continue
		}
		if !f.gone {
			there++
		}
		if f.hidden {
			continue
		}
		if seen++; seen == k && f.lost {
			return lost, 0
		} else if seen == k && !f.gone {
			return i, there
		}
		if !f.gone {
			if left++; left == k {
				second, secondNow = i, there
			}
		}
		if seen >= k && left >= k {
			break
		}
	}
	if seen >= k {
		return second, secondNow
	}
	return notThere, 0
}

// What find returns besides a place.
const (
	notThere = -1
	lost     = -2
)

// place is where an insertion at index n stands: in the header as it goes on,
// and in the view. A filter counts the fields it was shown and that are still
// there, and the Received field that an MTA puts on top and does not show: what
// is inserted at 0 stands above that, and index 1 is between the two then.
func (v *view) place(n int) (index, slot int) {
	for top := v.top(); slot < len(v.fields) && (n > 0 || slot < top); slot++ {
		f := v.fields[slot]
		if f.own || !f.hidden && !f.gone && f.name != "" {
			n--
		}
		if !f.gone {
			index++
		}
	}
	return index, slot
}

func (v *view) insert(slot int, f field) {
	f.key = v.key(f.name)
	v.fields = slices.Insert(v.fields, slot, f)
}

func (v *view) clone() *view { return &view{fields: slices.Clone(v.fields), names: v.names} }
