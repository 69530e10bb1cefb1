package wire

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"github.com/emersion/go-milter"
)

// Reply is the packet that makes an MTA give a reply of the filter's own.
// Lines are without code, and begin with their enhanced status if there is
// one. The code must be 4xx or 5xx: an MTA takes nothing else from a filter.
//
// Sendmail and Postfix put the text through printf's rules, so each percent
// sign is doubled. Lines are joined by CRLF and the last has none: with one,
// Postfix calls the reply malformed.
func Reply(code int, lines []string) (Frame, error) {
	if code < 400 || code > 599 {
		return Frame{}, fmt.Errorf("milter: reply code %d is not in 400..599", code)
	}
	if len(lines) == 0 {
		lines = []string{""}
	}
	var s strings.Builder
	for i, line := range lines {
		if j := strings.IndexAny(line, "\r\n"); j >= 0 {
			return Frame{}, fmt.Errorf("%w: line end inside the reply %.40q", ErrMalformed, line)
		}
		s.WriteString(strconv.Itoa(code))
		if i < len(lines)-1 {
			s.WriteByte('-')
		} else {
			s.WriteByte(' ')
		}
		s.WriteString(strings.ReplaceAll(line, "%", "%%"))
		if i < len(lines)-1 {
			s.WriteString("\r\n")
		}
	}
	return stringFrame(byte(milter.ActReplyCode), s.String())
}

// SplitReply reads the text of a filter's own reply, its first code included,
// back into lines without code and with single percent signs. Every line must
// carry the same code.
func SplitReply(text string) (code int, lines []string, err error) {
	all := strings.Split(strings.TrimRight(text, "\r\n"), "\n")
	for i, line := range all {
		line = strings.TrimSuffix(line, "\r")
		if len(line) < 3 || len(line) > 3 && line[3] != ' ' && line[3] != '-' {
			return 0, nil, fmt.Errorf("%w: reply line %.40q", ErrMalformed, line)
		}
		n, err := strconv.Atoi(line[:3])
		if err != nil || n < 400 || n > 599 || i > 0 && n != code {
			return 0, nil, fmt.Errorf("%w: reply code in %.40q", ErrMalformed, line)
		}
		code = n
		if len(line) > 3 {
			line = line[4:]
		} else {
			line = ""
		}
		lines = append(lines, strings.ReplaceAll(line, "%%", "%"))
	}
	return code, lines, nil
}

// DecodeReply reads a reply packet. Its text ends with a NUL, or with the packet:
// MTAs and go-milter take one without its NUL, and a refusal is not to get lost.
func DecodeReply(f Frame) (code int, lines []string, err error) {
	if milter.ActionCode(f.Code) != milter.ActReplyCode {
		return 0, nil, fmt.Errorf("%w: 0x%02x is no reply", ErrMalformed, f.Code)
	}
	text, _, _ := bytes.Cut(f.Data, []byte{0})
	return SplitReply(string(text))
}

// join makes the one string in which Sendmail and Postfix take the arguments
// of a changed sender and an added recipient.
func join(args []string) string { return strings.Join(args, " ") }

// fields takes such strings apart again; go-milter leaves an empty one behind.
func fields(ss []string) (args []string) {
	for _, s := range ss {
		args = append(args, strings.Fields(s)...)
	}
	return args
}
