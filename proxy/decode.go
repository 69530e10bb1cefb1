package proxy

import "bytes"

// bareMode says what becomes of a CR or LF that stands alone in a body.
type bareMode uint8

const (
	bareNormalize bareMode = iota // LF becomes CRLF, CR a blank; counted
	bareReject                    // the same, and Bare is set: the caller refuses the message at its end
)

// decodeState is where in a line the decoder stands.
type decodeState uint8

const (
	atStart decodeState = iota // of a line
	atDot                      // behind a dot that began a line; the dot is not written
	atDotCR                    // behind such a dot and a CR
	inText                     // inside a line
	atCR                       // behind a CR, which is not written yet
)

// decoder is the one place that decides what the octets behind DATA are: bare
// CR, bare LF, CR CR LF, dot-stuffing, the length of lines, and the end.
//
// Only CR LF "." CR LF ends a message (RFC 5321 4.1.1.4); the CR LF of the DATA
// line counts as the first one. A line that ended in a bare LF and then "."
// CR LF is no end, nor is "." LF or "." CR CR LF: taking those for the end is
// what SMTP smuggling lives on (CVE-2023-51764). In every mode what comes out
// has no CR or LF but CRLF.
//
// The zero decoder normalises and has no limit. A decoder serves one message.
type decoder struct {
	mode    bareMode
	maxLine int // octets of a line without CRLF; 0: any

	EOL      int  // stray CRs and LFs so far
	Bare     bool // reject mode: there was one
	Doubtful bool // the end stood behind a stray CR (CR CR LF . CR LF): answer, then close, as others may see no end here
	TooLong  bool // a line was longer than maxLine

	state  decodeState
	nocrlf bool // the line before this one ended in a bare LF
	stray  bool // atCR: the octet before the CR was a stray CR; else: the same of the end of the line before
	length int  // octets of this line so far
}

func newDecoder(mode bareMode, maxLine int) *decoder {
	return &decoder{mode: mode, maxLine: maxLine}
}

var (
	crlf  = []byte("\r\n")
	blank = []byte(" ")
)

// Next decodes a span and hands what comes out to emit, in pieces that are
// valid during the call only. It returns how many octets of the span it used:
// all of them, or those up to the end of the message, and then end is true. An
// error is emit's.
func (d *decoder) Next(span []byte, emit func([]byte) error) (used int, end bool, err error) {
	from, p := 0, 0 // span[from:p] goes out as it is
	for p < len(span) {
		if d.state == inText || d.state == atStart && span[p] != '.' {
			if p += d.text(span[p:]); p == len(span) {
				break
			}
		}
		put, took, end := d.step(span[p])
		if put == nil && !took {
			continue // only the state is another
		}
		if err := flush(span[from:p], emit); err != nil {
			return p, false, err
		}
		if put != nil {
			if err := emit(put); err != nil {
				return p, false, err
			}
		}
		if took {
			p++
		}
		if from = p; end {
			return p, true, nil
		}
	}
	return p, false, flush(span[from:p], emit)
}

func flush(b []byte, emit func([]byte) error) error {
	if len(b) == 0 {
		return nil
	}
	return emit(b)
}

// text passes what needs no thought: it returns how many octets of b go out as
// they are. It stops before a stray CR or LF, a CR whose LF is not here yet,
// and a line that begins with a dot.
func (d *decoder) text(b []byte) int {
	p := 0
	for p < len(b) {
		if d.state == atStart && b[p] == '.' {
			return p
		}
		i := bytes.IndexByte(b[p:], '\n')
		line := b[p:]
		if i >= 0 {
			line = b[p : p+i]
		}
		cr := bytes.IndexByte(line, '\r')
		if i > 0 && cr == i-1 {
			d.grow(cr)
			d.newLine(false, false)
			p += i + 1
			continue
		}
		n := len(line)
		if cr >= 0 {
			n = cr
		}
		d.state = inText
		d.grow(n)
		return p + n
	}
	return p
}

// step decides about one octet: what goes out in its place, whether it is used
// up, and whether the message ends here.
func (d *decoder) step(c byte) (put []byte, took, end bool) {
	switch d.state {
	case atStart: // c is a dot
		d.state = atDot
		return nil, true, false
	case atDot:
		if c == '\r' {
			d.state = atDotCR
			return nil, true, false
		}
		d.state = inText // RFC 5321 4.5.2: the dot was stuffed
		return nil, false, false
	case atDotCR:
		if c == '\n' && !d.nocrlf {
			d.Doubtful = d.stray
			return nil, true, true
		}
		d.state, d.stray = atCR, false
		return nil, false, false
	case atCR:
		if c == '\n' {
			d.newLine(false, d.stray)
			return crlf, true, false
		}
		d.odd()
		d.grow(1)
		if c == '\r' {
			d.stray = true
			return blank, true, false
		}
		d.state = inText
		return blank, false, false
	}
	if c == '\r' {
		d.state, d.stray = atCR, false
		return nil, true, false
	}
	d.odd() // c is a bare LF
	d.newLine(true, false)
	return crlf, true, false
}

// newLine begins a line. bare: the one before ended in a bare LF; stray: in
// CR CR LF.
func (d *decoder) newLine(bare, stray bool) {
	d.state, d.nocrlf, d.stray, d.length = atStart, bare, stray, 0
}

func (d *decoder) grow(n int) {
	d.length += n
	if d.maxLine > 0 && d.length > d.maxLine {
		d.TooLong = true
	}
}

func (d *decoder) odd() {
	d.EOL++
	d.Bare = d.Bare || d.mode == bareReject
}
