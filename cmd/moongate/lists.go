package main

import (
	"context"
	"time"

	"github.com/moongate/moongate/configs"
	"github.com/moongate/moongate/internal/lookup"
	"github.com/moongate/moongate/policy/lua"
	"github.com/moongate/moongate/policy/script"
)

// checkZonesTime is how long check waits for DNS lists in all.
const checkZonesTime = 2500 * time.Millisecond

// checkZones asks the DNS lists of a policy for their test points: a warning
// for each that would be switched off. The policy is none the worse for it.
func checkZones(ctx context.Context, cfg *configs.Config, p *script.Policy) (problems []lua.Problem) {
	if len(p.Zones()) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, checkZonesTime)
	defer cancel()
	world := lookup.New(lookup.Options{Servers: addresses(cfg.DNS.Servers)})
	defer world.Close()
	var names []string
	for _, z := range p.Zones() {
		names = append(names, z.Name)
	}
	faults := world.CheckZones(ctx, names)
	for _, z := range p.Zones() {
		if why := faults[z.Name]; why != "" {
			problems = append(problems, p.Warn(z, "the list %s is not usable now: %s", z.Name, why))
		}
	}
	return problems
}
