package proxy

import (
	"errors"
	"fmt"
	"strings"

	"github.com/moongate/moongate/policy"
)

// Bounds of a reply. An upstream that goes beyond is taken for broken.
const (
	maxReplyLines  = 100
	maxReplyOctets = 64 << 10
)

// errMalformed is an upstream that does not speak SMTP: the connection is
// dropped, and what it sent is never taken for a reply.
var errMalformed = errors.New("malformed reply")

// readReply reads one reply, RFC 5321 4.2.1, and keeps its octets as they came
// (a bare LF at a line's end becomes CRLF: the client never gets one). An
// error leaves the connection out of step.
func readReply(l *lines) (policy.Reply, error) {
	var raw []byte
	r := policy.Reply{Status: policy.NoStatus}
	for n := 1; ; n++ {
		line, err := l.Line(lineBuffer)
		if err == errLong || err == errBadOctet {
			return policy.Reply{}, fmt.Errorf("%w: %w", errMalformed, err)
		}
		if err != nil {
			return policy.Reply{}, err
		}
		code, last, ok := replyCode(line)
		switch {
		case !ok:
			return policy.Reply{}, fmt.Errorf("%w: %.60q", errMalformed, line)
		case r.Code != 0 && code != r.Code:
			return policy.Reply{}, fmt.Errorf("%w: code %d, then %.60q", errMalformed, r.Code, line)
		case n > maxReplyLines || len(raw)+len(line) > maxReplyOctets:
			return policy.Reply{}, fmt.Errorf("%w: too long", errMalformed)
		}
		r.Code = code
		if raw == nil {
			raw = make([]byte, 0, len(line)+len(crlf))
		}
		raw = append(append(raw, line...), crlf...)
		if last {
			r.Raw = raw
			r.Status, r.Text = replyText(string(raw), n, code)
			return r, nil
		}
	}
}

// replyCode reads the code in front of a reply line and whether the line is
// the last. By choice a lone code is a last line, as RFC 5321 4.2 advises.
func replyCode(line []byte) (code int, last, ok bool) {
	if len(line) < 3 || line[0] < '2' || line[0] > '5' ||
		line[1] < '0' || line[1] > '9' || line[2] < '0' || line[2] > '9' {
		return 0, false, false
	}
	code = int(line[0]-'0')*100 + int(line[1]-'0')*10 + int(line[2]-'0')
	if len(line) == 3 {
		return code, true, true
	}
	return code, line[3] == ' ', line[3] == ' ' || line[3] == '-'
}

// replyText splits raw into its n lines of text, without codes, and takes the
// enhanced status (RFC 2034 4) off them if the first one has one that fits.
func replyText(raw string, n, code int) (policy.Status, []string) {
	text := make([]string, 0, n)
	for range n {
		line, rest, _ := strings.Cut(raw, "\r\n")
		raw = rest
		text = append(text, line[min(4, len(line)):])
	}
	status, token := leadingStatus(text[0])
	if status == policy.NoStatus || status[0] != code/100 {
		status = policy.NoStatus
		return status, text
	}
	for i, line := range text {
		if after, ok := strings.CutPrefix(line, token); ok && (after == "" || after[0] == ' ') {
			text[i] = strings.TrimPrefix(after, " ")
		}
	}
	return status, text
}

// leadingStatus reads "5.7.1" from the front of a text.
func leadingStatus(s string) (policy.Status, string) {
	i := 0
	for i < len(s) && (s[i] == '.' || s[i] >= '0' && s[i] <= '9') {
		i++
	}
	if i < len("2.0.0") || i < len(s) && s[i] != ' ' {
		return policy.NoStatus, "" // the usual case without one must cost nothing
	}
	st, err := policy.ParseStatus(s[:i])
	if err != nil {
		return policy.NoStatus, ""
	}
	return st, s[:i]
}
