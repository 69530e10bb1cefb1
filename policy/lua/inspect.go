package lua

import (
	"fmt"

	glua "github.com/yuin/gopher-lua"
)

// maxUpvalues is where gopher-lua's count of them, one octet, would overflow.
const maxUpvalues = 250

// inspect looks over compiled code. It makes tables cheap to begin with: "{}" gets a small map with its first string
// key instead of one for 32 keys (2.8 KB), and refuses what the compiler lets overflow.
func inspect(p *glua.FunctionProto) error {
	if len(p.DbgUpvalues) > maxUpvalues {
		return fmt.Errorf("%s:%d: this function uses more than %d locals of the functions around it", p.SourceName, p.LineDefined, maxUpvalues)
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
