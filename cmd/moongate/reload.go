package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/moongate/moongate/configs"
	"github.com/moongate/moongate/internal/admin"
	"github.com/moongate/moongate/internal/quarantine"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/lua"
	"github.com/moongate/moongate/policy/script"
	"go.uber.org/zap"
)

// request is a reload that somebody waits for. Reloads happen one at a time, in
// the goroutine that answers signals.
type request struct {
	acceptLists bool
	done        chan answer // has room for it: the asker may have gone
}

// answer is what came of a request, or why it was not heard.
type answer struct {
	admin.Outcome
	err error
}

var errDraining = errors.New("draining: it does not serve mail any more")

// askReload has the house reloaded by the goroutine that may.
func (h *house) askReload(ctx context.Context, acceptLists bool) (admin.Outcome, error) {
	r := request{acceptLists, make(chan answer, 1)}
	select {
	case h.asked <- r:
	case <-ctx.Done():
		return admin.Outcome{}, ctx.Err()
	}
	select {
	case a := <-r.done:
		return a.Outcome, a.err
	case <-ctx.Done():
		return admin.Outcome{}, ctx.Err()
	}
}

// reload takes over the configuration as the file has it now: all of it, or
// nothing. What goes wrong is logged, one line a problem, and what runs goes
// on running. The outcome tells the same to who asked.
func (h *house) reload(path string, acceptLists bool) admin.Outcome {
	var o admin.Outcome
	refuse := func(problem, source string) {
		h.log.Error("reload refused", zap.String("problem", problem), zap.String("line", source))
		o.Lines = append(o.Lines, problem)
	}
	if !h.take(path, refuse, func(warning string) { o.Lines = append(o.Lines, warning) }) {
		h.reloads.refused()
		return o
	}
	if acceptLists {
		o.Lines = append(o.Lines, h.acceptLists()...)
	}
	o.Lines = append(o.Lines, h.heldLists()...)
	o.Lines = append(o.Lines, h.tellFiles()...)
	for _, text := range h.reopen() {
		o.Lines = append(o.Lines, "warning: "+text)
	}
	h.reloads.taken()
	version := h.engine.Policy().Rules.Version
	h.log.Info("reloaded", zap.String("config", path), zap.String("policy", version))
	o.Taken = true
	o.Lines = append(o.Lines, fmt.Sprintf("reloaded %s, policy %s", path, version))
	return o
}

// take is reload without its telling: refuse is called with each problem and
// its source line; then nothing has changed.
func (h *house) take(path string, refuse func(problem, source string), warn func(string)) bool {
	running := h.cfg.Load()
	next, problems := configs.Load(path)
	if len(problems) == 0 {
		problems = append(running.NeedsRestart(next), checkScripts(next)...)
	}
	for _, p := range problems {
		refuse(p.Error(), p.Source)
	}
	if len(problems) > 0 {
		return false
	}
	keeper, problems := drawer(next)
	for _, p := range problems {
		refuse(p.Error(), p.Source)
	}
	if len(problems) > 0 {
		return false
	}
	found, ok := h.takePolicy(running, next)
	for _, p := range found {
		p = placed(p, next.Policy.Scripts)
		switch {
		case p.Note:
		case p.Warning:
			warn("warning: " + p.Error())
		case !ok:
			refuse(p.Error(), p.Source)
		}
	}
	if !ok {
		return false
	}
	h.keeper = keeper
	h.use(next)
	return true
}

// takePolicy gives the engine the policy that a configuration names, and what
// [policy] says of it. Another
// directory is tried beside the engine first: lists follow the files that it is
// shown, and those of a directory that is then refused are not meant.
func (h *house) takePolicy(running, next *configs.Config) ([]lua.Problem, bool) {
	snap := snapshot(next)
	if running.Policy.Scripts != next.Policy.Scripts {
		if p, problems := script.Load(snap, scriptOptions(next, h.log)); p == nil {
			return problems, false
		}
	}
	problems, err := h.engine.Use(snap, scriptOptions(next, h.log))
	return problems, err == nil
}

// drawer is where a configuration keeps what is quarantined; nil: nowhere.
func drawer(cfg *configs.Config) (policy.Keeper, []configs.Problem) {
	if cfg.Quarantine.Path == "" {
		return nil, nil
	}
	d, err := quarantine.Open(cfg.Quarantine.Path)
	if err != nil {
		return nil, []configs.Problem{cfg.Problem("quarantine.path", "`quarantine.path`: %v", err)}
	}
	return d, nil
}

// checkDrawer tells, without making anything, of a drawer that cannot be made.
func checkDrawer(cfg *configs.Config) []configs.Problem {
	for path := cfg.Quarantine.Path; path != ""; path = filepath.Dir(path) {
		info, err := os.Stat(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err == nil && !info.IsDir():
			err = fmt.Errorf("%s is no directory", path)
		case err == nil:
			return nil
		}
		return []configs.Problem{cfg.Problem("quarantine.path", "`quarantine.path`: %v", err)}
	}
	return nil
}

// acceptLists takes the lists that were held back, and tells of each.
func (h *house) acceptLists() (lines []string) {
	for _, l := range h.engine.AcceptLists() {
		lines = append(lines, fmt.Sprintf("list %s: %s, before %d (%s)", l.File, entries(l.Entries), l.Before, l.Why))
	}
	if len(lines) == 0 {
		lines = []string{"no list was held back"}
	}
	return lines
}

// heldLists tells of the lists that are not what their files say.
func (h *house) heldLists() (lines []string) {
	for _, l := range h.engine.HeldLists() {
		line := fmt.Sprintf("warning: list %s stays at %s: %s", l.File, entries(l.Before), l.Why)
		if !l.Wrong {
			line += fmt.Sprintf("; --accept-lists makes it %d", l.Entries)
		}
		lines = append(lines, line)
	}
	return lines
}

// entries is a number of them.
func entries(n int) string {
	if n == 1 {
		return "1 entry"
	}
	return fmt.Sprintf("%d entries", n)
}

// use puts a configuration to work whose every part is there already: it
// cannot fail. Sessions that run keep what they began with.
func (h *house) use(next *configs.Config) {
	running := h.cfg.Load()
	for _, f := range h.fronts {
		if hop := f.use(h, running, next); hop != nil {
			h.probe(hop)
		}
	}
	h.milter.Use(h.env(next, policy.Milter))
	h.milter.Admit(crowdOf(next, openFiles()).mtas)
	h.out.Level.SetLevel(level(next))
	if !slices.Equal(running.DNS.Servers, next.DNS.Servers) {
		h.world.Use(next.DNS.Servers)
	}
	h.cfg.Store(next)
	if running.Policy.Scripts != next.Policy.Scripts {
		h.watch()
	}
}

// upstreamChanged reports whether connections made by the one configuration
// are wrong for the other.
func upstreamChanged(a, b *configs.Config) bool {
	return a.Upstream != b.Upstream || a.Hostname != b.Hostname || a.Timeouts != b.Timeouts
}
