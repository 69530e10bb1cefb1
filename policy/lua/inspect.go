package lua

import (
	"fmt"

	glua "github.com/yuin/gopher-lua"
)

const (
	// maxUpvalues is where gopher-lua's count of them, one octet, would overflow.
	maxUpvalues = 250
	// maxCode is how far a jump reaches.
	maxCode = 131_000
)

// codeError is what inspect refuses.
type codeError struct {
	line int
	text string
}

func (e *codeError) Error() string { return fmt.Sprintf("line %d: %s", e.line, e.text) }

// inspect looks over compiled code. It makes tables cheap to begin with: "{}" gets a small map with its first string
// key instead of one for 32 keys (2.8 KB), and refuses what the compiler lets overflow.
func inspect(p *glua.FunctionProto) error {
	if len(p.DbgUpvalues) > maxUpvalues {
		return &codeError{p.LineDefined, fmt.Sprintf("this function uses more than %d locals of the functions around it", maxUpvalues)}
	}
	if len(p.Code) > maxCode {
		return &codeError{p.LineDefined, "this function is too long"}
	}
	for pc, inst := range p.Code {
		if int(inst>>26) == glua.OP_NEWTABLE && inst&0x3ffff == 0 {
			p.Code[pc] = inst | 1<<9 // C, the size of the hash part
		}
	}
	for _, f := range p.FunctionPrototypes {
		if err := inspect(f); err != nil {
			return err
		}
	}
	return nil
}
