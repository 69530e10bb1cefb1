package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/moongate/moongate/internal/admin"
	"github.com/spf13/cobra"
)

func reloadCommand(o *options) *cobra.Command {
	var acceptLists bool
	cmd := &cobra.Command{
		Use:   "reload",
		Short: "Have the running moongate read configuration and policy anew",
		Long: `Ask the moongate that serves [admin] address to read configuration and policy
anew, as SIGHUP does: all or nothing. What is wrong is printed, one problem a
line, as file:line:col; what ran then goes on.
--accept-lists also takes the lists that were held back, and prints each: their
file is gone or cannot be read, which makes them empty, or it became empty or
lost more than half of its entries.
Exit code 78 if it was refused or there is no [admin] address, 69 if no
moongate answers.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return reload(cmd.Context(), *o, acceptLists, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().BoolVar(&acceptLists, "accept-lists", false, "take lists that were held back as they stand")
	return cmd
}

// reload asks the process at the address of the configuration, and passes on
// what it says. The process reads the file itself: what is wrong elsewhere in
// it is for that one to tell.
func reload(ctx context.Context, o options, acceptLists bool, stdout, stderr io.Writer) error {
	cfg, problems := o.load()
	if cfg == nil {
		show(stderr, problems)
		return failed(exitConfig)
	}
	address := cfg.Admin.Address
	network, addr := address.Split()
	switch {
	case address == "":
		show(stderr, problems) // it may be one of them
		return fail(exitConfig, "%s has no [admin] address at which to ask; SIGHUP reloads without an answer", o.config)
	case network == "tcp" && strings.HasSuffix(addr, ":0"):
		return fail(exitConfig, "[admin] address = %q is another port at every start; name one", address)
	}
	outcome, err := admin.AskReload(ctx, network, addr, acceptLists)
	switch {
	case errors.Is(err, admin.ErrNobody):
		return fail(exitUnavailable, "no moongate answers at %s; is it running with [admin] address = %q? (a new address needs a restart)", address, address)
	case err != nil:
		return fail(exitUnavailable, "ask %s: %w", address, err)
	}
	out := stdout
	if !outcome.Taken {
		out = stderr
	}
	for _, line := range outcome.Lines {
		fmt.Fprintln(out, line)
	}
	if !outcome.Taken {
		return fail(exitConfig, "the reload was refused; what ran goes on")
	}
	return nil
}
