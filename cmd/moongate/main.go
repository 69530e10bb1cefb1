// Command moongate is a programmable front door for mail.
//
// main.go tells how it starts and ends; wire.go makes the rooms out of the
// configuration; each subcommand has a file of its own.
package main

import (
	"context"
	"os"

	"github.com/spf13/cobra"
)

func main() {
	root := rootCommand()
	os.Exit(exitCode(os.Stderr, root.ExecuteContext(context.Background())))
}

// options are the flags that several subcommands share.
type options struct {
	config string // -c
	policy string // --policy
}

func rootCommand() *cobra.Command {
	var o options
	root := &cobra.Command{
		Use:           "moongate",
		Short:         "A programmable front door for mail: Lua policy before any MTA",
		SilenceErrors: true, // exitCode tells them
		SilenceUsage:  true,
	}
	root.PersistentFlags().StringVarP(&o.config, "config", "c", "/etc/moongate/moongate.toml", "configuration file")
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(sinkCommand(), versionCommand())
	return root
}
