package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/moongate/moongate/configs"
	"github.com/moongate/moongate/internal/sink"
	"github.com/spf13/cobra"
)

func sinkCommand() *cobra.Command {
	var address, dir string
	cmd := &cobra.Command{
		Use:   "sink",
		Short: "Run an upstream that stores every message into a Maildir",
		Long: `Run an SMTP server that takes every message and stores it into a Maildir:
something to forward to where there is no MTA yet. It prints a line for each
message, and ends on SIGINT or SIGTERM.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(cmd.Context(), os.Interrupt, syscall.SIGTERM)
			defer stop()
			maildir, err := sink.OpenMaildir(dir)
			if err != nil {
				return fail(exitIO, "%w", err)
			}
			l, err := listen(configs.Address(address))
			if err != nil {
				return fail(exitUnavailable, "%w", err)
			}
			out := cmd.OutOrStdout()
			s := &sink.Server{Maildir: maildir, OnStored: func(m sink.Stored) {
				fmt.Fprintf(out, "%s: from=<%s> to=%q size=%d\n", m.Name, m.From, m.To, m.Size)
			}}
			fmt.Fprintf(out, "sink listens on %s, stores into %s\n", l.Addr(), dir)
			return runSink(ctx, s, l)
		},
	}
	cmd.Flags().StringVar(&address, "listen", "127.0.0.1:10025", "address to listen on: host:port or unix:/path")
	cmd.Flags().StringVar(&dir, "maildir", "maildir", "directory to store into")
	return cmd
}

// sinkGrace is how long sessions of a sink may go on when it is told to end.
const sinkGrace = time.Second

func runSink(ctx context.Context, s *sink.Server, l net.Listener) error {
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	select {
	case err := <-served:
		return fail(exitUnavailable, "%w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), sinkGrace)
	defer cancel()
	if err := s.Shutdown(grace); err != nil && !errors.Is(err, net.ErrClosed) {
		return fail(exitSoftware, "%w", err)
	}
	return nil
}
