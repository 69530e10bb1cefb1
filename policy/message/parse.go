package message

import (
	"bytes"
)

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
