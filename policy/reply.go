package policy

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/emersion/go-smtp"
)

// Status is an enhanced mail system status code, RFC 3463: class, subject,
// detail. [NoStatus] means that a reply carries none.
type Status = smtp.EnhancedCode

// NoStatus is the Status of a reply that carries no enhanced code.
var NoStatus = smtp.NoEnhancedCode

// MaxReplyLine is the longest reply line that we compose, in octets without
// CRLF (RFC 5321 4.5.3.1.5 allows 512 with it).
const MaxReplyLine = 510

// maxReplyLines bounds what a script may say; the fields of a longer text are
// an error at the call.
const maxReplyLines = 50

// Reply is an SMTP reply: the upstream's, then Raw holds its octets as they
// came, or ours, then Text holds its lines. The zero Reply is no reply.
type Reply struct {
	Code   int
	Status Status
	Text   []string
	Raw    []byte // the upstream's octets, with CRLF; if set, they are what is relayed
}

// NewReply makes a reply of ours, checked: the code is of the class (4 or 5;
// 0 allows both), the status fits the code, the text holds no control
// character and is folded into lines that fit a reply line. Octets that are no
// ASCII become "?": a reply goes to peers that never asked for UTF-8.
func NewReply(class, code int, status Status, text ...string) (Reply, error) {
	if code < 400 || code > 599 || class != 0 && code/100 != class {
		if class == 0 {
			return Reply{}, fmt.Errorf("reply code %d is not in 400..599", code)
		}
		return Reply{}, fmt.Errorf("reply code %d is not in %d00..%d99", code, class, class)
	}
	if status != NoStatus {
		if status[0] != code/100 {
			return Reply{}, fmt.Errorf("status %s does not fit code %d: it must begin with %d", StatusText(status), code, code/100)
		}
		if status[1] < 0 || status[1] > 999 || status[2] < 0 || status[2] > 999 {
			return Reply{}, fmt.Errorf("status %s: each part is 0..999 (RFC 3463 2)", StatusText(status))
		}
	}
	r := Reply{Code: code, Status: status}
	for _, t := range text {
		if i := strings.IndexFunc(t, func(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }); i >= 0 {
			return Reply{}, fmt.Errorf("reply text holds the control character %q", t[i])
		}
		r.Text = fold(r.Text, asciiText(t), MaxReplyLine-len("250-5.999.999 "))
	}
	if len(r.Text) == 0 {
		r.Text = []string{""}
	}
	if len(r.Text) > maxReplyLines {
		return Reply{}, fmt.Errorf("reply text has %d lines, at most %d fit", len(r.Text), maxReplyLines)
	}
	return r, nil
}

// Say makes a reply from constants of ours; it panics when they are wrong,
// which a test of the caller notices.
func Say(code int, status Status, text ...string) Reply {
	if code < 400 {
		return Reply{Code: code, Status: status, Text: text}
	}
	r, err := NewReply(0, code, status, text...)
	if err != nil {
		panic("policy: " + err.Error())
	}
	return r
}

// asciiText replaces what a reply cannot carry by "?" and a tab by a blank.
func asciiText(s string) string {
	return strings.Map(func(c rune) rune {
		switch {
		case c == '\t':
			return ' '
		case c > '~':
			return '?'
		}
		return c
	}, s)
}

// fold appends text to lines, broken at blanks so that no line is longer than
// width.
func fold(lines []string, text string, width int) []string {
	for len(text) > width {
		cut := strings.LastIndexByte(text[:width+1], ' ')
		if cut <= 0 {
			lines, text = append(lines, text[:width]), text[width:]
			continue
		}
		lines, text = append(lines, text[:cut]), text[cut+1:]
	}
	return append(lines, text)
}

// ParseStatus reads "5.7.1". RFC 3463 2.
func ParseStatus(s string) (Status, error) {
	var st Status
	parts := strings.Split(s, ".")
	if len(parts) != 3 {
		return NoStatus, fmt.Errorf("status %q is not of the form 5.7.1", s)
	}
	for i, p := range parts {
		n, err := strconv.Atoi(p)
		if err != nil || n < 0 || n > 999 || len(p) > 3 || p[0] == '+' {
			return NoStatus, fmt.Errorf("status %q is not of the form 5.7.1", s)
		}
		st[i] = n
	}
	if st[0] != 2 && st[0] != 4 && st[0] != 5 {
		return NoStatus, fmt.Errorf("status %q: the class is 2, 4 or 5", s)
	}
	return st, nil
}

// StatusText writes a status as "5.7.1", and NoStatus as "".
func StatusText(st Status) string {
	if st == NoStatus || st == (Status{}) {
		return ""
	}
	return strconv.Itoa(st[0]) + "." + strconv.Itoa(st[1]) + "." + strconv.Itoa(st[2])
}

// IsZero reports whether there is no reply at all.
func (r Reply) IsZero() bool { return r.Code == 0 }

// Positive reports a 2xx.
func (r Reply) Positive() bool { return r.Code/100 == 2 }

// Refuses reports a 4xx or 5xx.
func (r Reply) Refuses() bool { return r.Code >= 400 }

// Append appends the reply as it goes on the wire: Raw if the reply is the
// upstream's, else each line with the code and, RFC 2034 4, the status.
func (r Reply) Append(b []byte) []byte {
	if r.Raw != nil {
		return append(b, r.Raw...)
	}
	st := StatusText(r.Status)
	for i, line := range r.Text {
		b = strconv.AppendInt(b, int64(r.Code), 10)
		if i < len(r.Text)-1 {
			b = append(b, '-')
		} else {
			b = append(b, ' ')
		}
		if st != "" {
			b = append(b, st...)
			if line != "" {
				b = append(b, ' ')
			}
		}
		b = append(b, line...)
		b = append(b, '\r', '\n')
	}
	return b
}

// String returns the reply for a log: its wire form, lines joined by " / ".
func (r Reply) String() string {
	if r.IsZero() {
		return ""
	}
	b := bytes.TrimRight(r.Append(nil), "\r\n")
	if bytes.IndexByte(b, '\n') < 0 {
		return string(b)
	}
	return strings.ReplaceAll(strings.ReplaceAll(string(b), "\r", ""), "\n", " / ")
}

// WithFooter returns the reply with text behind its last line, folded if need
// be. A reply of the upstream comes back as it is.
func (r Reply) WithFooter(text string) Reply {
	if text == "" || r.Raw != nil || len(r.Text) == 0 {
		return r
	}
	lines := append([]string(nil), r.Text[:len(r.Text)-1]...)
	last := r.Text[len(r.Text)-1]
	if last != "" {
		last += " "
	}
	r.Text = fold(lines, last+text, MaxReplyLine-len("250-5.999.999 "))
	return r
}

// Soft returns the reply with 5xx turned into 4xx (soft_bounce). A reply of the
// upstream comes back as it is.
func (r Reply) Soft() Reply {
	if r.Code/100 != 5 || r.Raw != nil {
		return r
	}
	r.Code -= 100
	if r.Status != NoStatus && r.Status[0] == 5 {
		r.Status[0] = 4
	}
	return r
}
