package wire

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
)

func TestReaderRefuses(t *testing.T) {
	giant := binary.BigEndian.AppendUint32(nil, MaxFrame+1)
	for _, tc := range []struct {
		name string
		in   []byte
		want error
	}{
		{"four zero octets", []byte{0, 0, 0, 0}, ErrEmptyFrame},
		{"4 GB", []byte{0xff, 0xff, 0xff, 0xff, 'B'}, ErrFrameSize},
		{"one more than 1 MiB", giant, ErrFrameSize},
		{"end between frames", nil, io.EOF},
		{"end inside the length", []byte{0, 0}, io.ErrUnexpectedEOF},
		{"end before the code", []byte{0, 0, 0, 1}, io.ErrUnexpectedEOF},
		{"end inside the data", []byte{0, 0, 0, 9, 'B', 'x'}, io.ErrUnexpectedEOF},
	} {
		if _, err := NewReader(bytes.NewReader(tc.in)).Next(); !errors.Is(err, tc.want) {
			t.Errorf("%s: got %v, want %v", tc.name, err, tc.want)
		}
	}
}

// The largest frame is read whole, an octet at a time too, and its memory does
// not stay with the connection.
func TestReaderSizes(t *testing.T) {
	var stream []byte
	sizes := []int{0, 1, 65535, MaxFrame - 1, 3}
	for i, n := range sizes {
		var err error
		if stream, err = (Frame{'B', bytes.Repeat([]byte{byte(i)}, n)}).Append(stream); err != nil {
			t.Fatal(err)
		}
	}
	r := NewReader(iotest.HalfReader(bytes.NewReader(stream)))
	for i, n := range sizes {
		f, err := r.Next()
		if err != nil || f.Code != 'B' || len(f.Data) != n || n > 0 && f.Data[n-1] != byte(i) {
			t.Fatalf("frame %d of %d octets: got %c, %d octets, %v", i, n, f.Code, len(f.Data), err)
		}
	}
	if cap(r.buf) > 2*step {
		t.Errorf("the reader keeps %d octets after a giant frame", cap(r.buf))
	}
	if _, err := (Frame{'B', make([]byte, MaxFrame)}).Append(nil); !errors.Is(err, ErrFrameSize) {
		t.Errorf("a frame that no peer reads was made: %v", err)
	}
}

// A length that promises much and sends little costs little.
func TestReaderPromise(t *testing.T) {
	in := append(binary.BigEndian.AppendUint32(nil, MaxFrame), "B only this"...)
	r := NewReader(bytes.NewReader(in))
	if _, err := r.Next(); err != io.ErrUnexpectedEOF {
		t.Fatal(err)
	}
	if cap(r.buf) > 2*step {
		t.Errorf("%d octets allocated for a frame that never came", cap(r.buf))
	}
}

func FuzzReader(f *testing.F) {
	f.Add([]byte{0, 0, 0, 1, 'Q'})
	f.Add([]byte{0, 0, 0, 0})
	f.Add([]byte{0, 0, 0, 3, 'H', 'x', 0, 0, 0, 0, 1, 'N'})
	f.Fuzz(func(t *testing.T, in []byte) {
		r := NewReader(bytes.NewReader(in))
		var out []byte
		for {
			fr, err := r.Next()
			if err != nil {
				break
			}
			if out, err = fr.Append(out); err != nil {
				t.Fatalf("a frame that was read cannot be written: %v", err)
			}
		}
		if !bytes.HasPrefix(in, out) {
			t.Errorf("read and written again: %s", cmp.Diff(in[:min(len(in), len(out))], out))
		}
	})
}
