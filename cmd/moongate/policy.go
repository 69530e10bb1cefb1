package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/moongate/moongate/configs"
	"github.com/moongate/moongate/internal/watch"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/lua"
	"github.com/moongate/moongate/policy/script"
	"go.uber.org/zap"
)

// scriptOptions are what a policy is loaded for: every front-end that will ask it.
func scriptOptions(cfg *configs.Config, log *zap.Logger) script.Options {
	var faces []*policy.Face
	if len(cfg.Listeners) > 0 || cfg.Milter.Address == "" {
		faces = append(faces, policy.SMTP)
	}
	if cfg.Milter.Address != "" {
		faces = append(faces, policy.Milter)
	}
	return script.Options{
		Filters: filterNames(cfg),
		Faces:   faces, Unknown: unknown(cfg), NotAsked: notAsked(cfg), Longest: longest(cfg),
		NoDrawer:   len(cfg.Listeners) > 0 && cfg.Quarantine.Path == "",
		Log:        log.Named("policy"),
		AllowEmpty: cfg.Policy.AllowEmpty, AllowShrink: cfg.Policy.AllowShrink,
		DelayReject: cfg.Policy.DelayReject, MaxStates: cfg.Policy.MaxStates,
		Budget: lua.Budget{Instructions: int64(cfg.Policy.Instructions), Bytes: int64(cfg.Policy.Memory)},
	}
}

// filterNames are the names by which a rule leaves a filter out.
func filterNames(cfg *configs.Config) []string {
	names := make([]string, len(cfg.Filters))
	for i, f := range cfg.Filters {
		names[i] = cmp.Or(f.Name, string(f.Address))
	}
	return names
}

// snapshot reads the policy directory. Without one, which allow_empty must
// permit, there is nothing to read and nothing wrong with that.
func snapshot(cfg *configs.Config) watch.Snapshot {
	if cfg.Policy.Scripts == "" {
		return watch.Snapshot{Dir: "(no policy.scripts)"}
	}
	return watch.Read(cfg.Policy.Scripts, script.Select())
}

// checkScripts says why the policy directory of a configuration cannot be read.
func checkScripts(cfg *configs.Config) []configs.Problem {
	dir := cfg.Policy.Scripts
	if dir == "" {
		return nil
	}
	_, err := os.ReadDir(dir)
	var pe *fs.PathError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &pe):
		err = pe.Err
	}
	return []configs.Problem{cfg.Problem("policy.scripts", "`policy.scripts`: the directory %s cannot be read: %v", dir, err)}
}

// watchPolicy keeps the engine at what the directory says until ctx is done.
func watchPolicy(ctx context.Context, cfg *configs.Config, engine *script.Engine, log *zap.Logger) {
	ripen := time.NewTicker(10 * time.Second) // lists that shrank and are to be believed after a while
	defer ripen.Stop()
	if dir := cfg.Policy.Scripts; dir != "" {
		w := watch.New([]string{dir}, watch.Options{
			Select: script.Select(),
			Warn:   func(err error) { log.Warn("watching the policy", zap.Error(err)) },
		}, func(s watch.Snapshot) { engine.Reload(s) }) // it logs what it finds
		ended := make(chan struct{})
		go func() { defer close(ended); w.Run(ctx) }()
		defer func() { <-ended }()
	}
	for {
		select {
		case <-ctx.Done():
			return
		case <-ripen.C:
			engine.RipenLists()
		}
	}
}

// placed is a problem with the path of its file: the engine knows files by
// their names within the directory.
func placed(p lua.Problem, dir string) lua.Problem {
	if p.File != dir && !filepath.IsAbs(p.File) {
		p.File = filepath.Join(dir, p.File)
	}
	return p
}

// policyError is a policy that cannot be taken.
type policyError struct {
	problems []lua.Problem
	dir      string
}

func (e *policyError) Error() string {
	return fmt.Sprintf("the policy in %s has %d problems", e.dir, len(e.problems))
}
