package script

import (
	"fmt"
	"io"
	"mime"
	"net/mail"
	"strings"
	"unicode/utf8"

	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/message"
)

// fieldBody makes what stands behind the colon of a value that a script wrote:
// encoded words for what is no ASCII (RFC 2047) unless the message is
// SMTPUTF8, a leading blank, folds at blanks so that lines stay within 78
// octets where the value lets them (RFC 5322 2.1.1).
func fieldBody(name, value string, utf8ok bool) (string, error) {
	if i := strings.IndexAny(value, "\r\n\x00"); i >= 0 {
		return "", fmt.Errorf("the value of %s holds the control character %q", clip(name, 80), value[i])
	}
	if len(value) > maxValue {
		return "", fmt.Errorf("the value of %s has more than 64 KiB", clip(name, 80))
	}
	if !ascii(value) && !(utf8ok && utf8.ValidString(value)) {
		value = encode(name, value)
	}
	return fold(len(name)+1, value), nil
}

// maxValue is the longest value that a script may write.
const maxValue = 64 << 10

func ascii(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

// addressFields hold addresses: there only a display name is encoded.
var addressFields = map[string]bool{"from": true, "to": true, "cc": true, "bcc": true, "sender": true, "reply-to": true,
	"resent-from": true, "resent-to": true, "resent-cc": true, "resent-sender": true}

// encode writes runs of words that are no ASCII as encoded words.
func encode(name, value string) string {
	if addressFields[strings.ToLower(name)] {
		if list, err := mail.ParseAddressList(value); err == nil {
			s := make([]string, len(list))
			for i, a := range list {
				s[i] = a.String()
			}
			if joined := strings.Join(s, ", "); ascii(joined) {
				return joined
			}
		}
	}
	charset := "utf-8"
	if !utf8.ValidString(value) {
		charset = "unknown-8bit" // RFC 1428 3
	}
	words := strings.Split(value, " ")
	n := 0
	for i := 0; i < len(words); n++ {
		j := i + 1
		if ascii(words[i]) {
			words[n] = words[i]
		} else {
			for j < len(words) && !ascii(words[j]) { // the blank between two encoded words does not count, so a run is one
				j++
			}
			words[n] = mime.QEncoding.Encode(charset, strings.Join(words[i:j], " "))
		}
		i = j
	}
	return strings.Join(words[:n], " ")
}

const softLine = 78

// fold breaks a value at blanks. used is what the line holds already.
func fold(used int, value string) string {
	var b strings.Builder
	b.WriteByte(' ')
	used++
	for value != "" {
		n := len(value)
		if used+n > softLine {
			if n = strings.LastIndexByte(value[:max(1, softLine-used)], ' '); n <= 0 {
				// No blank in time: the next one there is.
				if n = strings.IndexByte(value[1:], ' ') + 1; n == 0 {
					n = len(value)
				}
			}
			if strings.TrimLeft(value[n:], " \t") == "" { // a fold of blanks alone is obsolete, RFC 5322 4.2
				n = len(value)
			}
		}
		b.WriteString(value[:n])
		if value = value[n:]; value != "" {
			b.WriteString("\r\n")
		}
		used = 0
	}
	return b.String()
}

// nameless reads addresses; whatever charset the names beside them claim.
var nameless = mail.AddressParser{WordDecoder: &mime.WordDecoder{
	CharsetReader: func(_ string, r io.Reader) (io.Reader, error) { return r, nil },
}}

// mark stands for an octet that is no ASCII: an address that holds it is none.
const mark = "=8bit="

func marked(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] < 0x80 {
			b.WriteByte(s[i])
		} else {
			b.WriteString(mark)
		}
	}
	return b.String()
}

// headerFrom is the one address of the one From field, and the zero Path if
// there is none, more than one, or what cannot be read for sure.
func headerFrom(h *message.Header) policy.Path {
	if h == nil || h.Count("From") != 1 {
		return policy.Path{}
	}
	f, _ := h.Get("From", 1)
	value := f.Value()
	list, err := nameless.ParseList(value)
	if err != nil && !ascii(value) { // raw 8-bit in a name is in daily use
		list, err = nameless.ParseList(marked(value))
	}
	if err != nil || len(list) != 1 || strings.Contains(list[0].Address, mark) {
		return policy.Path{}
	}
	path, err := policy.NewPath(quoted(list[0].Address), true)
	if err != nil {
		return policy.Path{}
	}
	return path
}

// quoted writes an address of net/mail, which is unquoted, as a path has it.
func quoted(address string) string {
	at := strings.LastIndexByte(address, '@')
	if at < 0 {
		return address
	}
	local := address[:at]
	if strings.ContainsAny(local, " \t\"\\@,:;<>()[]") {
		local = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(local) + `"`
	}
	return local + address[at:]
}
