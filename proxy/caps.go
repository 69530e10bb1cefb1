package proxy

import (
	"bytes"
	"slices"
	"strconv"
	"strings"

	"github.com/moongate/moongate/policy"
)

// Caps are the keywords of an EHLO reply, RFC 5321 4.1.1.1. They do not change
// once made. A nil Caps has none.
type Caps struct {
	list []capability
	size int64  // of SIZE; it is asked for again and again while a body comes in
	said []byte // the reply that they were read from, nil if they are made
}

type capability struct {
	key  string // upper case
	args string // as it was written, without the blank in front
}

// parseCaps reads an EHLO reply: its first line is a greeting, each other one
// a keyword. What is no keyword is left out.
func parseCaps(r policy.Reply) *Caps {
	c := &Caps{said: r.Raw}
	for i, line := range r.Text {
		if i == 0 {
			continue
		}
		key, args, _ := strings.Cut(strings.TrimSpace(line), " ")
		// "AUTH=LOGIN" of old servers, for old clients, says the same again.
		if key == "" || strings.ContainsRune(key, '=') {
			continue
		}
		key = strings.ToUpper(key)
		if !c.Has(key) {
			c.add(key, strings.TrimSpace(args))
		}
	}
	return c
}

// heard reports whether they were read from this very reply: an upstream says
// the same to each of thousands of sessions.
func (c *Caps) heard(r policy.Reply) bool {
	return c != nil && c.said != nil && bytes.Equal(c.said, r.Raw)
}

// NewCaps makes keywords from EHLO lines: "SIZE 1000", "DSN".
func NewCaps(lines ...string) *Caps {
	return parseCaps(policy.Reply{Text: append([]string{""}, lines...)})
}

// Has reports whether a keyword (upper case) is there.
func (c *Caps) Has(key string) bool {
	_, ok := c.Arg(key)
	return ok
}

// Arg returns what stands behind a keyword (upper case).
func (c *Caps) Arg(key string) (arg string, ok bool) {
	if c == nil {
		return "", false
	}
	for _, k := range c.list {
		if k.key == key {
			return k.args, true
		}
	}
	return "", false
}

// Size returns the SIZE limit in octets; 0 means that there is none or that it
// is not told. RFC 1870 3.
func (c *Caps) Size() int64 {
	if c == nil {
		return 0
	}
	return c.size
}

// add appends a keyword.
func (c *Caps) add(key, args string) {
	c.list = append(c.list, capability{key, args})
	if key == "SIZE" && args != "" {
		if n, err := strconv.ParseInt(args, 10, 64); err == nil && n > 0 {
			c.size = n
		}
	}
}

// Lines returns the keywords as EHLO lines, in order.
func (c *Caps) Lines() []string {
	if c == nil {
		return nil
	}
	lines := make([]string, len(c.list))
	for i, k := range c.list {
		lines[i] = strings.TrimSpace(k.key + " " + k.args)
	}
	return lines
}

// Intersect returns what all have: what can be promised to a client before it
// is known which of several upstreams will be dialled. Of SIZE it is the
// smallest, of a keyword with arguments those that all have. A nil one (not
// dialled yet) has nothing.
func Intersect(all ...*Caps) *Caps {
	out := &Caps{}
	if len(all) == 0 || slices.Contains(all, nil) {
		return out
	}
next:
	for _, k := range all[0].list {
		if k.key == "SIZE" {
			if size, ok := smallest(all); ok {
				out.add("SIZE", size)
			}
			continue
		}
		args := strings.Fields(k.args)
		for _, c := range all[1:] {
			other, ok := c.Arg(k.key)
			if !ok {
				continue next
			}
			have := strings.Fields(other)
			args = slices.DeleteFunc(args, func(a string) bool {
				return !slices.ContainsFunc(have, func(b string) bool { return strings.EqualFold(a, b) })
			})
		}
		if k.args != "" && len(args) == 0 {
			continue
		}
		out.add(k.key, strings.Join(args, " "))
	}
	return out
}

// smallest returns the argument of the smallest SIZE, "" if none limits; false
// if one has no SIZE at all.
func smallest(all []*Caps) (string, bool) {
	least := int64(0)
	for _, c := range all {
		if !c.Has("SIZE") {
			return "", false
		}
		if n := c.Size(); n > 0 && (least == 0 || n < least) {
			least = n
		}
	}
	if least == 0 {
		return "", true
	}
	return strconv.FormatInt(least, 10), true
}
