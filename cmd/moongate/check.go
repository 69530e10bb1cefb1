package main

import (
	"context"
	"fmt"
	"io"
	"strconv"

	"github.com/moongate/moongate/configs"
	"github.com/moongate/moongate/policy"
	"github.com/moongate/moongate/policy/lua"
	"github.com/moongate/moongate/policy/script"
	"github.com/spf13/cobra"
	"go.uber.org/zap"
)

func checkCommand(o *options) *cobra.Command {
	var dir string
	var relay bool
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Check configuration and policy, and list the rules",
		Long: `Read the configuration and the policy it names, print every mistake as
file:line:col with its line, then the rules of each hook in the order in which
they are asked. Nothing is served. DNS lists that fail their test points are a
warning. --policy checks a policy directory alone, and asks nobody.
--relay also offers foreign recipients as a stranger would, through the guard
and the upstream, and fails if one is taken; no message is sent.
Exit code 78 if there is a mistake, 69 if the upstream gave no verdict.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := check(cmd.Context(), *o, dir, cmd.OutOrStdout(), cmd.ErrOrStderr())
			if err == nil && relay {
				err = checkRelay(cmd.Context(), cfg, cmd.OutOrStdout())
			}
			return err
		},
	}
	cmd.Flags().StringVar(&dir, "policy", "", "policy directory to check, without a configuration")
	cmd.Flags().BoolVar(&relay, "relay", false, "offer foreign recipients through the upstream")
	cmd.MarkFlagsMutuallyExclusive("policy", "relay")
	return cmd
}

// check returns the configuration if nothing is wrong.
func check(ctx context.Context, o options, dir string, stdout, stderr io.Writer) (*configs.Config, error) {
	cfg, problems := configs.Default(), []configs.Problem(nil)
	if dir != "" {
		cfg.Policy.Scripts = dir
	} else if cfg, problems = o.load(); cfg == nil {
		show(stderr, problems)
		return nil, failed(exitConfig)
	}
	if dir == "" && len(problems) == 0 {
		found, warnings := checkPlaces(cfg)
		problems = append(found, checkDrawer(cfg)...)
		for _, w := range cfg.Warnings() {
			w.Text = "warning: " + w.Text
			warnings = append(warnings, w)
		}
		show(stderr, append(warnings, checkFiles(cfg)...))
	}
	var unread []configs.Problem
	if dir == "" {
		unread = checkScripts(cfg)
	}
	problems = append(problems, unread...)
	show(stderr, problems)
	bad := len(problems) > 0

	if cfg.Policy.Scripts != "" && len(unread) == 0 {
		opts := scriptOptions(cfg, zap.NewNop())
		if dir != "" {
			opts.Filters = nil // there are those of a configuration that is not looked at
		}
		p, found := script.Load(snapshot(cfg), opts)
		showPolicy(stderr, found, cfg.Policy.Scripts)
		if p == nil {
			return nil, failed(exitConfig)
		}
		if dir == "" { // a directory alone is checked without asking anybody
			showPolicy(stderr, checkZones(ctx, cfg, p), cfg.Policy.Scripts)
		}
		listRules(stdout, p.Rules)
	}
	if bad {
		return nil, failed(exitConfig)
	}
	return cfg, nil
}

// showPolicy prints what the loader found, warnings too.
func showPolicy(w io.Writer, problems []lua.Problem, dir string) {
	for _, p := range problems {
		p = placed(p, dir)
		switch {
		case p.Note:
			p.Text = "note: " + p.Text
		case p.Warning:
			p.Text = "warning: " + p.Text
		}
		fmt.Fprintln(w, p.Render())
	}
}

// listRules prints each hook that has rules, and its rules in order: where,
// what it is called, what happens if it fails.
func listRules(w io.Writer, rules *policy.Rules) {
	fmt.Fprintf(w, "policy version %s\n", rules.Version)
	place, name := 0, 0
	for _, r := range rules.All() {
		place, name = max(place, len(r.Place())), max(name, len(title(r)))
	}
	last := ""
	for _, r := range rules.All() {
		if hook := stage(r.Hook); hook != last {
			fmt.Fprintln(w, hook)
			last = hook
		}
		fmt.Fprintf(w, "  %-*s  %-*s  on_error=%s", place, r.Place(), name, title(r), r.OnError)
		if r.At != r.Hook {
			fmt.Fprintf(w, " at=%s", stage(r.At))
		}
		if r.Timeout != 0 {
			fmt.Fprintf(w, " timeout=%s", r.Timeout)
		}
		if r.Shadow {
			fmt.Fprint(w, " mode=shadow")
		}
		fmt.Fprintln(w)
	}
}

// title is the name that the author gave a rule, in quotes.
func title(r *policy.Rule) string {
	if r.Name == r.Place() {
		return ""
	}
	return strconv.Quote(r.Name)
}

// stage is a hook as a policy author writes it.
func stage(h policy.Hook) string {
	if h == policy.Done {
		return "log"
	}
	return h.String()
}
