package script

import (
	"fmt"
	"slices"

	glua "github.com/yuin/gopher-lua"

	"github.com/moongate/moongate/policy/lua"
)

// Zone is a DNS list that a policy declares, and where it does so first.
type Zone struct {
	Name, File string
	Line       int
}

// declareZones notes the zones of the policy while it is loaded.
func (x *state) declareZones(L *glua.LState, d *dnsList) {
	if !x.loading.first {
		return
	}
	file, line := at(L)
	for _, z := range d.zones {
		if !slices.ContainsFunc(x.p.zones, func(have Zone) bool { return have.Name == z.name }) {
			x.p.zones = append(x.p.zones, Zone{z.name, file, line})
		}
	}
}

// Zones are the DNS lists that the policy declares.
func (p *Policy) Zones() []Zone { return p.zones }

func (p *Policy) zoneNames() []string {
	names := make([]string, len(p.zones))
	for i, z := range p.zones {
		names[i] = z.Name
	}
	return names
}

// Warn is a warning about a zone at its line.
func (p *Policy) Warn(z Zone, format string, args ...any) lua.Problem {
	problem := lua.Problem{File: z.File, Line: z.Line, Text: fmt.Sprintf(format, args...)}
	if c := (&loading{p: p}).find(z.File); c != nil {
		problem = c.At(z.Line, "dnsbl", 0, "%s", problem.Text)
	}
	problem.Warning = true
	return problem
}
