package script

import (
	"bytes"
	"fmt"
	"strings"
	"sync/atomic"

	"github.com/moongate/moongate/policy"
)

// listKind says what the lines of a list mean.
type listKind uint8

const (
	wordSet   listKind = iota // any words, folded
	domainSet                 // domains, subdomains included
	ipSet                     // addresses and networks
	textTable                 // keys and values
	cidrTable
	pcreTable
	numKinds
)

func (k listKind) String() string {
	return [numKinds]string{"list", "domains", "ipset", "texthash", "cidr", "pcre"}[k]
}

// entries is the content of a list. It is immutable.
type entries interface {
	has(word string) bool
	len() int
}

// list is a declared list. Its content changes when its file does; the list
// itself stays, in every state and version that knows it.
type list struct {
	kind listKind
	file string // "" for one of words in the script
	now  atomic.Pointer[entries]
}

func (l *list) has(word string) bool { return (*l.now.Load()).has(word) }

func fixedList(kind listKind, words []string) (*list, error) {
	l := &list{kind: kind}
	e, err := parseWords(kind, words)
	if err == nil {
		l.now.Store(&e)
	}
	return l, err
}

// lines reads a list file: one entry a line, # begins a comment.
func lines(data []byte) []string {
	var words []string
	for line := range bytes.Lines(data) {
		if i := bytes.IndexByte(line, '#'); i == 0 || i > 0 && (line[i-1] == ' ' || line[i-1] == '\t') {
			line = line[:i]
		}
		if word := strings.TrimSpace(string(line)); word != "" {
			words = append(words, word)
		}
	}
	return words
}

// parseList reads the content of a file.
func parseList(kind listKind, data []byte) (entries, error) {
	if kind >= textTable {
		return parseTable(kind, data)
	}
	return parseWords(kind, lines(data))
}

func parseWords(kind listKind, words []string) (entries, error) {
	if kind == wordSet {
		set := make(stringSet, len(words))
		for _, w := range words {
			set[foldKey(w)] = struct{}{}
		}
		return set, nil
	}
	if kind == ipSet {
		return parseNetworks(words)
	}
	set := make(domainEntries, len(words))
	for i, w := range words {
		w = strings.TrimPrefix(strings.TrimPrefix(w, "*"), ".")
		p, err := policy.NewPath("x@"+w, true)
		if err != nil || p.Literal || p.Local != "x" {
			return nil, fmt.Errorf("entry %d, %q, is no domain", i+1, clip(w, 80))
		}
		set[p.Domain] = struct{}{}
	}
	return set, nil
}

type stringSet map[string]struct{}

func (s stringSet) len() int { return len(s) }

func (s stringSet) has(word string) bool {
	_, ok := s[foldKey(word)]
	return ok
}

type domainEntries map[string]struct{}

func (s domainEntries) len() int { return len(s) }

// has looks for the domain and each one above it. No domain has more than 255
// octets: what a stranger's text has before these can be left out, and each
// step reads all that is left.
func (s domainEntries) has(word string) bool {
	d := strings.TrimSuffix(word[strings.LastIndexByte(word, '@')+1:], ".")
	if i := len(d) - 256; i >= 0 {
		dot := strings.IndexByte(d[i:], '.')
		if dot < 0 {
			return false
		}
		d = d[i+dot+1:]
	}
	d = foldKey(d)
	for d != "" {
		if _, ok := s[d]; ok {
			return true
		}
		i := strings.IndexByte(d, '.')
		if i < 0 {
			return false
		}
		d = d[i+1:]
	}
	return false
}
