package main

import (
	"fmt"
	"slices"
	"time"

	"github.com/moongate/moongate/configs"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/script"
)

// What the faces cannot do with this configuration, beyond their tables: the
// policy is told when it is loaded (docs/faces.md).

// forwarded reports whether all mail of the SMTP door comes from a Postfix that
// speaks for its clients.
func forwarded(cfg *configs.Config) bool {
	return len(cfg.Listeners) > 0 && !slices.ContainsFunc(cfg.Listeners, func(l configs.Listener) bool { return len(l.XForward) == 0 })
}

// unknown are the facts that no listener of the configuration can have. As a
// milter we have them from the MTA.
func unknown(cfg *configs.Config) map[string]string {
	if len(cfg.Listeners) == 0 {
		return nil
	}
	facts := map[string]string{"conn.user": "AUTH", "conn.tls": "TLS"}
	for name, what := range facts {
		where, why, but := "here", what+" is not supported yet at a listener", ""
		if cfg.Milter.Address != "" {
			where, why, but = "at a listener", what+" is not supported yet there", ", and only an MTA at [milter] tells it"
		}
		if forwarded(cfg) {
			why = "every listener has xforward, which does not tell it"
		}
		facts[name] = where + ": " + why + but
	}
	return facts
}

// notAsked are the hooks at which nobody asks: a Postfix that speaks for its
// clients answers such commands itself.
func notAsked(cfg *configs.Config) map[policy.Hook]string {
	if !forwarded(cfg) || cfg.Milter.Address != "" {
		return nil
	}
	const why = "every listener has xforward, and the Postfix in front answers such commands"
	return map[policy.Hook]string{policy.Unknown: why, policy.Vrfy: why}
}

// longest is what a rule may take where it has least time for it. A rule's
// timeout is checked by itself against a stage that nobody else needs.
func longest(cfg *configs.Config) (times [policy.NumAsked]script.Longest) {
	least := func(h policy.Hook, t time.Duration, why string) {
		if times[h].Time == 0 || t < times[h].Time {
			times[h] = script.Longest{Time: t.Round(100 * time.Millisecond), Why: why}
		}
	}
	signs := slices.ContainsFunc(cfg.Filters, func(f configs.Filter) bool { return f.Phase == "sign" })
	for i, l := range cfg.Listeners {
		most, why := within(l, policy.MessageStage), fmt.Sprintf("at `listener[%d]` with its budget of %s", i, l.Wait())
		switch {
		case signs:
			least(policy.Message, policy.ShareOf(most), "as a [[filter]] with phase = \"sign\" comes behind it"+map[bool]string{true: " " + why}[most < policy.MessageStage])
		case most < policy.MessageStage:
			least(policy.Message, most, why)
		}
		for h := range policy.Hook(policy.NumAsked) {
			if len(cfg.Filters) > 0 && h != policy.Message {
				least(h, policy.ShareOf(policy.Stage), "as a [[filter]] is asked behind it")
			}
		}
	}
	return times
}
