package main

import (
	"os"

	"github.com/moongate/moongate/configs"
	"github.com/spf13/cobra"
)

// options are the flags that several subcommands share.
type options struct {
	config string // -c
}

// usual is where the configuration lies if nobody says otherwise.
const usual = "/etc/moongate/moongate.toml"

// load reads the configuration. That the usual one is not there is most often met
// by somebody who has another.
func (o options) load() (*configs.Config, []configs.Problem) {
	cfg, problems := configs.Load(o.config)
	if _, err := os.Stat(o.config); cfg == nil && o.config == usual && os.IsNotExist(err) {
		problems[0].Text += "; -c FILE names another"
	}
	return cfg, problems
}

func rootCommand() *cobra.Command {
	var o options
	root := &cobra.Command{
		Use:           "moongate",
		Short:         "A programmable front door for mail: Lua policy before any MTA",
		SilenceErrors: true, // exitCode tells them
		SilenceUsage:  true,
	}
	root.PersistentFlags().StringVarP(&o.config, "config", "c", usual, "configuration file")
	root.CompletionOptions.HiddenDefaultCmd = true
	root.AddCommand(serveCommand(&o), checkCommand(&o), reloadCommand(&o), demoCommand(), sinkCommand(), versionCommand())
	return root
}

func serveCommand(o *options) *cobra.Command {
	return &cobra.Command{
		Use:   "serve",
		Short: "Serve mail",
		Long: `Serve mail by the configuration file. The log goes to standard error.

SIGHUP    read configuration and policy anew: all or nothing; moongate reload
          does the same and prints what came of it
SIGTERM   stop accepting, let open transactions end (timeouts.drain), exit 0;
          a second one closes all at once
Exit codes: 78 the configuration or policy is wrong, 69 cannot listen.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serve(cmd.Context(), *o, cmd.ErrOrStderr())
		},
	}
}
