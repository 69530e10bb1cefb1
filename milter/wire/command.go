package wire

import (
	"encoding/binary"
	"fmt"

	"github.com/emersion/go-milter"
)

// A Command is what an MTA says to a filter.
type Command interface {
	// Frame is the command as a packet. It fails where a string holds a NUL.
	Frame() (Frame, error)
}

type (
	// Options is the opening of a connection, from both sides.
	Options struct {
		Version  uint32
		Actions  milter.OptAction
		Protocol milter.OptProtocol
		Symbols  []Symbols // the filter's wish, only with milter.OptSetSymList
	}
	// Symbols names the macros that a filter wants with a stage, blanks between.
	Symbols struct {
		Stage milter.Stage
		Names string
	}
	// Macros are values the MTA gives for use at the command that follows.
	// Names are as sent: one letter bare, longer ones in braces.
	Macros struct {
		For   milter.Code
		Pairs []string // name, value, name, value
	}
	// Connect says who the client is. Host is his name or "[address]"; Addr
	// is as sent (Sendmail writes "IPv6:" before one) or the path of a socket.
	Connect struct {
		Host   string
		Family milter.ProtoFamily
		Port   uint16
		Addr   string
	}
	// Helo is the client's name for itself.
	Helo struct{ Name string }
	// Mail is the sender, in its brackets as the client wrote it, and the
	// ESMTP arguments.
	Mail struct {
		From string
		Args []string
	}
	// Rcpt is one recipient, as Mail.
	Rcpt struct {
		To   string
		Args []string
	}
	// Header is one field. Folds are LF and blanks; whether Value begins with
	// the blank behind the colon was negotiated.
	Header struct{ Name, Value string }
	// Body is a piece of the body, lines ending in CRLF. It belongs to the
	// frame it was decoded from.
	Body struct{ Chunk []byte }
	// End is the end of the message. A last piece of the body may come with it.
	End struct{ Chunk []byte }
	// Unknown is a command line that the MTA does not know.
	Unknown struct{ Line string }
	// Signal is a command that says nothing more than its code: DATA, end of
	// header, abort, quit, and quit for a new connection.
	Signal struct{ Code milter.Code }
)

// Decode reads a command that an MTA sent. A code that no MTA sends, and data
// that is not what the code promises, are ErrMalformed.
func Decode(f Frame) (Command, error) {
	c, err := decode(f)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func decode(f Frame) (Command, error) {
	switch code := milter.Code(f.Code); code {
	case milter.CodeOptNeg:
		return decodeOptions(f.Data)
	case milter.CodeMacro:
		return decodeMacros(f.Data)
	case milter.CodeConn:
		return decodeConnect(f.Data)
	case milter.CodeHelo:
		s, err := oneString(f.Data)
		return Helo{s}, err
	case CodeUnknown:
		s, err := oneString(f.Data)
		return Unknown{s}, err
	case milter.CodeMail:
		addr, args, err := decodeEnvelope(f.Data)
		return Mail{addr, args}, err
	case milter.CodeRcpt:
		addr, args, err := decodeEnvelope(f.Data)
		return Rcpt{addr, args}, err
	case milter.CodeHeader:
		ss, err := splitStrings(f.Data)
		if err != nil {
			return nil, err
		}
		if len(ss) != 2 {
			return nil, fmt.Errorf("%w: header of %d strings", ErrMalformed, len(ss))
		}
		return Header{ss[0], ss[1]}, nil
	case milter.CodeBody:
		return Body{f.Data}, nil
	case milter.CodeEOB:
		return End{f.Data}, nil
	case milter.CodeData, milter.CodeEOH, milter.CodeAbort, milter.CodeQuit, milter.CodeQuitNewConn:
		return Signal{code}, nil
	}
	return nil, fmt.Errorf("%w: unknown command 0x%02x", ErrMalformed, f.Code)
}

func decodeOptions(data []byte) (Options, error) {
	if len(data) < 12 {
		return Options{}, fmt.Errorf("%w: negotiation of %d octets", ErrMalformed, len(data))
	}
	o := Options{
		Version:  binary.BigEndian.Uint32(data),
		Actions:  milter.OptAction(binary.BigEndian.Uint32(data[4:])),
		Protocol: milter.OptProtocol(binary.BigEndian.Uint32(data[8:])),
	}
	for data = data[12:]; len(data) > 0; {
		if len(data) < 5 {
			return Options{}, fmt.Errorf("%w: macro list of %d octets", ErrMalformed, len(data))
		}
		stage := milter.Stage(binary.BigEndian.Uint32(data))
		names, rest, err := cutString(data[4:])
		if err != nil {
			return Options{}, err
		}
		o.Symbols, data = append(o.Symbols, Symbols{stage, names}), rest
	}
	return o, nil
}

// maxEnvelope bounds MAIL and RCPT, which are kept until the message ends: an
// MTA takes lines of 2048 octets. maxMacros bounds what is said for one stage.
const (
	maxEnvelope = 16 << 10
	maxMacros   = 64 << 10
)

func decodeMacros(data []byte) (Macros, error) {
	if len(data) == 0 {
		return Macros{}, fmt.Errorf("%w: macros without a command", ErrMalformed)
	}
	if len(data) > maxMacros {
		return Macros{}, fmt.Errorf("%w: macros of %d octets", ErrMalformed, len(data))
	}
	pairs, err := splitStrings(data[1:])
	if err == nil && len(pairs)%2 != 0 {
		err = fmt.Errorf("%w: macro without a value", ErrMalformed)
	}
	return Macros{milter.Code(data[0]), pairs}, err
}

func decodeConnect(data []byte) (Connect, error) {
	host, rest, err := cutString(data)
	if err != nil {
		return Connect{}, err
	}
	if len(rest) == 0 {
		return Connect{}, fmt.Errorf("%w: connect without a family", ErrMalformed)
	}
	c := Connect{Host: host, Family: milter.ProtoFamily(rest[0])}
	rest = rest[1:]
	switch c.Family {
	case milter.FamilyUnknown:
		return c, nil // nothing behind it matters
	case milter.FamilyInet, milter.FamilyInet6, milter.FamilyUnix:
		// libmilter, Postfix and Sendmail have the port with all three.
		if len(rest) < 2 {
			return Connect{}, fmt.Errorf("%w: connect without a port", ErrMalformed)
		}
		c.Port = binary.BigEndian.Uint16(rest)
		c.Addr, err = oneString(rest[2:])
		return c, err
	}
	return Connect{}, fmt.Errorf("%w: address family 0x%02x", ErrMalformed, byte(c.Family))
}

func decodeEnvelope(data []byte) (string, []string, error) {
	if len(data) > maxEnvelope {
		return "", nil, fmt.Errorf("%w: address of %d octets", ErrMalformed, len(data))
	}
	ss, err := splitStrings(data)
	if err != nil {
		return "", nil, err
	}
	if len(ss) == 0 {
		return "", nil, fmt.Errorf("%w: no address", ErrMalformed)
	}
	if len(ss) == 1 {
		return ss[0], nil, nil
	}
	return ss[0], ss[1:], nil
}

// Frame implements Command.
func (o Options) Frame() (Frame, error) {
	var b builder
	b.data = binary.BigEndian.AppendUint32(b.data, o.Version)
	b.data = binary.BigEndian.AppendUint32(b.data, uint32(o.Actions))
	b.data = binary.BigEndian.AppendUint32(b.data, uint32(o.Protocol))
	for _, s := range o.Symbols {
		b.data = binary.BigEndian.AppendUint32(b.data, uint32(s.Stage))
		b.str(s.Names)
	}
	return b.frame(byte(milter.CodeOptNeg))
}

// Frame implements Command.
func (m Macros) Frame() (Frame, error) {
	b := builder{data: []byte{byte(m.For)}}
	b.str(m.Pairs...)
	return b.frame(byte(milter.CodeMacro))
}

// Frame implements Command.
func (c Connect) Frame() (Frame, error) {
	var b builder
	b.str(c.Host)
	b.data = append(b.data, byte(c.Family))
	if c.Family != milter.FamilyUnknown {
		b.data = binary.BigEndian.AppendUint16(b.data, c.Port)
		b.str(c.Addr)
	}
	return b.frame(byte(milter.CodeConn))
}

// Frame implements Command.
func (h Helo) Frame() (Frame, error) { return stringFrame(byte(milter.CodeHelo), h.Name) }

// Frame implements Command.
func (u Unknown) Frame() (Frame, error) { return stringFrame(byte(CodeUnknown), u.Line) }

// Frame implements Command.
func (m Mail) Frame() (Frame, error) {
	return stringFrame(byte(milter.CodeMail), append([]string{m.From}, m.Args...)...)
}

// Frame implements Command.
func (r Rcpt) Frame() (Frame, error) {
	return stringFrame(byte(milter.CodeRcpt), append([]string{r.To}, r.Args...)...)
}

// Frame implements Command.
func (h Header) Frame() (Frame, error) {
	return stringFrame(byte(milter.CodeHeader), h.Name, h.Value)
}

// Frame implements Command.
func (p Body) Frame() (Frame, error) { return Frame{byte(milter.CodeBody), p.Chunk}, nil }

// Frame implements Command.
func (e End) Frame() (Frame, error) { return Frame{byte(milter.CodeEOB), e.Chunk}, nil }

// Frame implements Command.
func (s Signal) Frame() (Frame, error) { return Frame{Code: byte(s.Code)}, nil }

func stringFrame(code byte, ss ...string) (Frame, error) {
	var b builder
	b.str(ss...)
	return b.frame(code)
}
