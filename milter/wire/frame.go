package wire

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// MaxFrame is the largest frame that is read or written, in octets, the
// command included and the length prefix not. Postfix and Sendmail send body
// chunks of 65535 unless another size was negotiated, so a larger frame than
// this is an attack or a lost frame boundary.
const MaxFrame = 1 << 20

// step is how much is read at a time: a length prefix that promises 1 MiB must
// not cost 1 MiB before the octets have come.
const step = 64 << 10

// Errors of framing. After any of them the boundary of the next frame is not
// known, so the connection cannot go on.
var (
	ErrEmptyFrame = errors.New("milter: frame of zero length")
	ErrFrameSize  = errors.New("milter: frame larger than 1 MiB")
	ErrMalformed  = errors.New("milter: malformed packet")
)

// A Frame is one packet: a command octet and its data.
type Frame struct {
	Code byte
	Data []byte
}

// A Reader reads frames. It never reads beyond the frame asked for by more
// than its buffer, and is used by one goroutine.
type Reader struct {
	r   *bufio.Reader
	buf []byte
}

// NewReader makes a Reader of r.
func NewReader(r io.Reader) *Reader { return &Reader{r: bufio.NewReaderSize(r, 4096)} }

// Reset makes it a Reader of r, as new but for its memory.
func (r *Reader) Reset(from io.Reader) {
	r.r.Reset(from)
	if cap(r.buf) > step {
		r.buf = nil
	}
}

// Buffered is the number of octets that have been read from the connection but
// belong to frames not asked for yet.
func (r *Reader) Buffered() int { return r.r.Buffered() }

// Next reads one frame. Its data is valid until the next call. io.EOF is
// returned only between frames; inside one it is io.ErrUnexpectedEOF.
func (r *Reader) Next() (Frame, error) {
	var head [4]byte
	if _, err := io.ReadFull(r.r, head[:]); err != nil {
		return Frame{}, err
	}
	size := binary.BigEndian.Uint32(head[:])
	switch {
	case size == 0:
		return Frame{}, ErrEmptyFrame
	case size > MaxFrame:
		return Frame{}, fmt.Errorf("%w (%d octets)", ErrFrameSize, size)
	}
	if cap(r.buf) > 2*step {
		r.buf = nil // one giant frame does not keep its memory for the rest of the session
	}
	r.buf = r.buf[:0]
	for left := int(size); left > 0; {
		n := min(left, step)
		have := len(r.buf)
		if cap(r.buf)-have < n {
			r.buf = append(r.buf, make([]byte, n)...)
		}
		r.buf = r.buf[:have+n]
		if _, err := io.ReadFull(r.r, r.buf[have:]); err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return Frame{}, err
		}
		left -= n
	}
	return Frame{Code: r.buf[0], Data: r.buf[1:]}, nil
}

// Append appends f to dst as it goes over the wire. It fails with ErrFrameSize
// if the peer could not read it.
func (f Frame) Append(dst []byte) ([]byte, error) {
	size := len(f.Data) + 1
	if size > MaxFrame {
		return dst, fmt.Errorf("%w (%d octets)", ErrFrameSize, size)
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(size))
	dst = append(dst, f.Code)
	return append(dst, f.Data...), nil
}
