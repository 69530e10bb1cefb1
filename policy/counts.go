package policy

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"go.uber.org/zap"
)

// disconnectLine counts the commands as Postfix does: "ehlo=1 mail=1 rcpt=0/1".
func (s *Session) disconnectLine(ev *Event) {
	s.Unnamed = false // it was never named
	s.connectLine()
	slices.SortFunc(s.counts, func(a, b count) int { return strings.Compare(a.verb, b.verb) })
	b := make([]byte, 0, 128)
	sum := count{verb: "commands"}
	for _, c := range s.counts {
		b = append(c.append(b), ' ')
		sum.ok, sum.all = sum.ok+c.ok, sum.all+c.all
	}
	s.log.Info("disconnect", zap.String(KeySession, s.ID), zap.String(KeyClient, s.ClientName()),
		zap.String(KeyCounts, string(sum.append(b))), zap.String(KeyCause, orText(ev.Cause, "quit")),
		zap.Int64(KeyMillis, time.Since(s.Start).Milliseconds()))
}

// count is how often a command was given, and how often taken.
type count struct {
	verb    string // lower case
	ok, all int
}

// count notes a command. There are few verbs, so a list is quicker than a map.
func (s *Session) count(verb string, ok bool) {
	i := slices.IndexFunc(s.counts, func(c count) bool { return c.verb == verb })
	if i < 0 {
		if s.counts == nil {
			s.counts = make([]count, 0, 6)
		}
		i, s.counts = len(s.counts), append(s.counts, count{verb: verb})
	}
	s.counts[i].all++
	if ok {
		s.counts[i].ok++
	}
}

func (c count) append(b []byte) []byte {
	b = strconv.AppendInt(append(append(b, c.verb...), '='), int64(c.ok), 10)
	if c.ok < c.all {
		b = strconv.AppendInt(append(b, '/'), int64(c.all), 10)
	}
	return b
}

// spelled are the verbs in lower case, as log and metrics write them.
var spelled = map[string]string{
	"": "unknown", "CONNECT": "connect", "HELO": "helo", "EHLO": "ehlo", "MAIL": "mail", "RCPT": "rcpt", "DATA": "data",
	"RSET": "rset", "NOOP": "noop", "QUIT": "quit", "VRFY": "vrfy", "XFORWARD": "xforward",
}

func lowerVerb(verb string) string {
	if v, ok := spelled[verb]; ok {
		return v
	}
	return strings.ToLower(verb)
}
